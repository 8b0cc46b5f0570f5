/* SPDX-License-Identifier: MIT */
/*
 * The bounded pre-scan and the production codec. See codec.h for what msgpack-c does here and what
 * it does not.
 *
 * The scan keeps two numbers: how many elements each open array still lacks, for the depth, and how
 * many all of them lack together. As every element takes at least one byte, the second may never
 * exceed the bytes left: a frame of 5 bytes that announces 2^28 elements ends at its first header.
 */
#include "codec.h"

static const char text_truncated[] = "ends in the middle of an element";

struct walk {
    uint64_t owed; /* elements announced and not yet seen, in all open arrays together */
    uint32_t depth;
    uint32_t lacks[LS_DECODE_DEPTH_MAX]; /* elements that each open array still lacks */
};

/*
 * Takes one element; `count` of them follow if it is an array. left: how many can follow at most.
 * NULL or the reason.
 */
static inline const char *walk_take(struct walk *walk, bool array, uint32_t count, size_t left)
{
    walk->owed--;
    if (array) {
        if (walk->depth == LS_DECODE_DEPTH_MAX) {
            return "nested too deeply";
        }
        walk->owed += count;
        if (walk->owed > left) {
            return "announces more elements than follow";
        }
        if (count > 0) {
            walk->lacks[walk->depth++] = count;
            return NULL;
        }
    }
    while (walk->depth > 0 && --walk->lacks[walk->depth - 1] == 0) {
        walk->depth--;
    }
    return NULL;
}

static inline uint64_t load(const uint8_t *at, size_t bytes)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (bytes) {
    case 1:
        return *at;
    case 2:
        _msgpack_load16(uint16_t, at, &two);
        return two;
    case 4:
        _msgpack_load32(uint32_t, at, &four);
        return four;
    default:
        _msgpack_load64(uint64_t, at, &eight);
        return eight;
    }
}

/* The number of `bytes` bytes that follows the head of a token. */
static inline bool scan_number(struct ls__scan *scan, size_t bytes, uint64_t *number)
{
    if (ls__scan_left(scan) < 1 + bytes) {
        scan->reason = text_truncated;
        return false;
    }
    *number = load(scan->at + 1, bytes);
    scan->at += 1 + bytes;
    return true;
}

static bool scan_bytes(struct ls__scan *scan, size_t length_bytes, struct ls__token *token)
{
    uint64_t length;
    token->kind = LS__TOKEN_BYTES;
    if (!scan_number(scan, length_bytes, &length)) {
        return false;
    }
    if (length > ls__scan_left(scan)) {
        scan->reason = text_truncated;
        return false;
    }
    token->bytes = (struct ls_span){scan->at, (size_t)length};
    scan->at += length;
    return true;
}

bool ls__scan_wide(struct ls__scan *scan, struct ls__token *token)
{
    if (scan->at == scan->end) {
        scan->reason = text_truncated;
        return false;
    }
    uint8_t head = *scan->at;
    if (head <= 0x7f) {
        token->kind = LS__TOKEN_UINT;
        token->number = head;
        scan->at++;
        return true;
    }
    if ((head & 0xf0) == 0x90) {
        token->kind = LS__TOKEN_ARRAY;
        token->number = head & 0x0f;
        scan->at++;
        return true;
    }
    switch (head) {
    case 0xc2:
    case 0xc3:
        token->kind = LS__TOKEN_BOOL;
        token->number = head & 1;
        scan->at++;
        return true;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return scan_bytes(scan, (size_t)1 << (head - 0xc4), token);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        token->kind = LS__TOKEN_UINT;
        return scan_number(scan, (size_t)1 << (head - 0xcc), &token->number);
    case 0xdc:
    case 0xdd:
        token->kind = LS__TOKEN_ARRAY;
        return scan_number(scan, (size_t)2 << (head - 0xdc), &token->number);
    default:
        scan->reason = "holds an element of a kind that is not used here";
        return false;
    }
}

