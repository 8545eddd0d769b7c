// SPDX-License-Identifier: Apache-2.0
/*
 * netswitch SOCKET: an Ethernet hub for QEMU's "-netdev stream" over a Unix socket. Every guest is
 * a client, so that any of them may be cut and started again. Ends when its standard input does.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { max_ports = 16, in_room = 256 * 1024, out_room = 4 * 1024 * 1024, out_high = 1024 * 1024 };

struct port {
    int fd;
    size_t in_len, out_len;
    char *in, *out;
};

static struct port ports[max_ports];

static void drop(struct port *p)
{
    close(p->fd);
    p->fd = -1;
    p->in_len = p->out_len = 0;
}

static void flush(struct port *p)
{
    ssize_t n = write(p->fd, p->out, p->out_len);

    if (n > 0) {
        memmove(p->out, p->out + n, p->out_len - n);
        p->out_len -= n;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        drop(p);
    }
}

/* A frame for a port that does not keep up (a stopped guest) is lost, as on a wire. */
static void forward(const struct port *from, const char *frame, size_t len)
{
    for (int i = 0; i < max_ports; i++) {
        struct port *p = &ports[i];

        if (p == from || p->fd < 0 || p->out_len + len > out_room)
            continue;
        memcpy(p->out + p->out_len, frame, len);
        p->out_len += len;
    }
}

static void take(struct port *p)
{
    ssize_t n = read(p->fd, p->in + p->in_len, in_room - p->in_len);
    size_t at = 0;

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        drop(p);
        return;
    }
    p->in_len += n > 0 ? n : 0;
    while (p->in_len - at >= 4) {
        uint32_t len;

        memcpy(&len, p->in + at, 4);
        len = ntohl(len) + 4;
        if (len > in_room) {
            drop(p);
            return;
        }
        if (p->in_len - at < len)
            break;
        forward(p, p->in + at, len);
        at += len;
    }
    memmove(p->in, p->in + at, p->in_len - at);
    p->in_len -= at;
}

static void add(int listener)
{
    int fd = accept(listener, NULL, NULL);

    if (fd < 0)
        return;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < max_ports; i++)
        if (ports[i].fd < 0) {
            ports[i].fd = fd;
            return;
        }
    close(fd);
}

static int listen_at(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    unlink(path);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, max_ports)) {
        perror(path);
        exit(1);
    }
    return fd;
}

static int congested(void)
{
    for (int i = 0; i < max_ports; i++)
        if (ports[i].fd >= 0 && ports[i].out_len > out_high)
            return 1;
    return 0;
}

/* While one port is behind, the others are read slowly rather than frames lost at once. */
static void turn(int listener)
{
    struct pollfd f[2 + max_ports] = { { .fd = 0, .events = POLLIN },
                                       { .fd = listener, .events = POLLIN } };
    int slow = congested();
    int ready;

    for (int i = 0; i < max_ports; i++) {
        f[2 + i].fd = ports[i].fd;
        f[2 + i].events = (slow ? 0 : POLLIN) | (ports[i].out_len ? POLLOUT : 0);
    }
    ready = poll(f, 2 + max_ports, slow ? 20 : -1);
    if (ready < 0)
        return;
    if (f[0].revents)
        exit(0);
    if (f[1].revents)
        add(listener);
    for (int i = 0; i < max_ports; i++) {
        int stuck = slow && ready == 0;

        if (f[2 + i].fd < 0)
            continue;
        if (f[2 + i].revents & POLLOUT)
            flush(&ports[i]);
        if (ports[i].fd >= 0 && ((f[2 + i].revents & (POLLIN | POLLHUP | POLLERR)) || stuck))
            take(&ports[i]);
    }
}

int main(int argc, char **argv)
{
    int listener;

    if (argc != 2) {
        fprintf(stderr, "usage: netswitch SOCKET\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < max_ports; i++) {
        ports[i].fd = -1;
        ports[i].in = malloc(in_room);
        ports[i].out = malloc(out_room);
        if (!ports[i].in || !ports[i].out)
            return 1;
    }
    listener = listen_at(argv[1]);
    printf("ready\n");
    fflush(stdout);
    for (;;)
        turn(listener);
}
