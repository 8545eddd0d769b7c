// SPDX-License-Identifier: Apache-2.0
/*
 * nbdkit plugin: a disk with a volatile write cache, that loses power on command.
 *
 *   file=PATH      what is on the medium (raw; its size is the disk's)
 *   control=PATH   Unix socket for commands, one a line, each answered by one line
 *
 * What is written stays in memory until a flush, or goes to the medium at once with FUA. Commands:
 *
 *   cut drop SEED   power fails: nothing of the cache survives
 *   cut tear SEED   power fails: each unflushed sector survives or not, by a seeded coin
 *   arm write N PID    power will fail at the Nth write from now: that one does not arrive, and the
 *   arm flush N PID    process, QEMU, is killed before anything is answered; likewise a flush
 *   refuse AT BYTES N  writes there fail from now on, all but the next N (0 0 0: none do)
 *   stats           counts since the start
 *
 * A cut waits for the end of all connections (the guest is gone), so that no request that was on
 * its way lands afterwards. A cache of more than max_cached blocks goes to the medium by itself,
 * as that of any disk may at any time.
 */
#define NBDKIT_API_VERSION 2
#define _GNU_SOURCE
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS

enum { sector = 512, block_size = 4096, buckets = 1 << 16, max_cached = 65536, wait_seconds = 20 };

/* Unflushed sectors of one block. Without data they are zeroes (after a discard of gigabytes). */
struct entry {
    struct entry *next;
    uint64_t block;
    uint8_t mask; /* bit per sector that is newer here than on the medium */
    unsigned char *data;
};

static char *file_path, *control_path;
static int file_fd = -1, listener = -1;
static uint64_t file_size;
static pthread_t control_thread;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t closed = PTHREAD_COND_INITIALIZER;
static struct entry *table[buckets]; /* all below: under the lock */
static unsigned long cached, connections, writes, flushes, fua_writes, cuts;
static unsigned long armed_writes, armed_flushes; /* requests left until the power fails */
static pid_t armed_pid;
static uint64_t refused_at, refused_bytes; /* writes there fail, */
static unsigned long refused_after;         /* ... all but the next ones */

static struct entry **find(uint64_t block)
{
    struct entry **e = &table[(block * 0x9e3779b97f4a7c15ull) >> 48];

    while (*e && (*e)->block != block)
        e = &(*e)->next;
    return e;
}

static int medium_read(void *buf, size_t len, uint64_t at)
{
    while (len) {
        ssize_t n = pread(file_fd, buf, len, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0) { /* the last block may be a short one */
            memset(buf, 0, len);
            return 0;
        }
        buf = (char *)buf + n;
        len -= n;
        at += n;
    }
    return 0;
}

