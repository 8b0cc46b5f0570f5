/* SPDX-License-Identifier: MIT */
/*
 * The other half of a power cut (powercut.c): puts a tree back to what its shadow says was durable.
 *
 *     powercut_restore <shadow> <tree> [<seed>]
 *
 * With a seed not zero, a file that had grown since its last sync keeps a random part of the
 * growth, as disks do: a torn tail. Of a write-ahead log in a folder log/, any sectors of that part
 * are zeros: they had not been written yet.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR_BYTES 512

static const char *shadow;
static uint64_t seed;

static void give_up(const char *what)
{
    (void)fprintf(stderr, "powercut_restore: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void join(char out[PATH_MAX], const char *directory, const char *name)
{
    if (snprintf(out, PATH_MAX, "%s/%s", directory, name) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        give_up(directory);
    }
}

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void copy(const char *from, const char *to, off_t limit, bool append)
{
    char buffer[1 << 16];
    int in = open(from, O_RDONLY);
    int out = open(to, O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC), 0600);
    if (out < 0) {
        give_up(to);
    }
    off_t at = 0;
    struct stat info;
    if (append && fstat(out, &info) == 0) {
        at = info.st_size;
    }
    while (in >= 0 && at < limit) {
        size_t want = (size_t)(limit - at) < sizeof buffer ? (size_t)(limit - at) : sizeof buffer;
        ssize_t got = pread(in, buffer, want, at);
        if (got <= 0) {
            break;
        }
        if (write(out, buffer, (size_t)got) != got) {
            give_up(to);
        }
        at += got;
    }
    if (in >= 0) {
        (void)close(in);
    }
    (void)close(out);
}

static bool is_write_ahead_log(const char *path)
{
    size_t length = strlen(path);
    const char *slash = strrchr(path, '/');
    return length > 4 && strcmp(path + length - 4, ".log") == 0 && slash - path >= 4 &&
           strncmp(slash - 4, "/log", 4) == 0;
}

/* Sectors of what is behind `at` go; in half of the files none does. */
static void lose_sectors(const char *path, off_t at)
{
    static const char zeros[SECTOR_BYTES];
    uint64_t chance = next_random() % 8;
    int file = open(path, O_WRONLY);
    struct stat info;
    if (file < 0 || fstat(file, &info) != 0) {
        give_up(path);
    }
    while (chance < 4 && at < info.st_size) {
        off_t end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
        end = end < info.st_size ? end : info.st_size;
        if (next_random() % 4 <= chance &&
            pwrite(file, zeros, (size_t)(end - at), at) != end - at) {
            give_up(path);
        }
        at = end;
    }
    (void)close(file);
}

/* Builds `to` from the shadow's directory; `old` is where the tree is now, for torn tails. */
static void build(const char *number, const char *to, const char *old)
{
    char path[PATH_MAX];
    char line[PATH_MAX + 64];
    (void)snprintf(path, sizeof path, "%s/d%s", shadow, number);
    if (mkdir(to, 0700) != 0) {
        give_up(to);
    }
    FILE *names = fopen(path, "re");
    while (names != NULL && fgets(line, sizeof line, names) != NULL) {
        char kind;
        char child[32];
        int name_at = 0;
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%c %31s %n", &kind, child, &name_at) != 2 || name_at == 0) {
            errno = EINVAL;
            give_up(path);
        }
        char target[PATH_MAX];
        char before[PATH_MAX];
        join(target, to, line + name_at);
        join(before, old, line + name_at);
        if (kind == 'd') {
            build(child, target, before);
            continue;
        }
        char source[PATH_MAX];
        struct stat durable = {0};
        struct stat present = {0};
        (void)snprintf(source, sizeof source, "%s/f%s", shadow, child);
        copy(source, target, LLONG_MAX, false);
        if (seed != 0 && stat(target, &durable) == 0 && stat(before, &present) == 0 &&
            present.st_size > durable.st_size) {
            uint64_t growth = (uint64_t)(present.st_size - durable.st_size);
            copy(before, target, durable.st_size + (off_t)(next_random() % (growth + 1)), true);
            if (is_write_ahead_log(target)) {
                lose_sectors(target, durable.st_size);
            }
        }
    }
    if (names != NULL) {
        (void)fclose(names);
    }
}

static void remove_tree(const char *path)
{
    DIR *listing = opendir(path);
    struct dirent *entry;
    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        char child[PATH_MAX];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        join(child, path, entry->d_name);
        if (unlink(child) != 0) {
            remove_tree(child);
        }
    }
    if (listing != NULL) {
        (void)closedir(listing);
    }
    if (rmdir(path) != 0 && errno != ENOENT) {
        give_up(path);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 4) {
        (void)fprintf(stderr, "usage: powercut_restore <shadow> <tree> [<seed>]\n");
        return 2;
    }
    shadow = argv[1];
    seed = argc == 4 ? strtoull(argv[3], NULL, 0) : 0;
    char fresh[PATH_MAX];
    struct stat info;
    if (snprintf(fresh, sizeof fresh, "%s.starting", shadow) >= (int)sizeof fresh) {
        return 2;
    }
    remove_tree(fresh);
    if (stat(shadow, &info) != 0) {
        return 0; /* the program was cut before it changed anything */
    }
    if (snprintf(fresh, sizeof fresh, "%s.restored", argv[2]) >= (int)sizeof fresh) {
        return 2;
    }
    remove_tree(fresh);
    build("0", fresh, argv[2]);
    remove_tree(argv[2]);
    remove_tree(shadow);
    if (rename(fresh, argv[2]) != 0) {
        give_up(argv[2]);
    }
    return 0;
}
