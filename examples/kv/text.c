/* SPDX-License-Identifier: MIT */
/* Numbers, patterns and the hash. Pure: no state, no allocation. */
#include "text.h"

bool kv_integer_parse(struct ls_span text, int64_t *out)
{
    const char *at = text.data;
    size_t bytes = text.bytes;
    if (bytes == 0 || bytes >= KV_INTEGER_BYTES) {
        return false;
    }
    bool negative = at[0] == '-';
    size_t first = negative ? 1 : 0;
    if (first == bytes) {
        return false;
    }
    if (at[first] == '0') {
        *out = 0;
        return bytes == 1;
    }
    uint64_t number = 0;
    for (size_t i = first; i < bytes; i++) {
        if (at[i] < '0' || at[i] > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(at[i] - '0');
        if (number > (UINT64_MAX - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    if (number > (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        return false;
    }
    *out = negative ? (int64_t)(0 - number) : (int64_t)number;
    return true;
}

size_t kv_integer_print(int64_t number, char out[KV_INTEGER_BYTES])
{
    char reversed[KV_INTEGER_BYTES];
    size_t digits = 0;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do {
        reversed[digits++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    size_t length = 0;
    if (number < 0) {
        out[length++] = '-';
    }
    while (digits > 0) {
        out[length++] = reversed[--digits];
    }
    return length;
}

static unsigned char lower(char letter)
{
    unsigned char byte = (unsigned char)letter;
    return byte >= 'A' && byte <= 'Z' ? (unsigned char)(byte - 'A' + 'a') : byte;
}

bool kv_text_is(struct ls_span text, const char *word)
{
    const char *at = text.data;
    for (size_t i = 0; i < text.bytes; i++) {
        if (word[i] == '\0' || lower(at[i]) != lower(word[i])) {
            return false;
        }
    }
    return word[text.bytes] == '\0';
}

/*
 * Whether `byte` is matched by the bracket expression that begins at pattern[*at] (after the '[').
 * Moves *at behind the closing bracket, or to the end where there is none.
 */
static bool bracket_matches(struct ls_span pattern, size_t *at, unsigned char byte)
{
    const unsigned char *text = pattern.data;
    size_t i = *at;
    bool negated = i < pattern.bytes && text[i] == '^';
    bool found = false;
    if (negated) {
        i++;
    }
    while (i < pattern.bytes && text[i] != ']') {
        if (text[i] == '\\' && i + 1 < pattern.bytes) {
            i++;
            found = found || text[i] == byte;
        } else if (i + 2 < pattern.bytes && text[i + 1] == '-') {
            unsigned char low = text[i];
            unsigned char high = text[i + 2];
            if (low > high) {
                unsigned char swap = low;
                low = high;
                high = swap;
            }
            found = found || (byte >= low && byte <= high);
            i += 2;
        } else {
            found = found || text[i] == byte;
        }
        i++;
    }
    *at = i < pattern.bytes ? i + 1 : i;
    return negated ? !found : found;
}

/* Matches one pattern element that is no star against `byte`; moves *at behind it. */
static bool element_matches(struct ls_span pattern, size_t *at, unsigned char byte)
{
    const unsigned char *text = pattern.data;
    unsigned char element = text[(*at)++];
    if (element == '?') {
        return true;
    }
    if (element == '[') {
        return bracket_matches(pattern, at, byte);
    }
    if (element == '\\' && *at < pattern.bytes) {
        element = text[(*at)++];
    }
    return element == byte;
}

bool kv_pattern_matches(struct ls_span pattern, struct ls_span text)
{
    const unsigned char *glob = pattern.data;
    const unsigned char *bytes = text.data;
    size_t p = 0;
    size_t t = 0;
    size_t star = SIZE_MAX; /* behind the last star seen, and how much of the text it had taken */
    size_t taken = 0;
    while (t < text.bytes) {
        if (p < pattern.bytes && glob[p] == '*') {
            star = ++p;
            taken = t;
            continue;
        }
        size_t next = p;
        if (p < pattern.bytes && element_matches(pattern, &next, bytes[t])) {
            p = next;
            t++;
        } else if (star != SIZE_MAX) {
            p = star; /* only the last star needs to give back: earlier ones matched the least */
            t = ++taken;
        } else {
            return false;
        }
    }
    while (p < pattern.bytes && glob[p] == '*') {
        p++;
    }
    return p == pattern.bytes;
}

static uint64_t rotate(uint64_t word, unsigned bits)
{
    return (word << bits) | (word >> (64 - bits));
}

static uint64_t load(const uint8_t *bytes, size_t count)
{
    uint64_t word = 0;
    for (size_t i = 0; i < count; i++) {
        word |= (uint64_t)bytes[i] << (8 * i);
    }
    return word;
}

static void rounds(uint64_t v[4], int count)
{
    for (int i = 0; i < count; i++) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32) + v[3];
        v[2] += v[1];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

uint64_t kv_siphash(const uint64_t key[2], struct ls_span text)
{
    /* the paper's constants: "somepseudorandomlygeneratedbytes" */
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    const uint8_t *at = text.data;
    size_t whole = text.bytes / 8;
    for (size_t i = 0; i < whole; i++, at += 8) {
        uint64_t word = load(at, 8);
        v[3] ^= word;
        rounds(v, 2);
        v[0] ^= word;
    }
    uint64_t last = ((uint64_t)text.bytes << 56) | load(at, text.bytes % 8);
    v[3] ^= last;
    rounds(v, 2);
    v[0] ^= last;
    v[2] ^= 0xff;
    rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t kv_key_hash(struct ls_span key)
{
    static const uint64_t fixed[2] = {0x6c6f636b73746570u, 0x6b657920686173u};
    /* 63 bits: a cursor then fits the signed integers of every client */
    return kv_siphash(fixed, key) >> 1;
}
