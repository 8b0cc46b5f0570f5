/* SPDX-License-Identifier: MIT */
/*
 * A power cut for one process: a preload library that remembers, beside a directory tree, what of
 * it a disk would hold if the power went now. kill -9 alone does not test syncing, since the page
 * cache survives it; kill -9 and then putting back what was synced does.
 *
 *     LS_POWERCUT_DIRECTORY=<tree>  LS_POWERCUT_SHADOW=<empty or missing directory elsewhere>
 *     LD_PRELOAD=libpowercut.so program ...
 *     kill -9 <pid>; powercut_restore <shadow> <tree>       (powercut_restore.c)
 *
 * Rules, stricter than most file systems:
 * - bytes and length of a file become durable at fsync or fdatasync of it (or a write through
 *   O_SYNC / O_DSYNC); sync_file_range makes nothing durable;
 * - names, so creations, renames and removals, become durable at fsync of their directory; a file
 *   whose name is durable but whose bytes are not is empty after the cut;
 * - all that is in the tree when the program starts is durable.
 * The shadow is brought up to date before the sync returns to the program, so whatever the program
 * says after a sync is in it.
 *
 * Shadow: it appears when the state at the start is in it; without it nothing was changed yet, and
 * restoring leaves the tree as it is. f<n> holds the durable bytes of file n, d<n> the durable
 * names of directory n, one line "f <n> <name>" or "d <n> <name>" each; d0 is the tree itself.
 * Names must not contain newlines.
 *
 * One process with any number of threads may use a tree; without LS_POWERCUT_DIRECTORY the library
 * does nothing. Programs built with AddressSanitizer need ASAN_OPTIONS=verify_asan_link_order=0.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define BUCKETS 4096u

/* A file or directory of the tree, known by its inode while that lives. */
struct object {
    struct object *next;
    dev_t device;
    ino_t inode;
    uint64_t number; /* names it in the shadow */
    off_t low, high; /* bytes changed since its last sync: [low, high) */
    bool mapped;     /* may change behind our back */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct object *objects[BUCKETS];
static uint64_t next_number = 1; /* 0 is the tree */
static char tree[PATH_MAX];
static char shadow[PATH_MAX];
static volatile bool active;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) {
        abort();
    }
    return found;
}

/* raw calls, so that the shadow's own files never come back here */
static int raw_open(const char *path, int flags)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

static bool copy_range(int from, int to, off_t low, off_t high)
{
    static char buffer[1 << 16]; /* under the mutex */
    while (low < high) {
        size_t want = (size_t)(high - low) < sizeof buffer ? (size_t)(high - low) : sizeof buffer;
        ssize_t got = syscall(SYS_pread64, from, buffer, want, low);
        if (got <= 0) {
            return got == 0;
        }
        if (syscall(SYS_pwrite64, to, buffer, got, low) != got) {
            return false;
        }
        low += got;
    }
    return true;
}

static struct object *find(const struct stat *info)
{
    struct object *object = objects[info->st_ino % BUCKETS];
    while (object != NULL && (object->inode != info->st_ino || object->device != info->st_dev)) {
        object = object->next;
    }
    return object;
}

/* Knows the inode from now on; `fresh`: it was just created, whatever had its number before. */
static struct object *know(const struct stat *info, bool fresh)
{
    struct object *object = find(info);
    if (object == NULL) {
        object = calloc(1, sizeof *object);
        if (object == NULL) {
            abort();
        }
        object->device = info->st_dev;
        object->inode = info->st_ino;
        object->next = objects[info->st_ino % BUCKETS];
        objects[info->st_ino % BUCKETS] = object;
        fresh = true;
    }
    if (fresh) {
        object->number = next_number++;
        object->low = object->high = 0;
        object->mapped = false;
    }
    return object;
}

static void changed(struct object *object, off_t low, off_t high)
{
    if (object->low == object->high) {
        object->low = low;
        object->high = high;
    } else {
        object->low = low < object->low ? low : object->low;
        object->high = high > object->high ? high : object->high;
    }
}

