/* SPDX-License-Identifier: MIT */
/* Histories that can be repeated (history.h). */
#include "history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define STEP_ENTRIES_MAX 40u
#define PAYLOAD_MAX      600u

static uint64_t next_random(struct history *history)
{
    history->seed ^= history->seed << 13;
    history->seed ^= history->seed >> 7;
    history->seed ^= history->seed << 17;
    return history->seed;
}

static size_t payload_of(ls_index index, ls_term term, uint8_t out[PAYLOAD_MAX])
{
    size_t bytes = (index * 7919 + term * 104729) % PAYLOAD_MAX;
    for (size_t i = 0; i < bytes; i++) {
        out[i] = (uint8_t)(index + term * 3 + i * 11);
    }
    return bytes;
}

void history_open(struct history *history, uint64_t seed)
{
    *history = (struct history){.seed = seed | 1, .term = 1};
    history->terms = calloc(HISTORY_ENTRIES_MAX, sizeof *history->terms);
    LS_ASSERT(history->terms != NULL);
}

void history_close(struct history *history)
{
    free(history->terms);
}

static void choose(struct history *history, struct history_step *step)
{
    struct ls_storage_batch *batch = &step->batch;
    uint64_t choice = next_random(history) % 1000;
    if (choice < 40 && history->last > history->anchor) { /* a new leader rewrites the end */
        ls_index held = history->last - history->anchor;
        ls_index back = 1 + next_random(history) % (held < 100 ? held : 100);
        batch->truncate = true;
        batch->truncate_from = history->last - back + 1;
        history->last -= back;
        history->term++;
    } else if (choice < 50) { /* a snapshot arrives */
        history->term++;
        history->last += next_random(history) % 50;
        history->anchor = history->last;
        history->terms[history->anchor] = history->term;
        batch->reset = true;
        batch->anchor = (struct ls_cursor){history->term, history->anchor};
    } else if (choice < 90) {
        history->term++;
    }
    if (choice % 9 == 0 || history->term > history->hard.term) {
        bool voted = next_random(history) % 2 == 0;
        history->hard.term = history->term > history->hard.term ? history->term : history->term + 1;
        history->term = history->hard.term;
        history->hard.voted = voted;
        (void)memset(history->hard.vote.bytes, voted ? (int)(history->term & 127) + 1 : 0,
                     sizeof history->hard.vote.bytes);
        step->hard = history->hard;
        batch->hard_state = &step->hard;
    }
}

void history_next(struct history *history, struct history_step *step)
{
    static struct ls_entry entries[STEP_ENTRIES_MAX];
    static uint8_t payloads[STEP_ENTRIES_MAX][PAYLOAD_MAX];
    *step = (struct history_step){0};
    history->step++;
    if (next_random(history) % 40 == 0 && history->last > history->anchor + 1) {
        step->prune =
            history->anchor + 1 + next_random(history) % (history->last - history->anchor - 1);
        history->anchor = step->prune;
    }
    choose(history, step);
    step->batch.commit_hint = history->step;
    step->batch.first = history->last + 1;
    /* at least one: a batch of nothing but a commit hint is reported without a sync, so a power cut
     * may take the hint, and with it the number of the step */
    step->batch.count = 1 + (uint32_t)(next_random(history) % (STEP_ENTRIES_MAX - 1));
    step->batch.entries = entries;
    for (uint32_t i = 0; i < step->batch.count; i++) {
        ls_index index = ++history->last;
        history->terms[index] = history->term;
        size_t bytes = payload_of(index, history->term, payloads[i]);
        entries[i] = (struct ls_entry){history->term, LS_ENTRY_COMMAND, {payloads[i], bytes}};
    }
}

struct check {
    const struct history *history;
    ls_index next;
    char *text;
};

static bool check_entry(void *arg, ls_index index, const struct ls_entry *entry)
{
    struct check *check = arg;
    uint8_t payload[PAYLOAD_MAX];
    ls_term term = check->history->terms[index];
    size_t bytes = payload_of(index, term, payload);
    if (index != check->next || entry->term != term || entry->data.bytes != bytes ||
        (bytes > 0 && memcmp(entry->data.data, payload, bytes) != 0)) {
        (void)sprintf(check->text,
                      "entry %" PRIu64 " of term %" PRIu64 ", expected %" PRIu64 "^%" PRIu64, index,
                      entry->term, term, check->next);
        return false;
    }
    check->next++;
    return true;
}

const char *history_differs(const struct history *history, struct ls_storage *storage,
                            struct ls_storage_group *group, const struct ls_storage_state *state)
{
    static char text[LS_ERROR_TEXT_BYTES + 64];
    const struct ls_hard_state *hard = &state->hard_state;
    if (state->tail_unknown) {
        (void)snprintf(text, sizeof text, "tail unknown: %s", state->tail_text);
        return text;
    }
    if (hard->term != history->hard.term || hard->voted != history->hard.voted ||
        !ls_peer_id_equal(&hard->vote, &history->hard.vote)) {
        (void)sprintf(text, "hard state of term %" PRIu64 ", expected %" PRIu64, hard->term,
                      history->hard.term);
        return text;
    }
    if (state->anchor.index != history->anchor || state->last.index != history->last ||
        state->last.term != history->terms[history->last] ||
        state->anchor.term != history->terms[history->anchor]) {
        (void)sprintf(text,
                      "log %" PRIu64 "^%" PRIu64 "..%" PRIu64 "^%" PRIu64 ", expected %" PRIu64
                      "..%" PRIu64,
                      state->anchor.term, state->anchor.index, state->last.term, state->last.index,
                      history->anchor, history->last);
        return text;
    }
    if (history->last == history->anchor) {
        return NULL;
    }
    struct check check = {history, history->anchor + 1, text};
    text[0] = '\0';
    enum ls_status status = storage->read(storage->self, group, history->anchor + 1, history->last,
                                          SIZE_MAX, check_entry, &check);
    if (status != LS_OK || check.next != history->last + 1) {
        if (text[0] == '\0') {
            (void)sprintf(text, "read of entry %" PRIu64 ": %s", check.next,
                          ls_status_text(status));
        }
        return text;
    }
    return NULL;
}
