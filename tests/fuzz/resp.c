/* SPDX-License-Identifier: MIT */
/*
 * The parser of lockstep-kv's clients: bytes mean the same whether they arrive at once or in
 * pieces. The first byte of the input is the size of a piece.
 */
#include "fuzz.h"

#include <stdlib.h>

#include "resp.h"

enum { VALUE_BYTES_MAX = 4096, COMMAND_BYTES_MAX = 16384, INPUT_BYTES_MAX = 4096 };

struct outcome {
    uint64_t digest; /* of all commands */
    size_t commands;
    size_t consumed;
    bool broken;
    char error[sizeof((struct resp_parser *)NULL)->error];
};

static void digest(uint64_t *hash, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    for (size_t i = 0; i < bytes; i++) {
        *hash = (*hash ^ at[i]) * 1099511628211u; /* FNV-1a */
    }
}

static void digest_command(struct outcome *outcome, const struct resp_parser *parser)
{
    outcome->commands++;
    digest(&outcome->digest, &parser->argc, sizeof parser->argc);
    for (size_t i = 0; i < parser->argc; i++) {
        digest(&outcome->digest, &parser->args[i].bytes, sizeof parser->args[i].bytes);
        digest(&outcome->digest, parser->args[i].data, parser->args[i].bytes);
    }
}

/* One call, over an exact heap copy of what has arrived. */
static enum resp_result parse(struct resp_parser *parser, struct ls_span arrived, size_t *consumed,
                              struct outcome *outcome)
{
    uint8_t *copy = malloc(arrived.bytes > 0 ? arrived.bytes : 1);
    LS_ASSERT(copy != NULL);
    if (arrived.bytes > 0) {
        (void)memcpy(copy, arrived.data, arrived.bytes);
    }
    enum resp_result result = resp_parse(parser, (struct ls_span){copy, arrived.bytes}, consumed);
    if (result == RESP_COMMAND) {
        LS_ASSERT(*consumed > 0 && *consumed <= arrived.bytes);
        digest_command(outcome, parser);
    }
    free(copy);
    return result;
}

static struct outcome feed(const uint8_t *data, size_t size, size_t piece, bool unauthenticated)
{
    struct outcome outcome = {.digest = 14695981039346656037u};
    struct resp_parser parser;
    resp_parser_init(&parser, VALUE_BYTES_MAX, COMMAND_BYTES_MAX);
    parser.unauthenticated = unauthenticated;
    size_t arrived = 0;
    while (arrived < size && !outcome.broken) {
        arrived = piece < size - arrived ? arrived + piece : size;
        enum resp_result result = RESP_COMMAND;
        while (result == RESP_COMMAND && outcome.consumed < arrived) {
            size_t consumed = 0;
            const struct ls_span span = {data + outcome.consumed, arrived - outcome.consumed};
            result = parse(&parser, span, &consumed, &outcome);
            outcome.consumed += consumed;
        }
        if (result == RESP_BROKEN) {
            outcome.broken = true;
            (void)memcpy(outcome.error, parser.error, sizeof outcome.error);
        }
    }
    resp_parser_free(&parser);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > INPUT_BYTES_MAX) {
        return 0;
    }
    size_t piece = 1 + (data[0] & 0x7f);
    bool unauthenticated = data[0] >= 0x80;
    struct outcome whole = feed(data + 1, size - 1, size, unauthenticated);
    struct outcome pieces = feed(data + 1, size - 1, piece, unauthenticated);
    LS_ASSERT(whole.commands == pieces.commands);
    LS_ASSERT(whole.digest == pieces.digest);
    LS_ASSERT(whole.consumed == pieces.consumed);
    LS_ASSERT(whole.broken == pieces.broken);
    LS_ASSERT(strcmp(whole.error, pieces.error) == 0);
    return 0;
}
