/* Faults of a disk and of a clock, below whatever program this is preloaded into.
 *
 * Calls that write or sync files below the directory MQ9_SHIM_DIRECTORY fail, fall short or find no space as the control file says,
 * MQ9_SHIM_CONTROL, which is mapped and may be changed at any time; the system's clock is shown with an offset. shim.py has the same
 * layout. All else goes to the C library untouched.
 *
 * With `lose`, a sync that fails takes back what was written to the file since the last sync that did not. Linux does that: after an
 * error the pages count as clean, and what was in them may be gone although the next sync says that all is well.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { JOURNAL = 1, TABLES = 2, OTHER = 4 };
enum { UNDONE_MAX = 65536 };

struct control {
    int64_t clock_offset_ns;
    int64_t files;          /* which of JOURNAL, TABLES, OTHER */
    int64_t write_errno;    /* write, pwrite, writev, pwritev */
    int64_t sync_errno;     /* fsync, fdatasync */
    int64_t space_errno;    /* fallocate, and ftruncate to more */
    int64_t open_errno;     /* open that may create */
    int64_t short_bytes;    /* a write takes no more than so many; 0: all */
    int64_t lose;
    int64_t hold;           /* a sync waits for as long as this is set */
    int64_t times;          /* how many calls still fail; below 0: all */
    /* How many calls there were, and how many of them failed, by kind of file. */
    int64_t writes[3], syncs[3], spaces[3], opens[3], failed[3];
};

static struct control none, *control = &none;
static char directory[PATH_MAX];
static size_t directory_size;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct undo { int file; off_t offset; size_t size; char *data; };
static struct undo undone[UNDONE_MAX];
static size_t undone_count;

#define REAL(name) ((__typeof__(&name))real(&real_##name, #name))
#define KEEP(name) static void *real_##name

static void *real(void **kept, const char *name)
{
    if (*kept == NULL)
        *kept = dlsym(RTLD_NEXT, name);
    return *kept;
}

KEEP(open); KEEP(open64); KEEP(openat); KEEP(openat64);
KEEP(write); KEEP(pwrite); KEEP(pwrite64); KEEP(writev); KEEP(pwritev); KEEP(pwritev64);
KEEP(fsync); KEEP(fdatasync); KEEP(close);
KEEP(ftruncate); KEEP(ftruncate64); KEEP(fallocate); KEEP(fallocate64); KEEP(posix_fallocate); KEEP(posix_fallocate64);
KEEP(clock_gettime);

