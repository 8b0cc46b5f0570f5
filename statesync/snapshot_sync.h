/* SPDX-License-Identifier: MIT */
/*
 * The snapshot strategy, shared between its files:
 *   chunk.c              what a snapshot looks like (lockstep/snapshot.h)
 *   snapshot_sync.c      factory and options
 *   snapshot_messages.c  what travels
 *   snapshot_table.c     the chunks of a snapshot: hashes, counts, first keys
 *   snapshot_provider.c  the serving side: anchors, offers, leases
 *   snapshot_serve.c     ... tables and chunks, at a bounded rate
 *   snapshot_session.c   the lagging side: its vtable, effects and what the user sees
 *   snapshot_select.c    ... which anchor, and whose table
 *   snapshot_fetch.c     ... whom it asks for which chunk
 *
 * Source: mosaik's SnapshotSync; paging and resume after calimero's snapshot and commonware's
 * syncer.
 */
#ifndef LOCKSTEP_STATESYNC_SNAPSHOT_SYNC_H
#define LOCKSTEP_STATESYNC_SNAPSHOT_SYNC_H

#include <lockstep/configuration.h>
#include <lockstep/statesync.h>

#include "lease.h"
#include "note.h"

/** Options with the defaults filled in. */
struct ls__snap_limits {
    uint32_t window;
    uint64_t timeout_us, lease_us, marker_us, rate_bytes;
    size_t buffer_bytes_max;
};
struct ls__snap_limits ls__snap_limits(const struct ls_snapshot_options *options);

enum ls_status ls__snap_provider_create(void *self, const struct ls_provider_context *context,
                                        struct ls_sync_provider *out);
enum ls_status ls__snap_session_create(void *self, const struct ls_session_context *context,
                                       const struct ls_sync_gap *gap, struct ls_sync_session *out);

/* ---- messages -------------------------------------------------------------------------------- */

/*
 *   REQUEST    [1, attempt, need, alone]                an anchor at or above need?
 *   OFFER      [2, attempt, term, index, items, bytes]  index 0: none now
 *   TABLE_ASK  [3, attempt, id, term, index, first, count]  count 0: only what it adds up to
 *   TABLE      [4, attempt, id, chunks, root, configuration index, configuration, first,
 *               [hash, items, bytes, first key, ...]]
 *   WORKING    [5, attempt, id, chunks]                 the table is being made
 *   CHUNK_ASK  [6, attempt, id, term, index, chunk, first key]
 *   CHUNK      [7, attempt, id, bytes]
 *   GONE       [8, attempt, id]                         that state is not frozen here
 *   KEEP       [9, attempt, term, index]                that state, and the log after it, are
 *                                                       needed on
 *
 * alone   1: freeze where you stand, without a marker
 */
enum ls__snap_kind {
    LS__SNAP_REQUEST = 1,
    LS__SNAP_OFFER = 2,
    LS__SNAP_TABLE_ASK = 3,
    LS__SNAP_TABLE = 4,
    LS__SNAP_WORKING = 5,
    LS__SNAP_CHUNK_ASK = 6,
    LS__SNAP_CHUNK = 7,
    LS__SNAP_GONE = 8,
    LS__SNAP_KEEP = 9
};

struct ls__snap_message {
    enum ls__snap_kind kind;
    uint64_t attempt, id;
    ls_index need;           /* REQUEST */
    bool alone;              /* REQUEST */
    struct ls_cursor anchor; /* OFFER, TABLE_ASK, CHUNK_ASK, KEEP */
    uint64_t items, bytes;   /* OFFER */
    uint32_t chunks;         /* TABLE, WORKING */
    uint32_t chunk;          /* TABLE_ASK, TABLE: the first; CHUNK_ASK */
    uint32_t count;          /* TABLE_ASK; TABLE: rows */
    struct ls_hash root;     /* TABLE */
    ls_index configuration_index;
    struct ls_span data;         /* CHUNK; TABLE: configuration; CHUNK_ASK: first key */
    const struct ls_value *rows; /* TABLE: four values for each */
};

