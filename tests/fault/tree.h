/* SPDX-License-Identifier: MIT */
/* Copies and listings of directory trees, for tests that damage one. */
#ifndef LOCKSTEP_TEST_TREE_H
#define LOCKSTEP_TEST_TREE_H

#include <stdbool.h>
#include <stddef.h>

#define TREE_FILES_MAX 256u

struct tree_file {
    char path[256]; /* relative */
    size_t bytes;
};

struct tree {
    struct tree_file files[TREE_FILES_MAX];
    size_t count;
};

/** The regular files below `directory`, in order of name. */
void tree_list(const char *directory, struct tree *out);
/** Makes `to` a copy of `from`; what was at `to` goes. */
void tree_copy(const char *from, const char *to);
void tree_remove(const char *directory);

#endif
