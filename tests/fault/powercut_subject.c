/* SPDX-License-Identifier: MIT */
/* What the power cut takes and what it leaves, one file for each rule of powercut.c. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int make(const char *name, const char *content)
{
    int file = open(name, O_RDWR | O_CREAT, 0600);
    if (file < 0 || write(file, content, strlen(content)) != (ssize_t)strlen(content)) {
        _exit(1);
    }
    return file;
}

static void make_synced(const char *name, const char *content)
{
    int file = make(name, content);
    (void)fsync(file);
    (void)close(file);
}

int main(int argc, char **argv)
{
    if (argc != 2 || chdir(argv[1]) != 0) {
        return 2;
    }
    int directory = open(".", O_RDONLY | O_DIRECTORY);
    make_synced("synced", "synced bytes");
    int grown = make("grown", "first");
    (void)fdatasync(grown);
    int overwritten = make("overwritten", "aaaa");
    (void)fdatasync(overwritten);
    make_synced("unlinked", "still here");
    make_synced("renamed-from", "renamed");
    make_synced("rename-pending", "pending");
    int truncated = make("truncated", "long content");
    (void)fsync(truncated);
    (void)make("empty", "never synced");
    (void)rename("renamed-from", "renamed-to");
    (void)mkdir("folder", 0700);
    make_synced("folder/inside", "in folder");
    int folder = open("folder", O_RDONLY | O_DIRECTORY);
    (void)fsync(folder);
    (void)fsync(directory);

    make_synced("nameless", "synced, but its name is not");
    ssize_t written = write(grown, " and more", 9);
    written += pwrite(overwritten, "bbbb", 4, 0);
    (void)unlink("unlinked");
    (void)rename("rename-pending", "rename-done");
    if (written != 13 || ftruncate(truncated, 4) != 0) {
        return 1;
    }
    (void)puts("ready");
    (void)fflush(stdout);
    (void)pause();
    return 0;
}