/* values before the rows of a message, and of one with as many rows as a page may have */
#define LS__SNAP_HEAD_VALUES 10u
#define LS__SNAP_ROWS_MAX    1000u
#define LS__SNAP_VALUES_MAX  (LS__SNAP_HEAD_VALUES + 4u * LS__SNAP_ROWS_MAX)
/* bytes around what a message carries: its head, and of each row */
#define LS__SNAP_HEAD_BYTES 160u
#define LS__SNAP_ROW_BYTES  64u
/* keys of one page of a table: one is always sent */
#define LS__SNAP_PAGE_BYTES (1u << 20)

LS_STATIC_ASSERT(LS__SNAP_VALUES_MAX <= LS_VALUES_MAX, "a page of a table fits one message");
LS_STATIC_ASSERT(LS_CONFIGURATION_BYTES_MAX + LS__SNAP_PAGE_BYTES + LS_ITEM_KEY_BYTES_MAX +
                         LS__SNAP_ROWS_MAX * LS__SNAP_ROW_BYTES + LS__SNAP_HEAD_BYTES <
                     LS_MESSAGE_BYTES_MAX,
                 "a page of a table fits one message");

/** Decodes and checks. Returns NULL, or why no correct peer sends this. */
const char *ls__snap_decode(const struct ls_codec *codec, struct ls_span bytes,
                            struct ls_value *values, size_t values_max,
                            struct ls__snap_message *out);

/** The values of a message without its rows, which follow. Returns how many; at most
 * LS__SNAP_HEAD_VALUES. */
size_t ls__snap_head(const struct ls__snap_message *message, struct ls_value *values);

/** Encodes and sends one of the small kinds: no data but a key, no rows. `room`:
 * LS__SNAP_HEAD_BYTES and the key. */
enum ls_status ls__snap_send(const struct ls_sync_context *base, const struct ls_peer_id *to,
                             const struct ls__snap_message *message, uint8_t *room, size_t bytes);

/* ---- the table of chunks --------------------------------------------------------------------- */

struct ls__chunk_row {
    uint32_t items, bytes; /* bytes: of keys and values */
    uint32_t key_bytes;
    size_t key_at;
};

struct ls__table {
    const struct ls_env *env;
    struct ls_hash *hashes;
    struct ls__chunk_row *rows;
    uint8_t *keys;
    uint32_t count, capacity;
    size_t keys_bytes, keys_capacity;
    uint64_t items, bytes; /* of all rows */
};

/** errors LS_ERR_LIMIT, LS_ERR_NO_MEMORY: the table is as before */
enum ls_status ls__table_add(struct ls__table *table, const struct ls_hash *hash, uint32_t items,
                             uint32_t bytes, struct ls_span key);
void ls__table_clear(struct ls__table *table);
struct ls_span ls__table_key(const struct ls__table *table, uint32_t chunk);

/* ---- the provider's insides ------------------------------------------------------------------ */

enum ls__table_state { LS__TABLE_NONE = 0, LS__TABLE_MAKING, LS__TABLE_READY };

struct ls__anchor {
    bool live;
    struct ls_sync_frozen frozen;
    struct ls_peer_id asker; /* the last one */
    uint64_t lease_us;
    enum ls__table_state state;
    struct ls__table table;
    uint8_t *next; /* key where the next chunk of the table begins */
    size_t next_bytes, next_capacity;
    struct ls_hash root;
};

/* How busy the group is with commands: then a state sync, which can wait, must not be felt. */
struct ls__snap_load {
    uint64_t looked_us;
    ls_index looked; /* commits stood there */
    bool busy;
};

/** To be called often, with what is committed. */
void ls__snap_load_look(struct ls__snap_load *load, ls_index commit, uint64_t now);

/* A chunk that was asked for and not sent yet. */
struct ls__ask {
    struct ls__ask *next;
    struct ls_peer_id peer;
    struct ls_cursor anchor;
    uint64_t attempt, id;
    size_t key_bytes;
    uint8_t key[];
};

