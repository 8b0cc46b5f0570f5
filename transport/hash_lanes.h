/* SPDX-License-Identifier: MIT */
/*
 * BLAKE2b-256 of four messages, one in each lane of a vector (RFC 7693, sections 3.1 and 3.2). This
 * is the body of hash_many.c, which includes it once for each kind of vectors, after it defined
 * HASH_LANES, the name of the function, and HASH_TARGET, the attribute with what it may use.
 */

HASH_TARGET static void HASH_LANES(struct ls_span head, const struct ls_span *bodies, size_t count,
                                   uint8_t (*out)[32])
{
    struct lanes_messages messages;
    vector state[8];
    vector work[16];
    vector words[16];
    messages_begin(&messages, head, bodies, count);
    for (size_t i = 0; i < 8; i++) {
        state[i] = SAME(start[i]);
    }
    state[0] ^= SAME(PARAMETERS);
    while (messages_next(&messages)) {
        const uint8_t *const *at = messages.at;
        for (size_t i = 0; i < 16; i++) {
            words[i] = (vector){word(at[0] + 8 * i), word(at[1] + 8 * i), word(at[2] + 8 * i),
                                word(at[3] + 8 * i)};
        }
        for (size_t i = 0; i < 8; i++) {
            work[i] = state[i];
            work[i + 8] = SAME(start[i]);
        }
        work[12] ^=
            (vector){messages.done[0], messages.done[1], messages.done[2], messages.done[3]};
        work[14] ^=
            (vector){messages.last[0], messages.last[1], messages.last[2], messages.last[3]};
        for (size_t round = 0; round < 12; round++) {
            const uint8_t *order = orders[round % 10];
            MIX(0, 4, 8, 12, words[order[0]], words[order[1]]);
            MIX(1, 5, 9, 13, words[order[2]], words[order[3]]);
            MIX(2, 6, 10, 14, words[order[4]], words[order[5]]);
            MIX(3, 7, 11, 15, words[order[6]], words[order[7]]);
            MIX(0, 5, 10, 15, words[order[8]], words[order[9]]);
            MIX(1, 6, 11, 12, words[order[10]], words[order[11]]);
            MIX(2, 7, 8, 13, words[order[12]], words[order[13]]);
            MIX(3, 4, 9, 14, words[order[14]], words[order[15]]);
        }
        for (size_t i = 0; i < 8; i++) {
            state[i] ^= work[i] ^ work[i + 8];
        }
        for (size_t lane = 0; lane < count; lane++) {
            if (messages.last[lane] != 0 && !messages.told[lane]) {
                messages.told[lane] = true;
                for (size_t i = 0; i < 4; i++) {
                    word_put(out[lane] + 8 * i, state[i][lane]);
                }
            }
        }
    }
}
