/* SPDX-License-Identifier: MIT */
/* The words of a script's line: members, numbers, arrows, cursors. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "script.h"

void script_fail(const struct script *script, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fprintf(stderr, "%s:%d: ", script->file, script->line);
    (void)vfprintf(stderr, format, arguments);
    (void)fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

const char *script_word(const struct script *script, size_t at, const char *what)
{
    if (at >= script->count) {
        script_fail(script, "%s: expected %s", script->words[0], what);
    }
    return script->words[at];
}

bool script_is(const struct script *script, size_t at, const char *word)
{
    return at < script->count && strcmp(script->words[at], word) == 0;
}

static struct node *node_called(const struct script *script, const char *name)
{
    struct node *node = realm_find(script->realm, name);
    if (node == NULL) {
        script_fail(script, "%s: no member is called \"%s\"", script->words[0], name);
    }
    return node;
}

struct node *script_node(const struct script *script, size_t at)
{
    return node_called(script, script_word(script, at, "a member"));
}

struct node *script_alive(const struct script *script, size_t at)
{
    struct node *node = script_node(script, at);
    if (!node->alive) {
        script_fail(script, "%s: %s does not run", script->words[0], node->name);
    }
    return node;
}

static uint64_t number_in(const struct script *script, const char *text, const char **end)
{
    char *after = NULL;
    unsigned long long number = strtoull(text, &after, 10);
    if (after == text) {
        script_fail(script, "%s: \"%s\" is not a number", script->words[0], text);
    }
    *end = after;
    return number;
}

uint64_t script_number(const struct script *script, size_t at, const char *what)
{
    const char *end = NULL;
    const char *text = script_word(script, at, what);
    uint64_t number = number_in(script, text, &end);
    if (*end != '\0') {
        script_fail(script, "%s: expected %s, found \"%s\"", script->words[0], what, text);
    }
    return number;
}

static int arrow_end(const struct script *script, const char *name)
{
    return strcmp(name, "*") == 0 ? -1 : (int)node_called(script, name)->number;
}

void script_arrow(const struct script *script, size_t at, struct rule *rule)
{
    char from[LS_NAME_BYTES];
    const char *text = script_word(script, at, "an arrow like a->b");
    const char *arrow = strstr(text, "->");
    if (arrow == NULL || (size_t)(arrow - text) >= sizeof from) {
        script_fail(script, "%s: expected an arrow like a->b, found \"%s\"", script->words[0],
                    text);
    }
    (void)snprintf(from, sizeof from, "%.*s", (int)(arrow - text), text);
    rule->from = arrow_end(script, from);
    rule->to = arrow_end(script, arrow + 2);
}

int script_kind(const struct script *script, size_t at)
{
    if (at >= script->count) {
        return 0;
    }
    for (int kind = LS_MESSAGE_PRE_VOTE; kind <= LS_MESSAGE_TIMEOUT_NOW; kind++) {
        if (strcmp(script->words[at], message_kind_text(kind)) == 0) {
            return kind;
        }
    }
    script_fail(script, "%s: \"%s\" is no kind of message", script->words[0], script->words[at]);
}

ls_index script_cursors(const struct script *script, size_t at, struct ls_cursor *first)
{
    const char *text = script_word(script, at, "an entry like 2^5 or 2^5-7");
    const char *end = NULL;
    first->term = number_in(script, text, &end);
    if (*end != '^') {
        script_fail(script, "%s: expected term^index, found \"%s\"", script->words[0], text);
    }
    first->index = number_in(script, end + 1, &end);
    ls_index last = first->index;
    if (*end == '-') {
        last = number_in(script, end + 1, &end);
    }
    if (*end != '\0' || last < first->index) {
        script_fail(script, "%s: expected term^index, found \"%s\"", script->words[0], text);
    }
    return last;
}