static int medium_write(const void *buf, size_t len, uint64_t at)
{
    while (len) {
        ssize_t n = pwrite(file_fd, buf, len, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        buf = (const char *)buf + n;
        len -= n;
        at += n;
    }
    return 0;
}

/* Sectors of an entry that `keep` names go to the medium. */
static int destage(const struct entry *e, uint8_t keep)
{
    static const unsigned char zeroes[sector];

    for (int s = 0; s < block_size / sector; s++) {
        uint64_t at = e->block * block_size + s * sector;
        size_t len = file_size - at < sector ? file_size - at : sector;

        if (!(e->mask & keep & (1u << s)) || at >= file_size)
            continue;
        if (medium_write(e->data ? e->data + s * sector : zeroes, len, at))
            return -1;
    }
    return 0;
}

static void forget(struct entry **where)
{
    struct entry *e = *where;

    *where = e->next;
    if (e->data)
        cached--;
    free(e->data);
    free(e);
}

static int destage_all(void)
{
    for (size_t i = 0; i < buckets; i++)
        while (table[i]) {
            if (destage(table[i], 0xff))
                return -1;
            forget(&table[i]);
        }
    return 0;
}

/* One block as the guest sees it. */
static int view(uint64_t block, unsigned char *buf)
{
    const struct entry *e = *find(block);

    if (medium_read(buf, block_size, block * block_size))
        return -1;
    for (int s = 0; e && s < block_size / sector; s++)
        if (e->mask & (1u << s)) {
            if (e->data)
                memcpy(buf + s * sector, e->data + s * sector, sector);
            else
                memset(buf + s * sector, 0, sector);
        }
    return 0;
}

/* Puts buf (zeroes if NULL) into the cache at an offset inside one block. */
static int put(uint64_t block, size_t offset, const unsigned char *buf, size_t len, int fua)
{
    struct entry **where = find(block), *e = *where;
    uint8_t touched = 0;
    unsigned char whole[block_size];

    for (size_t s = offset / sector; s <= (offset + len - 1) / sector; s++)
        touched |= 1u << s;
    if (!e) {
        e = calloc(1, sizeof(*e));
        if (!e)
            return -1;
        e->block = block;
        *where = e;
    }
    if (buf || e->data || len < block_size) {
        if (view(block, whole))
            return -1;
        if (!e->data) {
            e->data = malloc(block_size);
            if (!e->data)
                return -1;
            cached++;
        }
        memcpy(e->data, whole, block_size);
        if (buf)
            memcpy(e->data + offset, buf, len);
        else
            memset(e->data + offset, 0, len);
    }
    e->mask |= touched;
    if (fua) {
        if (destage(e, touched))
            return -1;
        e->mask &= ~touched;
        if (!e->mask)
            forget(where);
    }
    return 0;
}

/* Dead, though perhaps not yet waited for. */
static int is_dead(pid_t pid)
{
    char path[64], line[512] = "", state = 'Z';
    const char *after;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    f = fopen(path, "r");
    if (!f)
        return 1;
    if (fgets(line, sizeof(line), f) && (after = strrchr(line, ')')))
        sscanf(after + 1, " %c", &state);
    fclose(f);
    return state == 'Z' || state == 'X';
}

/* True when the power fails at this request. Under the lock. */
static int power_fails(unsigned long *left)
{
    if (!*left || --*left)
        return 0;
    armed_writes = armed_flushes = 0;
    kill(armed_pid, SIGKILL);
    while (!is_dead(armed_pid))
        usleep(1000);
    errno = EIO;
    return 1;
}

static int change(const unsigned char *buf, uint64_t len, uint64_t at, uint32_t flags)
{
    int fua = !!(flags & NBDKIT_FLAG_FUA), result = 0;

    pthread_mutex_lock(&lock);
    writes++;
    fua_writes += fua;
    if (power_fails(&armed_writes))
        result = -1;
    if (at < refused_at + refused_bytes && refused_at < at + len) {
        if (refused_after) {
            refused_after--;
        } else {
            errno = EIO;
            result = -1;
        }
    }
    while (len && !result) {
        size_t offset = at % block_size;
        size_t n = block_size - offset < len ? block_size - offset : len;

        result = put(at / block_size, offset, buf, n, fua);
        buf = buf ? buf + n : NULL;
        at += n;
        len -= n;
    }
    if (!result && cached > max_cached)
        result = destage_all();
    pthread_mutex_unlock(&lock);
    if (result)
        nbdkit_error("write: %m");
    return result;
}

static int powercut_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                           uint32_t flags)
{
    (void)handle;
    return change(buf, count, offset, flags);
}

static int powercut_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    return change(NULL, count, offset, flags);
}

static int powercut_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    unsigned char whole[block_size];
    int result = 0;

    (void)handle;
    (void)flags;
    pthread_mutex_lock(&lock);
    while (count && !result) {
        size_t skip = offset % block_size;
        size_t n = block_size - skip < count ? block_size - skip : count;

        result = view(offset / block_size, whole);
        memcpy(buf, whole + skip, n);
        buf = (char *)buf + n;
        offset += n;
        count -= n;
    }
    pthread_mutex_unlock(&lock);
    if (result)
        nbdkit_error("read: %m");
    return result;
}

static int powercut_flush(void *handle, uint32_t flags)
{
    int result;

    (void)handle;
    (void)flags;
    pthread_mutex_lock(&lock);
    flushes++;
    result = power_fails(&armed_flushes) ? -1 : destage_all();
    pthread_mutex_unlock(&lock);
    if (result)
        nbdkit_error("flush: %m");
    return result;
}

static uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* The coin of a block depends on seed and block alone: not on the order in the table. */
static int cut(int tear, uint64_t seed, char *answer, size_t room)
{
    unsigned long lost = 0, kept = 0;

    for (size_t i = 0; i < buckets; i++)
        while (table[i]) {
            struct entry *e = table[i];
            uint64_t state = seed ^ (e->block * 0xd1342543de82ef95ull);
            uint8_t keep = tear ? random_next(&state) & 0xff : 0;

            kept += __builtin_popcount(e->mask & keep);
            lost += __builtin_popcount(e->mask & ~keep & 0xff);
            if (destage(e, keep))
                return -1;
            forget(&table[i]);
        }
    cuts++;
    snprintf(answer, room, "ok lost=%lu kept=%lu\n", lost, kept);
    return 0;
}

static void wait_closed(void)
{
    struct timespec end;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += wait_seconds;
    while (connections && pthread_cond_timedwait(&closed, &lock, &end) == 0)
        continue;
}

