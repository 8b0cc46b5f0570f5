/* SPDX-License-Identifier: MIT */
/*
 * Stands in for libFuzzer: feeds each file of the folders on the command line to the target, from
 * an exact heap copy, so that a sanitizer sees every read outside of it. No input is a failure.
 */
#include "fuzz.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { INPUT_BYTES_MAX = 1 << 20 };

static void fail(const char *what, const char *path)
{
    (void)fprintf(stderr, "%s: %s\n", path, what);
    exit(1);
}

static void replay(const char *path)
{
    static uint8_t buffer[INPUT_BYTES_MAX];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail("cannot be opened", path);
    }
    size_t bytes = fread(buffer, 1, sizeof buffer, file);
    if (ferror(file) != 0 || bytes == sizeof buffer) {
        fail("cannot be read, or is too long", path);
    }
    (void)fclose(file);
    uint8_t *input = malloc(bytes > 0 ? bytes : 1);
    if (input == NULL) {
        fail("out of memory", path);
    }
    for (size_t i = 0; i < bytes; i++) {
        input[i] = buffer[i];
    }
    (void)LLVMFuzzerTestOneInput(input, bytes);
    free(input);
}

static size_t replay_folder(const char *folder)
{
    size_t count = 0;
    DIR *directory = opendir(folder);
    if (directory == NULL) {
        fail("is no folder", folder);
    }
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        char path[PATH_MAX];
        if (entry->d_name[0] == '.') {
            continue;
        }
        int length = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (length < 0 || (size_t)length >= sizeof path) {
            fail("path too long", folder);
        }
        replay(path);
        count++;
    }
    (void)closedir(directory);
    return count;
}

int main(int argc, char **argv)
{
    size_t count = 0;
    for (int i = 1; i < argc; i++) {
        count += replay_folder(argv[i]);
    }
    printf("%zu inputs\n", count);
    return count > 0 ? 0 : 1;
}
