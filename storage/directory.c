/* SPDX-License-Identifier: MIT */
/*
 * Layout and lock of a store's directory (directory.h). Every name that is made is synced with the
 * directory it is in, so that none vanishes with the power.
 */
#include "directory.h"

#include "crash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static enum ls_status failed(struct ls_error *error, const char *what)
{
    return ls_error_set(error, LS_ERR_IO, "%s: %s", what, strerror(errno));
}

static bool sync_path(const char *path)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) {
        return false;
    }
    bool synced = fsync(directory) == 0;
    (void)close(directory);
    return synced;
}

/*
 * mkdir -p, each new name synced in its parent. The last name is synced although it exists: whoever
 * made it may have ended before its own sync. A parent that we may not read was made by others.
 */
static bool make_path(const char *path)
{
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part) {
        errno = length == 0 ? ENOENT : ENAMETOOLONG;
        return false;
    }
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        (void)memcpy(part, path, i);
        part[i] = '\0';
        bool made = mkdir(part, 0700) == 0;
        if (!made && errno != EEXIST && errno != EROFS) {
            return false;
        }
        if (made) {
            LS__CRASH("directory.made");
        }
        if (!made && errno == EROFS) {
            continue;
        }
        /* also a name that was there: who made it may have died before its sync */
        char *slash = strrchr(part, '/');
        if (slash == NULL) {
            (void)strcpy(part, ".");
        } else {
            slash[slash == part ? 1 : 0] = '\0';
        }
        if (!sync_path(part) && (made || (i == length && errno != EACCES))) {
            return false;
        }
        LS__CRASH("directory.synced");
    }
    return true;
}

static enum ls_status take_lock(struct ls__directory *directory, struct ls_error *error)
{
    directory->lock =
        openat(directory->self, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (directory->lock < 0) {
        return failed(error, "lock");
    }
    LS__CRASH("lock.made");
    char text[32] = {0};
    if (flock(directory->lock, LOCK_EX | LOCK_NB) != 0 && !LS_MUTANT(F14)) {
        if (errno != EWOULDBLOCK) {
            return failed(error, "lock");
        }
        ssize_t got = pread(directory->lock, text, sizeof text - 1, 0);
        long holder = got > 0 ? strtol(text, NULL, 10) : 0;
        if (holder > 0) {
            return ls_error_set(error, LS_ERR_LOCKED, "the directory is in use by process %ld",
                                holder);
        }
        return ls_error_set(error, LS_ERR_LOCKED, "the directory is in use by another process");
    }
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    /* only a courtesy to who is refused: a full disk must not keep the store from opening */
    if (ftruncate(directory->lock, 0) != 0 ||
        pwrite(directory->lock, text, (size_t)length, 0) != length) {
        (void)ftruncate(directory->lock, 0);
    }
    LS__CRASH("lock.written");
    return LS_OK;
}

static enum ls_status open_guards(struct ls__directory *directory, struct ls_error *error)
{
    if (mkdirat(directory->self, "guard", 0700) == 0) {
        LS__CRASH("guards.made");
        if (fsync(directory->self) != 0) {
            return failed(error, "guard");
        }
        LS__CRASH("guards.synced");
    } else if (errno != EEXIST) {
        return failed(error, "guard");
    }
    directory->guard = openat(directory->self, "guard", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return directory->guard < 0 ? failed(error, "guard") : LS_OK;
}

enum ls_status ls__directory_open(const char *path, struct ls__directory *out,
                                  struct ls_error *error)
{
    *out = (struct ls__directory){-1, -1, -1};
    if (!make_path(path)) {
        return failed(error, "cannot be made");
    }
    out->self = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (out->self < 0) {
        return failed(error, "cannot be opened");
    }
    enum ls_status status = take_lock(out, error);
    if (status == LS_OK) {
        status = open_guards(out, error);
    }
    if (status != LS_OK) {
        ls__directory_close(out);
    }
    return status;
}

void ls__directory_close(struct ls__directory *directory)
{
    int *descriptors[] = {&directory->guard, &directory->lock, &directory->self};
    for (size_t i = 0; i < 3; i++) {
        if (*descriptors[i] >= 0) {
            (void)close(*descriptors[i]);
            *descriptors[i] = -1;
        }
    }
}

/* Calls for each name in the directory `at`/`name` until it returns false; errno tells why this
 * did. */
static bool each_name(int at, const char *name, bool (*visit)(int directory, const char *name))
{
    int descriptor = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = descriptor < 0 ? NULL : fdopendir(descriptor);
    if (listing == NULL) {
        if (descriptor >= 0) {
            (void)close(descriptor);
        }
        return false;
    }
    bool went_on = true;
    while (went_on) {
        errno = 0;
        const struct dirent *entry = readdir(listing);
        if (entry == NULL) {
            went_on = errno == 0;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            went_on = visit(descriptor, entry->d_name);
        }
    }
    int reason = errno;
    (void)closedir(listing);
    errno = reason;
    return went_on;
}

static bool is_not_guard(int directory, const char *name)
{
    (void)directory;
    errno = EEXIST;
    return strchr(name, '.') != NULL; /* a guard that was not finished has one */
}

enum ls_status ls__directory_log(const struct ls__directory *directory, bool *exists,
                                 struct ls_error *error)
{
    struct stat info;
    *exists = fstatat(directory->self, "log", &info, AT_SYMLINK_NOFOLLOW) == 0;
    if (*exists) {
        return LS_OK;
    }
    if (errno != ENOENT) {
        return failed(error, "log");
    }
    if (!each_name(directory->self, "guard", is_not_guard)) {
        if (errno != EEXIST) {
            return failed(error, "guard");
        }
        return ls_error_set(error, LS_ERR_CORRUPT,
                            "its log is missing, but there are guards of groups: remove the whole "
                            "directory to start as a new member");
    }
    return LS_OK;
}

static bool remove_name(int directory, const char *name)
{
    LS__CRASH("log.cleaning");
    return unlinkat(directory, name, 0) == 0;
}

enum ls_status ls__directory_clean(const struct ls__directory *directory, struct ls_error *error)
{
    if (!each_name(directory->self, "log.new", remove_name)) {
        return errno == ENOENT ? LS_OK : failed(error, "log.new");
    }
    if (unlinkat(directory->self, "log.new", AT_REMOVEDIR) != 0) {
        return failed(error, "log.new");
    }
    LS__CRASH("log.cleaned");
    return LS_OK;
}

enum ls_status ls__directory_publish(const struct ls__directory *directory, struct ls_error *error)
{
    if (renameat(directory->self, "log.new", directory->self, "log") != 0) {
        return failed(error, "log.new");
    }
    LS__CRASH("log.renamed");
    if (fsync(directory->self) != 0) {
        return failed(error, "log.new");
    }
    LS__CRASH("log.published");
    return LS_OK;
}
