/* SPDX-License-Identifier: MIT */
/* Directory trees (tree.h). */
#include "tree.h"

#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void list(const char *base, const char *below, struct tree *out)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", base, below);
    DIR *listing = opendir(path);
    assert_non_null(listing);
    struct dirent *entry;
    while ((entry = readdir(listing)) != NULL) {
        struct stat info;
        char relative[256];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        assert_true(snprintf(relative, sizeof relative, "%s%s%s", below, below[0] ? "/" : "",
                             entry->d_name) < (int)sizeof relative);
        assert_int_equal(fstatat(dirfd(listing), entry->d_name, &info, AT_SYMLINK_NOFOLLOW), 0);
        if (S_ISDIR(info.st_mode)) {
            list(base, relative, out);
        } else {
            assert_true(out->count < TREE_FILES_MAX);
            struct tree_file *file = &out->files[out->count++];
            (void)strcpy(file->path, relative);
            file->bytes = (size_t)info.st_size;
        }
    }
    (void)closedir(listing);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tree_file *)a)->path, ((const struct tree_file *)b)->path);
}

void tree_list(const char *directory, struct tree *out)
{
    out->count = 0;
    list(directory, "", out);
    qsort(out->files, out->count, sizeof out->files[0], by_name);
}

void tree_remove(const char *directory)
{
    DIR *listing = opendir(directory);
    struct dirent *entry;
    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        char path[512];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (unlink(path) != 0) {
            tree_remove(path);
        }
    }
    if (listing != NULL) {
        (void)closedir(listing);
    }
    (void)rmdir(directory);
}

static void copy_file(const char *from, const char *to)
{
    char buffer[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(in >= 0 && out >= 0);
    ssize_t got;
    while ((got = read(in, buffer, sizeof buffer)) > 0) {
        assert_int_equal(write(out, buffer, (size_t)got), got);
    }
    assert_int_equal(got, 0);
    (void)close(in);
    (void)close(out);
}

void tree_copy(const char *from, const char *to)
{
    tree_remove(to);
    assert_int_equal(mkdir(to, 0700), 0);
    DIR *listing = opendir(from);
    assert_non_null(listing);
    struct dirent *entry;
    while ((entry = readdir(listing)) != NULL) {
        char source[512];
        char target[512];
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        (void)snprintf(source, sizeof source, "%s/%s", from, entry->d_name);
        (void)snprintf(target, sizeof target, "%s/%s", to, entry->d_name);
        assert_int_equal(stat(source, &info), 0);
        if (S_ISDIR(info.st_mode)) {
            tree_copy(source, target);
        } else {
            copy_file(source, target);
        }
    }
    (void)closedir(listing);
}
