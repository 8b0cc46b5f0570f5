/* SPDX-License-Identifier: MIT */
/*
 * Log replay, shared between its files:
 *   log_replay.c           factory and options
 *   log_replay_messages.c  what travels
 *   log_replay_provider.c  the serving side
 *   log_replay_session.c   the lagging side: its vtable, answers and installs
 *   log_replay_fetch.c     ... whom it asks for what
 *   log_replay_buffer.c    ... arenas, and the leader's newest entries
 *
 * Source: mosaik's LogReplaySync, with its gaps closed.
 */
#ifndef LOCKSTEP_STATESYNC_LOG_REPLAY_H
#define LOCKSTEP_STATESYNC_LOG_REPLAY_H

#include <lockstep/statesync.h>

#include "note.h"

/* upper bound of what surrounds one payload, and one message, when encoded */
#define LS__REPLAY_ENTRY_OVERHEAD 24u
#define LS__REPLAY_HEAD_BYTES     96u
/* values before the entries of a message */
#define LS__REPLAY_HEAD_VALUES 8u

LS_STATIC_ASSERT(3u * LS_REPLAY_ENTRIES_MAX + LS__REPLAY_HEAD_VALUES <= LS_VALUES_MAX,
                 "a range fits the values of one message");
LS_STATIC_ASSERT(LS_REPLAY_BYTES_MAX + LS_ENTRY_BYTES_MAX +
                         LS_REPLAY_ENTRIES_MAX * LS__REPLAY_ENTRY_OVERHEAD + LS__REPLAY_HEAD_BYTES <
                     LS_MESSAGE_BYTES_MAX,
                 "a range fits one message");
LS_STATIC_ASSERT(LS_REPLAY_BYTES_MAX + LS_ENTRY_BYTES_MAX <= LS_REPLAY_BUFFER_BYTES_MAX,
                 "the largest range fits the buffer");

/** Options with the defaults filled in. */
struct ls__replay_limits {
    uint32_t entries_max, window;
    uint64_t timeout_us, lease_us;
    size_t bytes_max, buffer_bytes_max;
    uint64_t keep_entries, keep_bytes;
};
struct ls__replay_limits ls__replay_limits(const struct ls_log_replay_options *options);

enum ls_status ls__replay_provider_create(void *self, const struct ls_provider_context *context,
                                          struct ls_sync_provider *out);
enum ls_status ls__replay_session_create(void *self, const struct ls_session_context *context,
                                         const struct ls_sync_gap *gap,
                                         struct ls_sync_session *out);

/* ---- messages -------------------------------------------------------------------------------- */

/*
 *   AVAILABILITY_REQUEST   [1, attempt, need]
 *   AVAILABILITY           [2, attempt, first, last]                nothing held: first > last
 *   FETCH                  [3, attempt, id, need, first, last]
 *   ENTRIES                [4, attempt, id, held first, held last, first, [term, kind, payload,
 * ...]]
 *
 * attempt  names a session, so that answers to an earlier one are known as late, not wrong
 * id       of the request, increasing within the attempt
 * need     the lowest index the session still needs: what its lease pins
 */
enum ls__replay_kind {
    LS__REPLAY_AVAILABILITY_REQUEST = 1,
    LS__REPLAY_AVAILABILITY = 2,
    LS__REPLAY_FETCH = 3,
    LS__REPLAY_ENTRIES = 4
};

struct ls__replay_message {
    enum ls__replay_kind kind;
    uint64_t attempt;
    uint64_t id;
    ls_index need;
    ls_index held_first, held_last; /* AVAILABILITY, ENTRIES */
    ls_index first, last;           /* FETCH; ENTRIES: first */
    const struct ls_value *entries; /* ENTRIES: three values for each */
    uint32_t count;
    size_t payload_bytes;
};

/** Decodes and checks. Returns NULL, or why no correct peer sends this. */
const char *ls__replay_decode(const struct ls_codec *codec, struct ls_span bytes,
                              struct ls_value *values, size_t values_max,
                              struct ls__replay_message *out);

/** Encodes any kind but ENTRIES; LS__REPLAY_HEAD_BYTES suffice. Returns the length. */
size_t ls__replay_encode(const struct ls_codec *codec, const struct ls__replay_message *message,
                         uint8_t out[LS__REPLAY_HEAD_BYTES]);

/** Writes the head of ENTRIES to values[0 .. HEAD_VALUES - 2], whose entries follow there. */
size_t ls__replay_entries_head(const struct ls__replay_message *message, struct ls_value *values);
void ls__replay_put_entry(struct ls_value values[3], const struct ls_entry *entry);
struct ls_entry ls__replay_get_entry(const struct ls_value values[3]);

/* ---- the session's insides ------------------------------------------------------------------- */

/** Memory of one range or of a part of the leader's run; entries grow from the front of `data`,
 * payloads from its end. */
struct ls__arena {
    struct ls__arena *next;
    size_t capacity;
    size_t payload_bytes;
    uint32_t count;
    uint64_t token; /* being installed; 0: not. Then also: */
    ls_index last;  /* index of its last entry */
    uint32_t skip;  /* entries at its front that the log held already */
    bool of_run;    /* the leader's newest entries, which a new leader may void */
    _Alignas(16) uint8_t data[];
};

/** Arenas of one session: a bound on all, and a few kept to be used again. */
struct ls__arenas {
    const struct ls_env *env;
    size_t bytes; /* in use */
    struct ls__arena *spare;
    uint32_t spare_count;
};