/* Brings the shadow of a file up to its present bytes. */
static void save_file(int descriptor, struct object *object)
{
    char path[PATH_MAX + 32];
    struct stat info;
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    int from = raw_open(path, O_RDONLY);
    (void)snprintf(path, sizeof path, "%s/f%llu", shadow, (unsigned long long)object->number);
    int to = raw_open(path, O_RDWR | O_CREAT);
    if (from < 0 || to < 0 || fstat(from, &info) != 0) {
        abort(); /* a shadow that is not right would make every test lie */
    }
    off_t low = object->mapped ? 0 : object->low;
    off_t high = object->mapped || object->high > info.st_size ? info.st_size : object->high;
    if (!copy_range(from, to, low, high) || syscall(SYS_ftruncate, to, info.st_size) != 0) {
        abort();
    }
    object->low = object->high = 0;
    (void)syscall(SYS_close, from);
    (void)syscall(SYS_close, to);
}

/* Brings the shadow of a directory up to its present names. */
static void save_directory(const char *directory, uint64_t number)
{
    char path[PATH_MAX + 32];
    char fresh[PATH_MAX + 40];
    (void)snprintf(path, sizeof path, "%s/d%llu", shadow, (unsigned long long)number);
    (void)snprintf(fresh, sizeof fresh, "%s.new", path);
    FILE *out = REAL(fopen)(fresh, "we");
    DIR *listing = opendir(directory);
    if (out == NULL || listing == NULL) {
        abort();
    }
    struct dirent *entry;
    while ((entry = readdir(listing)) != NULL) {
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(dirfd(listing), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
            continue;
        }
        if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) {
            (void)fprintf(out, "%c %llu %s\n", S_ISDIR(info.st_mode) ? 'd' : 'f',
                          (unsigned long long)know(&info, false)->number, entry->d_name);
        }
    }
    (void)closedir(listing);
    if (fclose(out) != 0 || syscall(SYS_rename, fresh, path) != 0) {
        abort();
    }
}

/* What is there at the start is durable. */
static void save_tree(const char *directory, uint64_t number)
{
    save_directory(directory, number);
    DIR *listing = opendir(directory);
    struct dirent *entry;
    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        char path[PATH_MAX];
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            snprintf(path, sizeof path, "%s/%s", directory, entry->d_name) >= (int)sizeof path ||
            lstat(path, &info) != 0) {
            continue;
        }
        struct object *object = find(&info);
        if (object != NULL && S_ISDIR(info.st_mode)) {
            save_tree(path, object->number);
        } else if (object != NULL && S_ISREG(info.st_mode)) {
            int descriptor = raw_open(path, O_RDONLY);
            changed(object, 0, info.st_size);
            save_file(descriptor, object);
            (void)syscall(SYS_close, descriptor);
        }
    }
    if (listing != NULL) {
        (void)closedir(listing);
    }
}

/* An absolute path without symbolic links in its directory part. */
static bool resolve(const char *path, char out[PATH_MAX])
{
    char copy[PATH_MAX];
    if (realpath(path, out) != NULL) {
        return true;
    }
    if (strlen(path) >= sizeof copy) {
        return false;
    }
    (void)strcpy(copy, path);
    char *slash = strrchr(copy, '/');
    const char *name = slash == NULL ? path : path + (slash - copy) + 1;
    if (slash != NULL) {
        slash[slash == copy ? 1 : 0] = '\0';
    }
    if (realpath(slash == NULL ? "." : copy, out) == NULL ||
        strlen(out) + strlen(name) + 2 > PATH_MAX) {
        return false;
    }
    (void)strcat(strcat(out, "/"), name);
    return true;
}

static void __attribute__((constructor)) start(void)
{
    const char *directory = getenv("LS_POWERCUT_DIRECTORY");
    const char *beside = getenv("LS_POWERCUT_SHADOW");
    struct stat info;
    if (directory == NULL || beside == NULL || directory[0] == '\0') {
        return;
    }
    /* built under another name: a program killed in here has not changed its tree yet */
    char whole[PATH_MAX];
    char starting[PATH_MAX];
    if (snprintf(starting, sizeof starting, "%s.starting", beside) >= (int)sizeof starting) {
        abort();
    }
    (void)syscall(SYS_mkdir, starting, 0700);
    if (!resolve(directory, tree) || !resolve(starting, shadow) || !resolve(beside, whole)) {
        (void)fprintf(stderr, "powercut: cannot find %s or %s\n", directory, beside);
        abort();
    }
    if (stat(tree, &info) == 0) {
        know(&info, true)->number = 0;
        save_tree(tree, 0);
    }
    if (syscall(SYS_rename, shadow, whole) != 0) {
        (void)fprintf(stderr, "powercut: %s is not empty\n", beside);
        abort();
    }
    (void)strcpy(shadow, whole);
    active = true;
}

