/* SPDX-License-Identifier: MIT */
/*
 * Messages that presume the durability of a persist batch wait here, encoded, until it is durable
 * (P1).
 */
#include "runtime.h"

#include <string.h>

enum ls_status ls__held_add(struct ls__held *held, uint64_t after, const struct ls_peer_id *peer,
                            struct ls_span message)
{
    if (ls__block_grow(held->env, &held->messages, &held->capacity, held->count + 1,
                       sizeof *held->messages) != LS_OK ||
        ls__block_grow(held->env, &held->data, &held->data_capacity, held->bytes + message.bytes,
                       1) != LS_OK) {
        return LS_ERR_NO_MEMORY;
    }
    held->next_after = held->count == 0 || after < held->next_after ? after : held->next_after;
    held->messages[held->count++] =
        (struct ls__held_message){after, *peer, held->bytes, message.bytes};
    (void)memcpy(held->data + held->bytes, message.data, message.bytes);
    held->bytes += message.bytes;
    return LS_OK;
}

void ls__held_release(struct ls_group *group, uint64_t durable)
{
    struct ls__held *held = &group->held;
    struct ls_node *node = group->node;
    size_t kept = 0, kept_bytes = 0;
    if (held->count == 0 || (durable < held->next_after && !LS_MUTANT(P1_HELD))) {
        return; /* a slow disk: many wait, and none of them may leave */
    }
    held->next_after = UINT64_MAX;
    for (size_t i = 0; i < held->count; i++) {
        struct ls__held_message message = held->messages[i];
        const struct ls_span bytes = {held->data + message.offset, message.bytes};
        if (message.after <= durable || LS_MUTANT(P1_HELD)) {
            /* a message that cannot be sent is lost, as messages may be */
            (void)node->transport.send(node->transport.self, &group->id, &message.peer,
                                       LS_LANE_CONSENSUS, bytes);
            continue;
        }
        held->next_after = message.after < held->next_after ? message.after : held->next_after;
        (void)memmove(held->data + kept_bytes, bytes.data, bytes.bytes);
        message.offset = kept_bytes;
        kept_bytes += bytes.bytes;
        held->messages[kept++] = message;
    }
    held->count = kept;
    held->bytes = kept_bytes;
}

void ls__held_free(struct ls__held *held)
{
    if (held->messages != NULL) {
        (void)ls__allocate(held->env, held->messages, 0);
    }
    if (held->data != NULL) {
        (void)ls__allocate(held->env, held->data, 0);
    }
    (void)memset(held, 0, sizeof *held);
}
