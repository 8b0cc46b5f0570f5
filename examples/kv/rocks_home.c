/* SPDX-License-Identifier: MIT */
/*
 * The directory of the state. The file "current" is one line, "lockstep-kv state <number>", and
 * whoever changes it makes a whole new one: written beside it, synced, renamed over it, and the
 * directory synced. So a new state takes the place of the old one in one step, and a crash leaves
 * the one or the other; the folder that is not current any more, or not yet, is removed at open.
 */
#include "rocks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "crash.h"
#include "text.h"

enum { LINE_BYTES = 64 };

void kv_home_folder(const char *directory, uint64_t number, char out[PATH_MAX])
{
    (void)snprintf(out, PATH_MAX, "%s/%" PRIu64, directory, number);
}

static void path_of(const char *directory, const char *name, char out[PATH_MAX])
{
    (void)snprintf(out, PATH_MAX, "%s/%s", directory, name);
}

bool kv_home_sync(const char *directory)
{
    int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = descriptor >= 0 && fsync(descriptor) == 0;
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
    return synced;
}

/* The number that is the whole name of a folder; 0: it is none of ours. */
static uint64_t number_of(const char *name)
{
    int64_t number = 0;
    return kv_integer_parse((struct ls_span){name, strlen(name)}, &number) && number > 0
               ? (uint64_t)number
               : 0;
}

void kv_home_remove(const char *folder)
{
    DIR *list = opendir(folder);
    if (list == NULL) {
        return;
    }
    for (const struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        (void)unlinkat(dirfd(list), entry->d_name, 0);
    }
    (void)closedir(list);
    (void)rmdir(folder);
}

void kv_home_clean(const char *directory, uint64_t number)
{
    DIR *list = opendir(directory);
    if (list == NULL) {
        return;
    }
    for (const struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        uint64_t other = number_of(entry->d_name);
        if (other != 0 && other != number) {
            char folder[PATH_MAX];
            kv_home_folder(directory, other, folder);
            kv_home_remove(folder);
        }
    }
    (void)closedir(list);
}

/* Without "current": the state that a crash left before the first one was named. */
static enum ls_status unnamed(const char *directory, uint64_t *number, struct ls_error *error)
{
    DIR *list = opendir(directory);
    bool old = false;
    bool several = false;
    *number = 0;
    if (list == NULL) {
        return ls_error_set(error, LS_ERR_IO, "state %s: %s", directory, strerror(errno));
    }
    for (const struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        uint64_t found = number_of(entry->d_name);
        old = old || strcmp(entry->d_name, "CURRENT") == 0;
        several = several || (found != 0 && *number != 0);
        *number = found != 0 ? found : *number;
    }
    (void)closedir(list);
    if (old) {
        return ls_error_set(error, LS_ERR_FORMAT,
                            "state %s: it is of a lockstep-kv without snapshots; remove it, and it "
                            "is rebuilt from the log",
                            directory);
    }
    return several ? ls_error_set(error, LS_ERR_CORRUPT, "state %s: the file current is missing",
                                  directory)
                   : LS_OK;
}

/* The line of the pointer, exactly as it is written. */
static bool number_read(const char *line, size_t bytes, uint64_t *number)
{
    static const char head[] = "lockstep-kv state ";
    const char *digits = line + sizeof head - 1;
    if (strncmp(line, head, sizeof head - 1) != 0 || digits[0] < '1' || digits[0] > '9') {
        return false;
    }
    char *end = NULL;
    errno = 0;
    *number = strtoull(digits, &end, 10);
    return errno == 0 && *end == '\n' && end + 1 == line + bytes;
}

enum ls_status kv_home_read(const char *directory, uint64_t *number, bool *named,
                            struct ls_error *error)
{
    char path[PATH_MAX];
    char line[LINE_BYTES] = "";
    path_of(directory, "current", path);
    *named = false;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return errno == ENOENT
                   ? unnamed(directory, number, error)
                   : ls_error_set(error, LS_ERR_IO, "state %s: %s", path, strerror(errno));
    }
    size_t bytes = fread(line, 1, sizeof line - 1, file);
    bool failed = ferror(file) != 0;
    (void)fclose(file);
    line[bytes] = '\0';
    if (failed) {
        return ls_error_set(error, LS_ERR_IO, "state %s: it cannot be read", path);
    }
    *named = true;
    if (!number_read(line, bytes, number)) {
        return ls_error_set(error, LS_ERR_CORRUPT, "state %s: it names no state", path);
    }
    char database[PATH_MAX + 32];
    kv_home_folder(directory, *number, path);
    (void)snprintf(database, sizeof database, "%s/CURRENT", path);
    return access(database, F_OK) == 0
               ? LS_OK
               : ls_error_set(error, LS_ERR_CORRUPT, "state %s: its files are missing", path);
}

static bool line_write(const char *path, const char *line)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) {
        return false;
    }
    ssize_t wrote = write(file, line, strlen(line));
    bool written = wrote == (ssize_t)strlen(line) && fsync(file) == 0;
    return close(file) == 0 && written;
}

enum ls_status kv_home_switch(const char *directory, uint64_t number, bool *moved,
                              char why[LS_ERROR_TEXT_BYTES])
{
    char line[LINE_BYTES], fresh[PATH_MAX], path[PATH_MAX];
    (void)snprintf(line, sizeof line, "lockstep-kv state %" PRIu64 "\n", number);
    path_of(directory, "current.new", fresh);
    path_of(directory, "current", path);
    *moved = false;
    KV_CRASH("switch.begin");
    bool done = line_write(fresh, line);
    if (done) {
        KV_CRASH("switch.written");
        done = rename(fresh, path) == 0;
        *moved = done;
    }
    if (done) {
        KV_CRASH("switch.renamed");
        done = kv_home_sync(directory);
        KV_CRASH("switch.synced");
    }
    if (!done) {
        (void)snprintf(why, LS_ERROR_TEXT_BYTES, "state %.300s: %s", path, strerror(errno));
    }
    return done ? LS_OK : LS_ERR_IO;
}