struct ls__snap_client {
    struct ls__lease lease;
    uint64_t attempt;
    uint32_t asks;
};

struct ls__snap_provider {
    struct ls_provider_context context;
    struct ls__snap_limits limits;
    struct ls__anchor anchors[LS_SNAPSHOT_ANCHORS_MAX];
    struct ls__snap_client clients[LS_MEMBERS_MAX];
    struct ls__ask *asks, **asks_end; /* in the order of arrival */
    ls_index opened_last;             /* of the log when this began: up to it lies history */
    uint64_t marker_us;               /* a marker is on its way until then */
    uint64_t failed_us;               /* no table could be made: nothing is frozen before */
    uint64_t credit_us;               /* bytes served so far are paid for until then */
    struct ls__snap_load load;
    struct ls_chunk_builder builder;
    uint8_t *encoded;
    size_t encoded_capacity;
};

struct ls__anchor *ls__snap_find_anchor(struct ls__snap_provider *provider,
                                        struct ls_cursor anchor);
void ls__snap_thaw(struct ls__snap_provider *provider, struct ls__anchor *anchor);
/** Room for encoding an answer; NULL: no memory. */
uint8_t *ls__snap_room(struct ls__snap_provider *provider, size_t bytes);
void ls__snap_answer_table(struct ls__snap_provider *provider, const struct ls_peer_id *to,
                           const struct ls__snap_message *question);
/** Takes the question in; it is answered by ls__snap_serve. */
void ls__snap_take_ask(struct ls__snap_provider *provider, struct ls__snap_client *client,
                       const struct ls__snap_message *question);
void ls__snap_drop_asks(struct ls__snap_provider *provider, const struct ls_peer_id *peer);
/** Decides whether the group is busy. */
void ls__snap_look_at_load(struct ls__snap_provider *provider, uint64_t now);
/** Sends what may be sent now, and makes a part of the tables that were asked for. */
void ls__snap_serve(struct ls__snap_provider *provider, uint64_t now);
void ls__snap_release_memory(struct ls__snap_provider *provider);

/* ---- the session's insides ------------------------------------------------------------------- */

enum ls__snap_state {
    LS__SNAP_SELECTING = 1, /* an anchor */
    LS__SNAP_COMPARING = 2, /* tables of its sources */
    LS__SNAP_BEGINNING = 3, /* effect under way */
    LS__SNAP_FETCHING = 4,
    LS__SNAP_PUBLISHING = 5, /* effect under way */
    LS__SNAP_PUBLISHED = 6
};

struct ls__snap_peer {
    struct ls_peer_id id;
    bool bonded;
    bool offers; /* what follows */
    struct ls_cursor anchor;
    uint64_t items, bytes;
    uint64_t ask_us;    /* no request before */
    uint64_t pause_us;  /* between the last two */
    uint32_t alone;     /* times it was asked to freeze alone */
    uint64_t avoid_us;  /* nothing is asked before */
    uint64_t order;     /* slow ones go to the end */
    uint64_t question;  /* id of the one about its table; 0: none */
    uint64_t answer_us; /* ... due then */
    uint64_t again_us;  /* its table is asked for again then; 0: not */
    uint32_t prepared;  /* rows of it that are made */
    bool voted;         /* its table adds up to: */
    struct ls_hash root;
    uint32_t in_flight; /* chunks */
};

struct ls__fetch {
    uint64_t id;
    uint32_t chunk;
    struct ls_peer_id peer;
    uint64_t deadline_us;
};
#define LS__SNAP_FETCHES_MAX 64u

/* A chunk on its way to the staging area. */
struct ls__held_chunk {
    struct ls__held_chunk *next;
    uint64_t token; /* 0: not asked for yet */
    uint32_t chunk;
    size_t bytes;
    uint8_t data[];
};

enum ls__chunk_state { LS__CHUNK_MISSING = 0, LS__CHUNK_ASKED, LS__CHUNK_HELD, LS__CHUNK_STAGED };