/* Is the path that `descriptor` has now inside the tree? The tree itself counts. */
static bool inside(int descriptor)
{
    char link[64];
    char path[PATH_MAX];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) {
        return false;
    }
    path[length] = '\0';
    size_t prefix = strlen(tree);
    return strncmp(path, tree, prefix) == 0 && (path[prefix] == '/' || path[prefix] == '\0');
}

/* Called with what open returned. */
static int opened(int descriptor, int flags, bool existed)
{
    struct stat info;
    int kept = errno;
    if (active && descriptor >= 0 && fstat(descriptor, &info) == 0 &&
        (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) && inside(descriptor)) {
        (void)pthread_mutex_lock(&mutex);
        struct object *object = know(&info, (flags & O_CREAT) != 0 && !existed);
        if (S_ISREG(info.st_mode) && (flags & O_TRUNC) != 0) {
            changed(object, 0, LLONG_MAX);
        }
        (void)pthread_mutex_unlock(&mutex);
    }
    errno = kept;
    return descriptor;
}

static bool exists(int at, const char *path)
{
    struct stat info;
    int kept = errno;
    bool found = fstatat(at, path, &info, 0) == 0;
    errno = kept;
    return found;
}

static mode_t mode_of(int flags, va_list arguments)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? (mode_t)va_arg(arguments, int) : 0;
}

#define OPEN_BODY(at, call)                                                                        \
    va_list arguments;                                                                             \
    va_start(arguments, flags);                                                                    \
    mode_t mode = mode_of(flags, arguments);                                                       \
    va_end(arguments);                                                                             \
    bool existed = active && (flags & O_CREAT) != 0 && exists(at, path);                           \
    return opened(call, flags, existed)

int open(const char *path, int flags, ...)
{
    OPEN_BODY(AT_FDCWD, REAL(open)(path, flags, mode));
}

int open64(const char *path, int flags, ...)
{
    OPEN_BODY(AT_FDCWD, REAL(open64)(path, flags, mode));
}

int openat(int at, const char *path, int flags, ...)
{
    OPEN_BODY(at, REAL(openat)(at, path, flags, mode));
}

int openat64(int at, const char *path, int flags, ...)
{
    OPEN_BODY(at, REAL(openat64)(at, path, flags, mode));
}