const char *ls__codec_check(struct ls_span bytes)
{
    struct ls__scan scan = ls__scan_open(bytes);
    struct walk walk = {.owed = 1};
    struct ls__token token;
    while (walk.owed > 0) {
        if (!ls__scan_next(&scan, &token)) {
            return scan.reason;
        }
        bool array = token.kind == LS__TOKEN_ARRAY;
        if (!array && walk.depth > 0 &&
            walk.lacks[walk.depth - 1] > 1) { /* most are in the middle */
            walk.lacks[walk.depth - 1]--;
            walk.owed--;
            continue;
        }
        uint32_t count = array ? (uint32_t)token.number : 0;
        const char *reason = walk_take(&walk, array, count, ls__scan_left(&scan));
        if (reason != NULL) {
            return reason;
        }
    }
    return scan.at == scan.end ? NULL : "holds bytes after its end";
}

/* The values are exactly one tree that the decoder will take. */
static bool values_valid(const struct ls_value *values, size_t count)
{
    struct walk walk = {.owed = 1};
    size_t at = 0;
    while (at < count && walk.owed > 0) {
        const struct ls_value *value = &values[at++];
        bool array = value->kind == LS_VALUE_ARRAY;
        if (walk_take(&walk, array, array ? value->as.count : 0, count - at) != NULL) {
            return false;
        }
    }
    return walk.owed == 0 && at == count;
}

enum ls_status ls__codec_encode(void *self, const struct ls_value *values, size_t count, void *out,
                                size_t capacity, size_t *written)
{
    struct ls__writer writer = {.data = out, .capacity = capacity};
    (void)self;
    *written = 0;
    if (!values_valid(values, count)) {
        return LS_ERR_INVALID;
    }
    for (size_t i = 0; i < count; i++) {
        const struct ls_value *value = &values[i];
        switch (value->kind) {
        case LS_VALUE_UINT:
            ls__write_number(&writer, value->as.number);
            break;
        case LS_VALUE_BYTES:
            if (value->as.bytes.bytes > UINT32_MAX) {
                return LS_ERR_INVALID;
            }
            ls__write_bytes(&writer, value->as.bytes);
            break;
        case LS_VALUE_ARRAY:
            ls__write_array(&writer, value->as.count);
            break;
        default:
            return LS_ERR_INVALID;
        }
    }
    *written = writer.bytes;
    return writer.bytes <= capacity ? LS_OK : LS_ERR_LIMIT;
}

enum ls_status ls__codec_decode(void *self, struct ls_span bytes, struct ls_value *values,
                                size_t values_max, size_t *count)
{
    struct ls__scan scan = ls__scan_open(bytes);
    struct walk walk = {.owed = 1};
    struct ls__token token;
    size_t used = 0;
    (void)self;
    *count = 0;
    while (walk.owed > 0) {
        if (used == values_max || !ls__scan_next(&scan, &token)) {
            return LS_ERR_PROTOCOL;
        }
        struct ls_value *value = &values[used++];
        switch (token.kind) {
        case LS__TOKEN_UINT:
            *value = (struct ls_value){.kind = LS_VALUE_UINT, .as.number = token.number};
            break;
        case LS__TOKEN_BYTES:
            *value = (struct ls_value){.kind = LS_VALUE_BYTES, .as.bytes = token.bytes};
            break;
        case LS__TOKEN_ARRAY:
            *value = (struct ls_value){.kind = LS_VALUE_ARRAY, .as.count = (uint32_t)token.number};
            break;
        case LS__TOKEN_BOOL:
        default:
            return LS_ERR_PROTOCOL;
        }
        bool array = token.kind == LS__TOKEN_ARRAY;
        if (walk_take(&walk, array, array ? (uint32_t)token.number : 0, ls__scan_left(&scan))) {
            return LS_ERR_PROTOCOL;
        }
    }
    if (scan.at != scan.end) {
        return LS_ERR_PROTOCOL;
    }
    *count = used;
    return LS_OK;
}
