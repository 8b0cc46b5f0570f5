/* SPDX-License-Identifier: MIT */
/*
 * Scenario scripts: one command a line, `#` begins a comment. See README.md for the language.
 */
#ifndef SCENARIO_SCRIPT_H
#define SCENARIO_SCRIPT_H

#include "realm.h"

#define SCRIPT_WORDS_MAX   96u
#define SCRIPT_LINE_BYTES  1024u
#define SCRIPT_LIMIT_MS    30000u /* of `run until` and `elect` */
#define SCRIPT_WHY_BYTES   512u
#define SCRIPT_PRESETS_MAX 8u

/** The configuration entry at `at`: its members by number, as bits. */
struct script_preset {
    struct ls_cursor at;
    uint32_t members;
};

struct script {
    const char *file;
    int line;
    struct realm *realm;
    char text[SCRIPT_LINE_BYTES + 4];
    const char *words[SCRIPT_WORDS_MAX];
    size_t count;
    uint64_t sent_base[REALM_NODES_MAX][REALM_NODES_MAX][LS_MESSAGE_TIMEOUT_NOW + 1];
    size_t last_read[REALM_NODES_MAX]; /* 1 + its place in realm->reads */
    struct script_preset presets[SCRIPT_PRESETS_MAX];
    size_t presets_count;
};

/** Reports `file:line: ...` and ends the program. */
void script_fail(const struct script *script, const char *format, ...)
    __attribute__((format(printf, 2, 3))) __attribute__((noreturn));

/* words.c: reading the words of a line; each fails with a clear text */
const char *script_word(const struct script *script, size_t at, const char *what);
struct node *script_node(const struct script *script, size_t at);
struct node *script_alive(const struct script *script, size_t at);
uint64_t script_number(const struct script *script, size_t at, const char *what);
bool script_is(const struct script *script, size_t at, const char *word);
/** `a->b` with `*` for any. */
void script_arrow(const struct script *script, size_t at, struct rule *rule);
int script_kind(const struct script *script, size_t at);
/** `2^5` or `2^5-7`; returns the last index. */
ls_index script_cursors(const struct script *script, size_t at, struct ls_cursor *first);

/** commands.c: carries out the words of the present line. */
void script_command(struct script *script);

/** presets.c: commands that say what disks hold before the start */
void script_configuration(struct script *script);
void script_disk(struct script *script);
void script_founded(struct script *script);

/** expect.c: does what the words from `at` on claim hold now? Else `why` says what does. */
bool script_holds(const struct script *script, size_t at, char why[SCRIPT_WHY_BYTES]);

#endif
