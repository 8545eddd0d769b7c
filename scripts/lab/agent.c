// SPDX-License-Identifier: Apache-2.0
/*
 * agent PORT [COMMAND]: runs shell commands for the host. PORT is the name of a virtio-serial port.
 *
 * From the host:   "R <id> <command bytes> <input bytes>\n" command input
 *                  "K <id> <signal>\n"           signal to the command's process group
 * To the host:     "H\n"                         first of all: the agent is there
 *                  "O <id> <bytes>\n" output     standard output and error, mixed
 *                  "X <id> <status>\n"           the end: exit status, or 128 + signal
 *
 * Commands run side by side. COMMAND, if given, is run at once under the id 0, so that a guest can
 * work without a byte from the host. Linked statically: the same binary serves every guest.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { max_jobs = 64, chunk = 32768 };

struct job {
    long id;
    pid_t pid; /* 0: free slot, or already reaped when out >= 0 */
    int used, in, out, status, reaped;
    char *input;
    size_t input_len, input_pos;
};

static struct job jobs[max_jobs];
static int port = -1;

static void die(const char *what)
{
    fprintf(stderr, "ebb agent: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void send_all(const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(port, data, len);

        if (n > 0) {
            data += n;
            len -= n;
        } else if (errno == EAGAIN) {
            struct pollfd p = { .fd = port, .events = POLLOUT };

            poll(&p, 1, 100);
        } else if (errno != EINTR) {
            die("writing to the host");
        }
    }
}

static void send_line(const char *format, long a, long b)
{
    char line[80];

    send_all(line, snprintf(line, sizeof(line), format, a, b));
}

/* The device node of the port with that name, without udev's help. */
static int open_port(const char *name)
{
    for (int tries = 0; tries < 600; tries++) {
        DIR *dir = opendir("/sys/class/virtio-ports");
        struct dirent *e;

        while (dir && (e = readdir(dir))) {
            char path[512], found[128] = "";
            FILE *f;

            snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", e->d_name);
            f = fopen(path, "r");
            if (!f)
                continue;
            if (fgets(found, sizeof(found), f))
                found[strcspn(found, "\n")] = 0;
            fclose(f);
            if (strcmp(found, name))
                continue;
            snprintf(path, sizeof(path), "/dev/%s", e->d_name);
            closedir(dir);
            return open(path, O_RDWR | O_CLOEXEC);
        }
        if (dir)
            closedir(dir);
        usleep(50000);
    }
    errno = ENOENT;
    return -1;
}

static void child(const char *command, int in, int out)
{
    sigset_t none;

    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

static void start(long id, const char *command, char *input, size_t input_len)
{
    struct job *j = NULL;
    int in[2], out[2];

    for (int i = 0; i < max_jobs && !j; i++)
        if (!jobs[i].used)
            j = &jobs[i];
    if (!j) {
        free(input);
        send_line("X %ld %ld\n", id, 126);
        return;
    }
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
        die("pipe");
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    *j = (struct job){ .id = id, .used = 1, .in = in[1], .out = out[0],
                       .input = input, .input_len = input_len };
    j->pid = fork();
    if (j->pid < 0)
        die("fork");
    if (!j->pid)
        child(command, in[0], out[1]);
    close(in[0]);
    close(out[1]);
}

static void feed(struct job *j)
{
    ssize_t n = 0;

    if (j->input_pos < j->input_len)
        n = write(j->in, j->input + j->input_pos, j->input_len - j->input_pos);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        j->input_pos += n;
    if (n < 0 || j->input_pos == j->input_len) {
        close(j->in);
        free(j->input);
        j->in = -1;
        j->input = NULL;
    }
}

/* A background process may keep the pipe: the command is over when the shell is. */
static void drain(struct job *j)
{
    static char buffer[chunk];
    ssize_t n = read(j->out, buffer, sizeof(buffer));

    if (n > 0) {
        send_line("O %ld %ld\n", j->id, n);
        send_all(buffer, n);
    } else if (n == 0 || errno != EINTR) {
        close(j->out);
        j->out = -1;
    }
}

static void finish(struct job *j)
{
    while (j->out >= 0) {
        struct pollfd p = { .fd = j->out, .events = POLLIN };

        if (poll(&p, 1, 0) <= 0)
            break;
        drain(j);
    }
    if (j->out >= 0)
        close(j->out);
    if (j->in >= 0)
        close(j->in);
    free(j->input);
    send_line("X %ld %ld\n", j->id, j->status);
    j->used = 0;
}

static void reap(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int i = 0; i < max_jobs; i++)
            if (jobs[i].used && jobs[i].pid == pid) {
                jobs[i].reaped = 1;
                jobs[i].status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            }
    for (int i = 0; i < max_jobs; i++)
        if (jobs[i].used && jobs[i].reaped)
            finish(&jobs[i]);
}