struct ls__snap_session {
    struct ls_session_context context;
    struct ls__snap_limits limits;
    enum ls__snap_state state;
    uint64_t attempt, last_id, last_order;
    ls_index from, target;
    struct ls_value *values; /* LS__SNAP_VALUES_MAX */
    uint8_t *room;           /* for questions */

    struct ls__snap_peer peers[LS_MEMBERS_MAX];
    uint32_t peers_count;
    uint64_t first_offer_us; /* 0: none yet */
    uint64_t alone_us;       /* then a peer is asked to freeze alone */
    uint64_t keep_us;        /* then those that offer the anchor are told that it is needed on */

    struct ls_snapshot snapshot; /* anchor, items and bytes as chosen; the rest from the table */
    uint8_t *configuration;      /* owned */
    struct ls_peer_id source;    /* whose table it is; zero: none */
    struct ls__table table;
    uint64_t begin_us; /* the staging area was in use: it does not begin before */
    uint64_t token;    /* BEGINNING, PUBLISHING */
    uint8_t *chunks;   /* enum ls__chunk_state of each */
    uint32_t next;     /* none below is missing */
    uint32_t staged;   /* count */
    uint64_t staged_items, staged_bytes;

    struct ls__fetch fetches[LS__SNAP_FETCHES_MAX];
    uint32_t fetches_count;
    struct ls__held_chunk *held;
    uint64_t buffered;  /* bytes asked for and held */
    uint64_t memory_us; /* allocation was refused: nothing is asked before */
    struct ls__snap_load load;
    uint64_t credit_us; /* busy: nothing is asked before */
    uint64_t prepared;  /* rows of tables that sources made while they were asked for them */
    const char *waits;  /* SELECTING: what for */
    const char *failed;
};

static inline uint64_t ls__snap_now(const struct ls__snap_session *session)
{
    return session->context.base.now_us(session->context.base.self);
}

struct ls__snap_peer *ls__snap_find_peer(struct ls__snap_session *session,
                                         const struct ls_peer_id *id);
bool ls__snap_leads(const struct ls__snap_session *session, const struct ls__snap_peer *peer);
/** Bonded, offers the anchor in use, and may be asked now. */
bool ls__snap_serves(const struct ls__snap_session *session, const struct ls__snap_peer *peer,
                     uint64_t now);
/** A wrong answer: left alone for a while, longer after the third. */
void ls__snap_strike(struct ls__snap_session *session, struct ls__snap_peer *peer,
                     const char *reason);
/** Has nothing of the anchor any more. */
void ls__snap_withdraw(struct ls__snap_session *session, struct ls__snap_peer *peer);
enum ls_status ls__snap_ask(struct ls__snap_session *session, struct ls__snap_peer *peer,
                            struct ls__snap_message *question);
/** Back to the choice of an anchor; what is staged stays. */
void ls__snap_restart(struct ls__snap_session *session, const char *reason);

/* snapshot_select.c */
void ls__snap_select(struct ls__snap_session *session, uint64_t now);
void ls__snap_compare(struct ls__snap_session *session, uint64_t now);
enum ls_sync_verdict ls__snap_take_offer(struct ls__snap_session *session,
                                         struct ls__snap_peer *peer,
                                         const struct ls__snap_message *answer);
enum ls_sync_verdict ls__snap_take_table(struct ls__snap_session *session,
                                         struct ls__snap_peer *peer,
                                         const struct ls__snap_message *answer);

/* snapshot_fetch.c */
/** The staging area took the snapshot in: what is there already? */
void ls__snap_look(struct ls__snap_session *session);
void ls__snap_fetch(struct ls__snap_session *session, uint64_t now);
enum ls_sync_verdict ls__snap_take_chunk(struct ls__snap_session *session,
                                         struct ls__snap_peer *peer,
                                         const struct ls__snap_message *answer);
/** What was asked of the peer goes to others. */
void ls__snap_release(struct ls__snap_session *session, struct ls__snap_peer *peer);
void ls__snap_put_done(struct ls__snap_session *session, uint64_t token, enum ls_status status);
void ls__snap_fetch_clear(struct ls__snap_session *session);

#endif
