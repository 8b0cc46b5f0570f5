/* SPDX-License-Identifier: MIT */
/* Sentences with numbers, for the user, without a C library. What does not fit is left out. */
#ifndef LOCKSTEP_STATESYNC_TEXT_H
#define LOCKSTEP_STATESYNC_TEXT_H

#include <lockstep/macros.h>

#include <stdint.h>
#include <string.h>

struct ls__text {
    char *out;
    size_t room; /* with the terminator */
    size_t used;
};

static inline struct ls__text ls__text_begin(char *out, size_t room)
{
    out[0] = '\0';
    return (struct ls__text){out, room, 0};
}

static inline void ls__text_bytes(struct ls__text *text, const char *bytes, size_t count)
{
    size_t left = text->room - text->used - 1;
    count = count < left ? count : left;
    memcpy(text->out + text->used, bytes, count);
    text->used += count;
    text->out[text->used] = '\0';
}

static inline void ls__text_put(struct ls__text *text, const char *words)
{
    ls__text_bytes(text, words, strlen(words));
}

/** In groups of three: "81 234". */
static inline void ls__text_number(struct ls__text *text, uint64_t number)
{
    char digits[32];
    size_t at = sizeof digits;
    size_t written = 0;
    do {
        if (written > 0 && written % 3 == 0) {
            digits[--at] = ' ';
        }
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
        written++;
    } while (number > 0);
    ls__text_bytes(text, digits + at, sizeof digits - at);
}

#endif