/* Takes whole requests off the front of the buffer; returns how many bytes were used. */
static size_t parse(const char *data, size_t len)
{
    size_t used = 0;

    for (;;) {
        const char *eol = memchr(data + used, '\n', len - used);
        long id, sig;
        size_t clen, ilen;
        char line[128];

        if (!eol || eol - (data + used) >= (long)sizeof(line))
            return used;
        memcpy(line, data + used, eol - (data + used));
        line[eol - (data + used)] = 0;
        if (sscanf(line, "R %ld %zu %zu", &id, &clen, &ilen) == 3) {
            char *command, *input;

            if (len - (eol + 1 - data) < clen + ilen)
                return used;
            command = strndup(eol + 1, clen);
            input = malloc(ilen + 1);
            memcpy(input, eol + 1 + clen, ilen);
            start(id, command, input, ilen);
            free(command);
            used = eol + 1 + clen + ilen - data;
            continue;
        }
        if (sscanf(line, "K %ld %ld", &id, &sig) == 2)
            for (int i = 0; i < max_jobs; i++)
                if (jobs[i].used && jobs[i].id == id && !jobs[i].reaped &&
                    kill(-jobs[i].pid, sig))
                    kill(jobs[i].pid, sig); /* it has no group of its own yet */
        used = eol + 1 - data;
    }
}

static void receive(void)
{
    static char *buffer;
    static size_t len, room;
    ssize_t n;
    size_t used;

    if (room - len < chunk) {
        room = room * 2 + chunk;
        buffer = realloc(buffer, room);
        if (!buffer)
            die("memory");
    }
    n = read(port, buffer + len, room - len);
    if (n == 0) {
        usleep(20000); /* nobody at the other end just now */
        return;
    }
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return;
        die("reading from the host");
    }
    len += n;
    used = parse(buffer, len);
    memmove(buffer, buffer + used, len - used);
    len -= used;
}

static int woken[2];

static void on_child(int sig)
{
    int saved = errno;

    (void)sig;
    if (write(woken[1], "", 1) < 0)
        errno = 0;
    errno = saved;
}

static void turn(void)
{
    struct pollfd p[2 + 2 * max_jobs] = {
        { .fd = port, .events = POLLIN }, { .fd = woken[0], .events = POLLIN } };
    char sink[64];

    for (int i = 0; i < max_jobs; i++) {
        p[2 + 2 * i] = (struct pollfd){ .fd = jobs[i].used ? jobs[i].out : -1, .events = POLLIN };
        p[3 + 2 * i] = (struct pollfd){ .fd = jobs[i].used ? jobs[i].in : -1, .events = POLLOUT };
    }
    if (poll(p, 2 + 2 * max_jobs, -1) < 0)
        return;
    for (int i = 0; i < max_jobs; i++) {
        if (p[2 + 2 * i].fd >= 0 && p[2 + 2 * i].revents)
            drain(&jobs[i]);
        if (p[3 + 2 * i].fd >= 0 && p[3 + 2 * i].revents)
            feed(&jobs[i]);
    }
    if (p[1].revents && read(woken[0], sink, sizeof(sink)) > 0)
        reap();
    if (p[0].revents)
        receive();
}

int main(int argc, char **argv)
{
    struct sigaction sa = { .sa_handler = on_child };

    if (argc < 2)
        return 2;
    port = open_port(argv[1]);
    if (port < 0)
        die(argv[1]);
    fcntl(port, F_SETFL, O_NONBLOCK);
    if (pipe2(woken, O_CLOEXEC | O_NONBLOCK))
        die("pipe");
    sigaction(SIGCHLD, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    send_all("H\n", 2);
    if (argc > 2)
        start(0, argv[2], calloc(1, 1), 0);
    for (;;)
        turn();
}
