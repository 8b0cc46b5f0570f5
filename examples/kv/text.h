/* SPDX-License-Identifier: MIT */
/*
 * Pure helpers over text: numbers as Redis reads and writes them, patterns of MATCH, and the stable
 * hash that orders keys.
 */
#ifndef KV_TEXT_H
#define KV_TEXT_H

#include <lockstep/types.h>

/** Strictly decimal, as Redis stores integers: no blanks, no plus, no leading zeros, in range. */
bool kv_integer_parse(struct ls_span text, int64_t *out);

#define KV_INTEGER_BYTES 24
/** Writes the decimal form without a terminator; returns its length. */
size_t kv_integer_print(int64_t number, char out[KV_INTEGER_BYTES]);

/** Equal, ASCII letters of any case. */
bool kv_text_is(struct ls_span text, const char *word);

/**
 * Glob patterns of Redis: * ? [abc] [^abc] [a-z] and backslash. O(pattern x text), without
 * recursion.
 */
bool kv_pattern_matches(struct ls_span pattern, struct ls_span text);

/**
 * The order of keys in SCAN: 63 bits of SipHash-2-4 under a fixed key, the same on every member and
 * in every release. Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF".
 */
uint64_t kv_key_hash(struct ls_span key);

/** SipHash-2-4 itself, for its test vectors. */
uint64_t kv_siphash(const uint64_t key[2], struct ls_span text);

#endif