struct ls__arena *ls__arena_take(struct ls__arenas *arenas, size_t capacity);
void ls__arena_give(struct ls__arenas *arenas, struct ls__arena *arena);
void ls__arenas_free(struct ls__arenas *arenas);
struct ls_entry *ls__arena_entries(struct ls__arena *arena);
bool ls__arena_fits(const struct ls__arena *arena, size_t payload_bytes);
/** Copies; asserts that it fits. */
void ls__arena_put(struct ls__arena *arena, const struct ls_entry *entry);
size_t ls__arena_capacity(uint32_t count, size_t payload_bytes);

/**
 * The newest entries of the leader, kept while the log before them is fetched: one contiguous run
 * from prev on, in the order of arrival. Holes are never kept.
 */
struct ls__run {
    ls_term term;          /* of the leader */
    struct ls_cursor prev; /* the run continues a log that ends here */
    struct ls_cursor last; /* == prev when empty */
    struct ls__arena *first_arena, *last_arena;
    size_t bytes;
    bool dropped; /* something did not fit: nothing more is kept until caught up */
};

enum ls_buffer_verdict ls__run_add(struct ls__run *run, struct ls__arenas *arenas, size_t bytes_max,
                                   ls_term term, struct ls_cursor prev,
                                   const struct ls_entry *entries, uint32_t count);
void ls__run_clear(struct ls__run *run, struct ls__arenas *arenas);
/** Does the run continue a log that ends at `at`, which lies in [prev, last]? */
bool ls__run_continues(const struct ls__run *run, struct ls_cursor at);
/** Takes the first arena out. */
struct ls__arena *ls__run_pop(struct ls__run *run);

struct ls__replay_peer {
    struct ls_peer_id id;
    bool bonded;
    bool asked; /* for its availability, and the answer is due */
    bool known; /* what it holds: */
    ls_index first, last;
    uint64_t asked_us;    /* last time */
    uint64_t ask_us;      /* not again before */
    uint64_t pause_us;    /* between two, growing while it has nothing */
    uint64_t avoid_us;    /* no request before: it answered wrongly or its queue is full */
    uint64_t order;       /* place in the list: slow ones go to the end */
    uint32_t step;        /* entries it is asked for at once, halved when it did not answer in time;
                             0: as many as may be */
    uint64_t answered_id; /* the latest request that it answered */
    uint32_t in_flight;
};

enum ls__range_state { LS__RANGE_ASKED = 1, LS__RANGE_FETCHED = 2 };

struct ls__replay_range {
    enum ls__range_state state;
    ls_index first, last;
    struct ls_peer_id peer;
    uint64_t id;
    uint64_t deadline_us;    /* ASKED */
    struct ls__arena *arena; /* FETCHED */
};

struct ls__replay_session {
    struct ls_session_context context;
    struct ls__replay_limits limits;
    struct ls__arenas arenas;
    struct ls_value *values; /* LS_VALUES_MAX, for decoding */
    uint64_t attempt;
    uint64_t last_id;    /* of a request */
    uint64_t last_order; /* of a peer */

    ls_index from, target;
    struct ls_cursor solid;  /* last committed entry handed over, or the commit cursor */
    struct ls_cursor handed; /* >= solid: with the leader's newest */
    ls_index durable;
    uint64_t items, bytes; /* durable */

    struct ls__replay_peer peers[LS_MEMBERS_MAX];
    uint32_t peers_count;
    struct ls__replay_range ranges[LS_REPLAY_RANGES_MAX]; /* ascending, disjoint, above solid */
    uint32_t ranges_count;
    struct ls__arena *installing; /* pinned until their effects */
    uint32_t installing_count;
    struct ls__run run;

    uint64_t memory_us; /* allocation was refused: ask nothing before */
    uint64_t linger_us; /* target reached, waiting for the run's prev until then; 0: not */
    const char *failed;
};

/* log_replay_fetch.c */
struct ls__replay_peer *ls__replay_find_peer(struct ls__replay_session *session,
                                             const struct ls_peer_id *id);
/** It answered: what else it was asked for waits for its turn, and it may be asked for more. */
void ls__replay_answered(struct ls__replay_session *session, struct ls__replay_peer *peer,
                         uint64_t id);
/** Up to which index entries are to be fetched now. */
ls_index ls__replay_goal(const struct ls__replay_session *session);
void ls__replay_remove_range(struct ls__replay_session *session, uint32_t at);
/** A wrong answer: others come first, and this one is left alone for a while. */
void ls__replay_penalise(struct ls__replay_session *session, struct ls__replay_peer *peer,
                         const char *reason);
void ls__replay_set_held(struct ls__replay_session *session, struct ls__replay_peer *peer,
                         ls_index first, ls_index last);
/** The target moved: peers that do not reach it are likely to have moved, too. */
void ls__replay_expect_more(struct ls__replay_session *session);
/** A peer that cannot be asked any more, or again: its requests go to others. */
void ls__replay_release(struct ls__replay_session *session, struct ls__replay_peer *peer);
/** Times out, asks for availability, gives free peers work. */
void ls__replay_fetch(struct ls__replay_session *session, uint64_t now);
/** When something of the above is due next. */
uint64_t ls__replay_fetch_due(const struct ls__replay_session *session, uint64_t now);
/** Could any bonded peer serve the next entry, as far as known? *asking: some did not answer yet.
 */
bool ls__replay_has_source(const struct ls__replay_session *session, bool *asking);

static inline uint64_t ls__replay_now(const struct ls__replay_session *session)
{
    return session->context.base.now_us(session->context.base.self);
}

#endif