__attribute__((constructor)) static void begin(void)
{
    const char *below = getenv("MQ9_SHIM_DIRECTORY"), *path = getenv("MQ9_SHIM_CONTROL");
    int file;
    if (below == NULL || path == NULL || realpath(below, directory) == NULL)
        return;
    directory_size = strlen(directory);
    file = REAL(open)(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return;
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (control == MAP_FAILED)
        abort();
    REAL(close)(file);
}

/* 0 for what is not below the directory, else JOURNAL, TABLES or OTHER. */
static int kind_of_path(const char *path)
{
    size_t size = strlen(path);
    if (directory_size == 0 || strncmp(path, directory, directory_size) != 0)
        return 0;
    if (size > 8 && strcmp(path + size - 8, ".segment") == 0)
        return JOURNAL;
    return strstr(path + directory_size, "data.mdb") != NULL ? TABLES : OTHER;
}

static int kind_of_file(int file)
{
    char link[64], path[PATH_MAX];
    ssize_t size;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    size = readlink(link, path, sizeof path - 1);
    errno = before;
    if (size < 0)
        return 0;
    path[size] = 0;
    return kind_of_path(path);
}

static int at(int kind)
{
    return kind == JOURNAL ? 0 : kind == TABLES ? 1 : 2;
}

/* Whether this call on a file of this kind is one that fails with *wanted. */
static int fails(int kind, const int64_t *wanted)
{
    int64_t left;
    if (*wanted == 0 || !(control->files & kind))
        return 0;
    left = __atomic_load_n(&control->times, __ATOMIC_SEQ_CST);
    if (left == 0 || (left > 0 && __atomic_fetch_sub(&control->times, 1, __ATOMIC_SEQ_CST) <= 0))
        return 0;
    __atomic_fetch_add(&control->failed[at(kind)], 1, __ATOMIC_SEQ_CST);
    return 1;
}

static void count(int64_t *calls, int kind)
{
    __atomic_fetch_add(&calls[at(kind)], 1, __ATOMIC_SEQ_CST);
}

/* what may have to be taken back */

static void remember(int file, off_t offset, size_t size)
{
    struct undo *undo;
    ssize_t had;
    if (!control->lose || size == 0)
        return;
    pthread_mutex_lock(&lock);
    if (undone_count == UNDONE_MAX)
        abort();
    undo = &undone[undone_count++];
    undo->file = file;
    undo->offset = offset;
    undo->size = size;
    undo->data = calloc(1, size);
    had = pread(file, undo->data, size, offset);
    (void)had;
    pthread_mutex_unlock(&lock);
}

static void synced(int file, int lost)
{
    size_t at_, kept = 0;
    pthread_mutex_lock(&lock);
    for (at_ = undone_count; lost && at_ > 0; at_--) {
        struct undo *undo = &undone[at_ - 1];
        if (undo->file == file && REAL(pwrite)(file, undo->data, undo->size, undo->offset) < 0)
            abort();
    }
    for (at_ = 0; at_ < undone_count; at_++) {
        if (undone[at_].file == file)
            free(undone[at_].data);
        else
            undone[kept++] = undone[at_];
    }
    undone_count = kept;
    pthread_mutex_unlock(&lock);
}

int close(int file)
{
    if (undone_count)
        synced(file, 0);
    return REAL(close)(file);
}

/* writing */

/* How many of `size` bytes a write may take; 0: it fails with errno. */
static size_t allowed(int kind, size_t size)
{
    if (fails(kind, &control->write_errno)) {
        errno = (int)control->write_errno;
        return 0;
    }
    if (control->short_bytes > 0 && (control->files & kind) && (size_t)control->short_bytes < size) {
        __atomic_fetch_add(&control->failed[at(kind)], 1, __ATOMIC_SEQ_CST);
        return (size_t)control->short_bytes;
    }
    return size;
}

static size_t total(const struct iovec *parts, int number)
{
    size_t size = 0;
    for (int part = 0; part < number; part++)
        size += parts[part].iov_len;
    return size;
}

ssize_t write(int file, const void *data, size_t size)
{
    int kind = kind_of_file(file);
    if (kind && size) {
        count(control->writes, kind);
        if ((size = allowed(kind, size)) == 0)
            return -1;
    }
    return REAL(write)(file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int number)
{
    int kind = kind_of_file(file);
    if (kind) {
        size_t size = total(parts, number), may;
        count(control->writes, kind);
        if ((may = allowed(kind, size)) == 0 && size)
            return -1;
        if (may < size)
            return REAL(write)(file, parts[0].iov_base, may < parts[0].iov_len ? may : parts[0].iov_len);
    }
    return REAL(writev)(file, parts, number);
}

#define PWRITE(name)                                                                                      \
    ssize_t name(int file, const void *data, size_t size, off_t offset)                                   \
    {                                                                                                     \
        int kind = kind_of_file(file);                                                                    \
        if (kind && size) {                                                                               \
            count(control->writes, kind);                                                                 \
            if ((size = allowed(kind, size)) == 0)                                                        \
                return -1;                                                                                \
            remember(file, offset, size);                                                                 \
        }                                                                                                 \
        return REAL(name)(file, data, size, offset);                                                      \
    }

#define PWRITEV(name)                                                                                     \
    ssize_t name(int file, const struct iovec *parts, int number, off_t offset)                           \
    {                                                                                                     \
        int kind = kind_of_file(file);                                                                    \
        if (kind) {                                                                                       \
            size_t size = total(parts, number), may;                                                      \
            count(control->writes, kind);                                                                 \
            if ((may = allowed(kind, size)) == 0 && size)                                                 \
                return -1;                                                                                \
            if (may < size) {                                                                             \
                may = may < parts[0].iov_len ? may : parts[0].iov_len;                                    \
                remember(file, offset, may);                                                              \
                return REAL(pwrite)(file, parts[0].iov_base, may, offset);                                \
            }                                                                                             \
            remember(file, offset, size);                                                                 \
        }                                                                                                 \
        return REAL(name)(file, parts, number, offset);                                                   \
    }

PWRITE(pwrite)
PWRITE(pwrite64)
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define SYNC(name)                                                                                        \
    int name(int file)                                                                                    \
    {                                                                                                     \
        int kind = kind_of_file(file);                                                                    \
        if (kind) {                                                                                       \
            count(control->syncs, kind);                                                                  \
            while (control->hold && (control->files & kind))                                              \
                usleep(1000);                                                                             \
            if (fails(kind, &control->sync_errno)) {                                                      \
                synced(file, 1);                                                                          \
                errno = (int)control->sync_errno;                                                         \
                return -1;                                                                                \
            }                                                                                             \
            synced(file, 0);                                                                              \
        }                                                                                                 \
        return REAL(name)(file);                                                                          \
    }

SYNC(fsync)
SYNC(fdatasync)

/* space */

static int no_space(int file)
{
    int kind = kind_of_file(file);
    if (!kind)
        return 0;
    count(control->spaces, kind);
    return fails(kind, &control->space_errno) ? (int)control->space_errno : 0;
}

#define FALLOCATE(name)                                                                                   \
    int name(int file, int mode, off_t offset, off_t size)                                                \
    {                                                                                                     \
        int error = no_space(file);                                                                       \
        if (error) {                                                                                      \
            errno = error;                                                                                \
            return -1;                                                                                    \
        }                                                                                                 \
        return REAL(name)(file, mode, offset, size);                                                      \
    }

#define POSIX_FALLOCATE(name)                                                                             \
    int name(int file, off_t offset, off_t size)                                                          \
    {                                                                                                     \
        int error = no_space(file);                                                                       \
        return error ? error : REAL(name)(file, offset, size);                                            \
    }

#define FTRUNCATE(name)                                                                                   \
    int name(int file, off_t size)                                                                        \
    {                                                                                                     \
        struct stat is;                                                                                   \
        int error = fstat(file, &is) == 0 && size > is.st_size ? no_space(file) : 0;                      \
        if (error) {                                                                                      \
            errno = error;                                                                                \
            return -1;                                                                                    \
        }                                                                                                 \
        return REAL(name)(file, size);                                                                    \
    }

FALLOCATE(fallocate)
FALLOCATE(fallocate64)
POSIX_FALLOCATE(posix_fallocate)
POSIX_FALLOCATE(posix_fallocate64)
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

/* opening */

static int may_not_open(int where, const char *path, int flags)
{
    char full[PATH_MAX];
    int kind;
    if (!(flags & O_CREAT) || directory_size == 0)
        return 0;
    (void)where;
    kind = kind_of_path(path[0] == '/' || realpath(path, full) == NULL ? path : full);
    if (!kind)
        return 0;
    count(control->opens, kind);
    if (!fails(kind, &control->open_errno))
        return 0;
    errno = (int)control->open_errno;
    return 1;
}

static mode_t mode_of(int flags, va_list more)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

#define OPEN(name)                                                                                        \
    int name(const char *path, int flags, ...)                                                            \
    {                                                                                                     \
        va_list more;                                                                                     \
        mode_t mode;                                                                                      \
        va_start(more, flags);                                                                            \
        mode = mode_of(flags, more);                                                                      \
        va_end(more);                                                                                     \
        return may_not_open(AT_FDCWD, path, flags) ? -1 : REAL(name)(path, flags, mode);                  \
    }

#define OPENAT(name)                                                                                      \
    int name(int where, const char *path, int flags, ...)                                                 \
    {                                                                                                     \
        va_list more;                                                                                     \
        mode_t mode;                                                                                      \
        va_start(more, flags);                                                                            \
        mode = mode_of(flags, more);                                                                      \
        va_end(more);                                                                                     \
        return may_not_open(where, path, flags) ? -1 : REAL(name)(where, path, flags, mode);              \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* the system's clock */

int clock_gettime(clockid_t which, struct timespec *now)
{
    int failed = REAL(clock_gettime)(which, now);
    if (failed == 0 && control->clock_offset_ns && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) {
        int64_t ns = now->tv_sec * INT64_C(1000000000) + now->tv_nsec + control->clock_offset_ns;
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return failed;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec is;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &is);
    now->tv_sec = is.tv_sec;
    now->tv_usec = is.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *told)
{
    struct timespec is;
    clock_gettime(CLOCK_REALTIME, &is);
    if (told != NULL)
        *told = is.tv_sec;
    return is.tv_sec;
}