static void command(const char *line, char *answer, size_t room)
{
    unsigned long long seed, at, bytes;
    unsigned long count;
    char how[8];
    int pid;

    pthread_mutex_lock(&lock);
    if (sscanf(line, "cut %7s %llu", how, &seed) == 2 &&
        (!strcmp(how, "drop") || !strcmp(how, "tear"))) {
        wait_closed();
        if (connections)
            snprintf(answer, room, "error a client is still connected\n");
        else if (cut(!strcmp(how, "tear"), seed, answer, room))
            snprintf(answer, room, "error %s\n", strerror(errno));
    } else if (sscanf(line, "arm %7s %lu %d", how, &count, &pid) == 3 &&
               (!strcmp(how, "write") || !strcmp(how, "flush"))) {
        armed_writes = strcmp(how, "write") ? 0 : count;
        armed_flushes = strcmp(how, "flush") ? 0 : count;
        armed_pid = pid;
        snprintf(answer, room, "ok\n");
    } else if (sscanf(line, "refuse %llu %llu %lu", &at, &bytes, &count) == 3) {
        refused_at = at;
        refused_bytes = bytes;
        refused_after = count;
        snprintf(answer, room, "ok\n");
    } else if (!strncmp(line, "stats", 5)) {
        unsigned long sectors = 0;

        for (size_t i = 0; i < buckets; i++)
            for (const struct entry *e = table[i]; e; e = e->next)
                sectors += __builtin_popcount(e->mask);
        snprintf(answer, room, "ok unflushed=%lu writes=%lu fua=%lu flushes=%lu cuts=%lu\n",
                 sectors, writes, fua_writes, flushes, cuts);
    } else {
        snprintf(answer, room, "error unknown command\n");
    }
    pthread_mutex_unlock(&lock);
}

static void *serve_control(void *unused)
{
    int fd;

    (void)unused;
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        char line[128], answer[192];
        FILE *f = fdopen(fd, "r");

        if (!f) {
            close(fd);
            continue;
        }
        while (fgets(line, sizeof(line), f)) {
            command(line, answer, sizeof(answer));
            if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
                break;
        }
        fclose(f);
    }
    return NULL;
}

static int powercut_config(const char *key, const char *value)
{
    char **where = !strcmp(key, "file") ? &file_path : !strcmp(key, "control") ? &control_path : NULL;

    if (!where) {
        nbdkit_error("unknown parameter '%s'", key);
        return -1;
    }
    free(*where);
    *where = nbdkit_absolute_path(value);
    return *where ? 0 : -1;
}

static int powercut_config_complete(void)
{
    if (file_path && control_path)
        return 0;
    nbdkit_error("file= and control= are needed");
    return -1;
}

static int powercut_get_ready(void)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct stat st;

    file_fd = open(file_path, O_RDWR | O_CLOEXEC);
    if (file_fd < 0 || fstat(file_fd, &st)) {
        nbdkit_error("%s: %m", file_path);
        return -1;
    }
    file_size = st.st_size;
    if (strlen(control_path) >= sizeof(a.sun_path)) {
        nbdkit_error("control socket path is too long");
        return -1;
    }
    strcpy(a.sun_path, control_path);
    unlink(control_path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof(a)) || listen(listener, 4)) {
        nbdkit_error("%s: %m", control_path);
        return -1;
    }
    return 0;
}

static int powercut_after_fork(void)
{
    if (pthread_create(&control_thread, NULL, serve_control, NULL)) {
        nbdkit_error("no thread for the control socket");
        return -1;
    }
    return 0;
}

/* Being asked to end is not a power cut: the cache is written. */
static void powercut_cleanup(void)
{
    if (listener < 0)
        return;
    shutdown(listener, SHUT_RDWR);
    pthread_join(control_thread, NULL);
    close(listener);
    unlink(control_path);
    destage_all();
    close(file_fd);
}

static void *powercut_open(int readonly)
{
    (void)readonly;
    pthread_mutex_lock(&lock);
    connections++;
    pthread_mutex_unlock(&lock);
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static void powercut_close(void *handle)
{
    (void)handle;
    pthread_mutex_lock(&lock);
    connections--;
    pthread_cond_broadcast(&closed);
    pthread_mutex_unlock(&lock);
}

static int64_t powercut_get_size(void *handle)
{
    (void)handle;
    return file_size;
}

static int yes(void *handle)
{
    (void)handle;
    return 1;
}

static int fua_native(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

static struct nbdkit_plugin plugin = {
    .name = "powercut",
    .longname = "disk whose volatile cache is lost on command",
    .version = "1",
    .config = powercut_config,
    .config_complete = powercut_config_complete,
    .config_help = "file=PATH     the medium\ncontrol=PATH  socket for commands",
    .get_ready = powercut_get_ready,
    .after_fork = powercut_after_fork,
    .cleanup = powercut_cleanup,
    .open = powercut_open,
    .close = powercut_close,
    .get_size = powercut_get_size,
    .can_write = yes,
    .can_flush = yes,
    .can_trim = yes,
    .can_zero = yes,
    .can_fua = fua_native,
    .can_multi_conn = yes,
    .pread = powercut_pread,
    .pwrite = powercut_pwrite,
    .flush = powercut_flush,
    .trim = powercut_zero,
    .zero = powercut_zero,
};

NBDKIT_REGISTER_PLUGIN(plugin)