int creat(const char *path, mode_t mode)
{
    return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode)
{
    return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* stdio opens inside libc: what it opens is made known here, and is all new at each sync. */
static FILE *stdio_opened(FILE *file, bool existed)
{
    struct stat info;
    if (file != NULL && active && fstat(fileno(file), &info) == 0) {
        (void)opened(fileno(file), O_CREAT, existed);
        (void)pthread_mutex_lock(&mutex);
        struct object *object = find(&info);
        if (object != NULL) {
            object->mapped = true;
        }
        (void)pthread_mutex_unlock(&mutex);
    }
    return file;
}

FILE *fopen(const char *path, const char *mode)
{
    bool existed = active && exists(AT_FDCWD, path);
    return stdio_opened(REAL(fopen)(path, mode), existed);
}

FILE *fopen64(const char *path, const char *mode)
{
    bool existed = active && exists(AT_FDCWD, path);
    return stdio_opened(REAL(fopen64)(path, mode), existed);
}

/* A directory that was made: its inode may have belonged to something else. */
static int made(int result, int at, const char *path)
{
    int kept = errno;
    struct stat info;
    int descriptor = result == 0 && active
                         ? (int)syscall(SYS_openat, at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                         : -1;
    if (descriptor >= 0 && inside(descriptor) && fstat(descriptor, &info) == 0) {
        char full[PATH_MAX];
        bool root = realpath(path, full) != NULL && strcmp(full, tree) == 0;
        (void)pthread_mutex_lock(&mutex);
        struct object *object = know(&info, true);
        if (root) {
            object->number = 0;
        }
        (void)pthread_mutex_unlock(&mutex);
    }
    if (descriptor >= 0) {
        (void)syscall(SYS_close, descriptor);
    }
    errno = kept;
    return result;
}

int mkdir(const char *path, mode_t mode)
{
    return made(REAL(mkdir)(path, mode), AT_FDCWD, path);
}

int mkdirat(int at, const char *path, mode_t mode)
{
    return made(REAL(mkdirat)(at, path, mode), at, path);
}

/* The object of a descriptor, or NULL. The mutex is held. */
static struct object *object_of(int descriptor, struct stat *info)
{
    return fstat(descriptor, info) == 0 && S_ISREG(info->st_mode) ? find(info) : NULL;
}

/* Notes that [low, low + count) was written; low < 0: up to the present offset. */
static ssize_t wrote(int descriptor, ssize_t count, off_t low)
{
    struct stat info;
    int kept = errno;
    if (active && count > 0) {
        (void)pthread_mutex_lock(&mutex);
        struct object *object = object_of(descriptor, &info);
        if (object != NULL) {
            int flags = fcntl(descriptor, F_GETFL);
            if (low < 0) {
                low = lseek(descriptor, 0, SEEK_CUR) - count;
            } else if ((flags & O_APPEND) != 0) {
                low = 0; /* pwrite appends then */
            }
            changed(object, low < 0 ? 0 : low, (flags & O_APPEND) != 0 ? LLONG_MAX : low + count);
            if ((flags & (O_SYNC | O_DSYNC)) != 0) {
                save_file(descriptor, object);
            }
        }
        (void)pthread_mutex_unlock(&mutex);
    }
    errno = kept;
    return count;
}

ssize_t write(int descriptor, const void *bytes, size_t count)
{
    return wrote(descriptor, REAL(write)(descriptor, bytes, count), -1);
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset)
{
    return wrote(descriptor, REAL(pwrite)(descriptor, bytes, count, offset), offset);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t offset)
{
    return wrote(descriptor, REAL(pwrite64)(descriptor, bytes, count, offset), offset);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    return wrote(descriptor, REAL(writev)(descriptor, parts, count), -1);
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset)
{
    return wrote(descriptor, REAL(pwritev)(descriptor, parts, count, offset), offset);
}

ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t offset)
{
    return wrote(descriptor, REAL(pwritev64)(descriptor, parts, count, offset), offset);
}

/* Everything of the file may have changed. */
static void all_changed(int descriptor, bool mapped)
{
    struct stat info;
    int kept = errno;
    if (active) {
        (void)pthread_mutex_lock(&mutex);
        struct object *object = object_of(descriptor, &info);
        if (object != NULL) {
            changed(object, 0, LLONG_MAX);
            object->mapped = object->mapped || mapped;
        }
        (void)pthread_mutex_unlock(&mutex);
    }
    errno = kept;
}

int ftruncate(int descriptor, off_t length)
{
    int result = REAL(ftruncate)(descriptor, length);
    all_changed(descriptor, false);
    return result;
}

int ftruncate64(int descriptor, off64_t length)
{
    int result = REAL(ftruncate64)(descriptor, length);
    all_changed(descriptor, false);
    return result;
}

int fallocate(int descriptor, int mode, off_t offset, off_t length)
{
    int result = REAL(fallocate)(descriptor, mode, offset, length);
    all_changed(descriptor, false);
    return result;
}

int fallocate64(int descriptor, int mode, off64_t offset, off64_t length)
{
    int result = REAL(fallocate64)(descriptor, mode, offset, length);
    all_changed(descriptor, false);
    return result;
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t count,
                        unsigned flags)
{
    ssize_t result = REAL(copy_file_range)(from, from_at, to, to_at, count, flags);
    all_changed(to, false);
    return result;
}

ssize_t sendfile(int to, int from, off_t *offset, size_t count)
{
    ssize_t result = REAL(sendfile)(to, from, offset, count);
    all_changed(to, false);
    return result;
}

void *mmap(void *address, size_t length, int protection, int flags, int descriptor, off_t offset)
{
    void *result = REAL(mmap)(address, length, protection, flags, descriptor, offset);
    if (descriptor >= 0 && (flags & MAP_SHARED) != 0 && (protection & PROT_WRITE) != 0) {
        all_changed(descriptor, true);
    }
    return result;
}

/* A sync that succeeded: the shadow follows before the program hears of it. */
static int synced(int descriptor, int result)
{
    struct stat info;
    int kept = errno;
    if (active && result == 0 && fstat(descriptor, &info) == 0) {
        (void)pthread_mutex_lock(&mutex);
        struct object *object = find(&info);
        if (object != NULL && S_ISREG(info.st_mode)) {
            save_file(descriptor, object);
        } else if (object != NULL && S_ISDIR(info.st_mode)) {
            char path[64];
            (void)snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
            save_directory(path, object->number);
        }
        (void)pthread_mutex_unlock(&mutex);
    }
    errno = kept;
    return result;
}

int fsync(int descriptor)
{
    return synced(descriptor, REAL(fsync)(descriptor));
}

int fdatasync(int descriptor)
{
    return synced(descriptor, REAL(fdatasync)(descriptor));
}
