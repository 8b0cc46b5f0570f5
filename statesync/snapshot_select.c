/* SPDX-License-Identifier: MIT */
/*
 * Which snapshot a session fetches. First the anchor: the one that most peers offer alike. Then the
 * table of its chunks: two sources make one each, never the leader while others can, and must
 * agree; when they do not, all others are asked, the majority counts, and on a tie the leader. A
 * member that differs from it has diverged and is not asked again.
 */
#include "snapshot_sync.h"

/* between two requests to a peer that offers nothing yet: doubled each time */
#define ASK_US_MIN 100000u
#define ASK_US_MAX 2000000u
/* offers of one marker come together: after the first, others are waited for this part of the
 * marker's time */
#define SETTLE_DIVISOR 10u
/* a table that is being made is asked for again after so long */
#define WORKING_US 10000u

static struct ls__note note_of(const struct ls__snap_session *session,
                               const struct ls_peer_id *peer)
{
    const struct ls_sync_context *base = &session->context.base;
    return (struct ls__note){base->env, &base->group, peer, NULL};
}

/* ---- anchors --------------------------------------------------------------------------------- */

enum ls_sync_verdict ls__snap_take_offer(struct ls__snap_session *session,
                                         struct ls__snap_peer *peer,
                                         const struct ls__snap_message *answer)
{
    if (answer->anchor.index == 0) {
        return LS_SYNC_OK;
    }
    const struct ls_snapshot *chosen = &session->snapshot;
    bool other = ls_cursor_compare(answer->anchor, chosen->anchor) != 0 ||
                 answer->items != chosen->items || answer->bytes != chosen->bytes;
    if (session->state != LS__SNAP_SELECTING && other) {
        return LS_SYNC_IGNORE; /* of use when the chosen one turns out to be of none */
    }
    if (peer->offers && ls_cursor_compare(peer->anchor, answer->anchor) == 0 &&
        (peer->items != answer->items || peer->bytes != answer->bytes)) {
        ls__snap_strike(session, peer, "two offers of one anchor that differ");
        ls__snap_withdraw(session, peer);
        return LS_SYNC_INVALID;
    }
    peer->offers = true;
    peer->anchor = answer->anchor;
    peer->items = answer->items;
    peer->bytes = answer->bytes;
    if (session->first_offer_us == 0) {
        session->first_offer_us = ls__snap_now(session);
    }
    return LS_SYNC_OK;
}

static void request(struct ls__snap_session *session, struct ls__snap_peer *peer, bool alone,
                    uint64_t now)
{
    const struct ls_sync_context *base = &session->context.base;
    const ls_index need = LS_MUTANT(S4) ? 1 : base->committed(base->self).index + 1;
    const struct ls__snap_message question = {
        .kind = LS__SNAP_REQUEST, .attempt = session->attempt, .need = need, .alone = alone};
    (void)ls__snap_send(base, &peer->id, &question, session->room, LS__SNAP_HEAD_BYTES);
    peer->pause_us = peer->pause_us == 0 ? ASK_US_MIN : 2 * peer->pause_us;
    peer->pause_us = peer->pause_us < ASK_US_MAX ? peer->pause_us : ASK_US_MAX;
    peer->ask_us = now + peer->pause_us;
}

/* Is `a` to be asked to freeze alone before `b`? The leader once all others were asked. */
static bool alone_before(const struct ls__snap_session *session, const struct ls__snap_peer *a,
                         const struct ls__snap_peer *b)
{
    if (a->alone != b->alone) {
        return a->alone < b->alone;
    }
    bool leads = ls__snap_leads(session, a);
    return leads != ls__snap_leads(session, b) ? !leads : a->order < b->order;
}

/* Nobody has an anchor and no marker comes: somebody freezes alone. */
static void request_alone(struct ls__snap_session *session, uint64_t now)
{
    struct ls__snap_peer *chosen = NULL;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        struct ls__snap_peer *peer = &session->peers[i];
        if (peer->bonded && now >= peer->avoid_us &&
            (chosen == NULL || alone_before(session, peer, chosen))) {
            chosen = peer;
        }
    }
    session->alone_us = now + session->limits.marker_us;
    if (chosen != NULL) {
        chosen->alone++;
        request(session, chosen, true, now);
    }
}

static bool same_offer(const struct ls__snap_peer *a, const struct ls__snap_peer *b)
{
    return ls_cursor_compare(a->anchor, b->anchor) == 0 && a->items == b->items &&
           a->bytes == b->bytes;
}

/* An anchor that may be installed: above what is here, and committed as far as a leader told. */
static bool fits(const struct ls__snap_session *session, const struct ls__snap_peer *peer,
                 uint64_t now)
{
    const struct ls_sync_context *base = &session->context.base;
    return peer->bonded && peer->offers && now >= peer->avoid_us &&
           (peer->anchor.index > base->committed(base->self).index || LS_MUTANT(S4)) &&
           peer->anchor.index <= session->target;
}

/* How much speaks for the offer of `peer`: the number of equal ones, then the leader's word. */
static uint32_t weight(const struct ls__snap_session *session, const struct ls__snap_peer *peer,
                       uint64_t now)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        const struct ls__snap_peer *other = &session->peers[i];
        if (fits(session, other, now) && same_offer(peer, other)) {
            sum += ls__snap_leads(session, other) ? 3u : 2u;
        }
    }
    return sum;
}

static const struct ls__snap_peer *best_offer(const struct ls__snap_session *session, uint64_t now)
{
    const struct ls__snap_peer *best = NULL;
    uint32_t best_weight = 0;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        const struct ls__snap_peer *peer = &session->peers[i];
        if (!fits(session, peer, now)) {
            continue;
        }
        uint32_t own = weight(session, peer, now);
        if (best == NULL || own > best_weight ||
            (own == best_weight && peer->anchor.index > best->anchor.index)) {
            best = peer;
            best_weight = own;
        }
    }
    return best;
}

static void choose(struct ls__snap_session *session, const struct ls__snap_peer *best)
{
    session->snapshot =
        (struct ls_snapshot){.anchor = best->anchor, .items = best->items, .bytes = best->bytes};
    session->source = (struct ls_peer_id){{0}};
    session->state = LS__SNAP_COMPARING;
    session->keep_us = 0;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        struct ls__snap_peer *peer = &session->peers[i];
        peer->voted = false;
        peer->prepared = 0;
        peer->question = peer->again_us = 0;
        if (!peer->offers || same_offer(peer, best)) {
            continue;
        }
        if (ls_cursor_compare(peer->anchor, best->anchor) == 0) {
            ls__snap_strike(session, peer, "diverged: it counts otherwise at this anchor");
        }
        ls__snap_withdraw(session, peer);
    }
    const struct ls__note note = note_of(session, NULL);
    ls__note(&note, LS_TRACE_INFO, "the snapshot at {^} is chosen, {} bytes", best->anchor.term,
             best->anchor.index, best->bytes);
}

void ls__snap_select(struct ls__snap_session *session, uint64_t now)
{
    const struct ls_sync_context *base = &session->context.base;
    bool all_offer = true;
    bool others =
        false; /* ... and not the leader alone, which may only be the first to be bonded */
    bool bonded = false;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        struct ls__snap_peer *peer = &session->peers[i];
        if (!peer->bonded || now < peer->avoid_us) {
            continue;
        }
        bonded = true;
        all_offer = all_offer && fits(session, peer, now);
        others = others || !ls__snap_leads(session, peer);
        bool behind = peer->anchor.index <= base->committed(base->self).index;
        bool stale = !peer->offers || (behind && !LS_MUTANT(S4));
        if (stale && now >= peer->ask_us) {
            request(session, peer, false, now);
        }
        if (stale) {
            base->wake_at(base->self, peer->ask_us);
        }
    }
    const struct ls__snap_peer *best = best_offer(session, now);
    uint64_t settled = session->first_offer_us + session->limits.marker_us / SETTLE_DIVISOR;
    if (best != NULL && ((all_offer && others) || now >= settled)) {
        choose(session, best);
        ls__snap_compare(session, now);
        return;
    }
    if (best != NULL) {
        base->wake_at(base->self, settled);
    } else if (bonded && now >= session->alone_us) {
        request_alone(session, now);
    }
    if (bonded) {
        base->wake_at(base->self, session->alone_us);
    }
    session->waits = bonded ? "no peer offers a snapshot yet" : "no peer is bonded";
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* Asks for the next page of its table, or for what it adds up to. */
static void ask_table(struct ls__snap_session *session, struct ls__snap_peer *peer, uint64_t now)
{
    bool whole = ls_peer_id_equal(&peer->id, &session->source);
    struct ls__snap_message question = {.kind = LS__SNAP_TABLE_ASK,
                                        .anchor = session->snapshot.anchor,
                                        .chunk = whole ? session->table.count : 0,
                                        .count = whole ? LS__SNAP_ROWS_MAX : 0};
    if (ls__snap_ask(session, peer, &question) == LS_OK) {
        peer->again_us = 0;
        peer->question = question.id;
        peer->answer_us = now + session->limits.timeout_us;
        session->context.base.wake_at(session->context.base.self, peer->answer_us);
    }
}

static bool count_votes(const struct ls__snap_session *session, const struct ls_hash *root,
                        uint32_t *votes)
{
    bool leads = false;
    *votes = 0;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        const struct ls__snap_peer *peer = &session->peers[i];
        if (peer->offers && peer->voted && ls_hash_equal(&peer->root, root)) {
            (*votes)++;
            leads = leads || ls__snap_leads(session, peer);
        }
    }
    return leads;
}

/* The root that counts, as one of its voters; NULL: undecided, and nobody is left to ask. */
static const struct ls__snap_peer *elect(const struct ls__snap_session *session)
{
    const struct ls__snap_peer *best = NULL;
    uint32_t best_votes = 0;
    bool best_leads = false;
    bool tie = false;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        const struct ls__snap_peer *peer = &session->peers[i];
        uint32_t votes = 0;
        if (!peer->offers || !peer->voted ||
            (best != NULL && ls_hash_equal(&peer->root, &best->root))) {
            continue;
        }
        bool leads = count_votes(session, &peer->root, &votes);
        if (best != NULL && votes == best_votes && leads == best_leads) {
            tie = true;
        } else if (best == NULL || votes > best_votes || (votes == best_votes && leads)) {
            best = peer;
            best_votes = votes;
            best_leads = leads;
            tie = false;
        }
    }
    return tie ? NULL : best;
}

/* Those whose table differs from what counts. */
static void expel(struct ls__snap_session *session, const struct ls_hash *root)
{
    for (uint32_t i = 0; i < session->peers_count; i++) {
        struct ls__snap_peer *peer = &session->peers[i];
        if (peer->offers && peer->voted && !ls_hash_equal(&peer->root, root)) {
            ls__snap_strike(session, peer, "diverged: its state differs at this anchor");
            ls__snap_withdraw(session, peer);
        }
    }
}

static void begin(struct ls__snap_session *session)
{
    session->snapshot.chunks = session->table.count;
    session->token = session->context.begin(session->context.base.self, &session->snapshot,
                                            session->table.hashes);
    if (session->token != 0) {
        session->state = LS__SNAP_BEGINNING;
    } else {
        session->context.base.wake_at(session->context.base.self,
                                      ls__snap_now(session) + WORKING_US);
    }
}

/* All sources have voted: whose table counts? */
static void decide(struct ls__snap_session *session, uint64_t now)
{
    const struct ls__snap_peer *winner = elect(session);
    if (winner == NULL) {
        ls__snap_restart(session, "the members' states differ at this anchor");
        return;
    }
    const struct ls_hash root = winner->root;
    const struct ls_peer_id id = winner->id;
    expel(session, &root);
    struct ls__snap_peer *source = ls__snap_find_peer(session, &session->source);
    bool right = source != NULL && source->offers && source->voted &&
                 ls_hash_equal(&session->snapshot.root, &root);
    if (right) {
        begin(session);
        return;
    }
    ls__table_clear(&session->table); /* it was that of another */
    session->source = id;
    struct ls__snap_peer *peer = ls__snap_find_peer(session, &id);
    peer->voted = false;
    ask_table(session, peer, now);
}

/* Who of those that offer the anchor is asked for its table next; the leader last. */
static struct ls__snap_peer *next_source(struct ls__snap_session *session, uint64_t now)
{
    struct ls__snap_peer *chosen = NULL;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        struct ls__snap_peer *peer = &session->peers[i];
        if (!ls__snap_serves(session, peer, now) || peer->voted || peer->question != 0 ||
            peer->again_us != 0) {
            continue;
        }
        bool worse =
            chosen != NULL && (ls__snap_leads(session, peer) ||
                               (!ls__snap_leads(session, chosen) && chosen->order < peer->order));
        chosen = worse ? chosen : peer;
    }
    return chosen;
}

struct tally {
    uint32_t offering, voted, asked;
    bool differ;
};

static struct tally look(struct ls__snap_session *session, uint64_t now)
{
    struct tally tally = {0, 0, 0, false};
    const struct ls__snap_peer *first = NULL;
    const struct ls_sync_context *base = &session->context.base;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        struct ls__snap_peer *peer = &session->peers[i];
        if (!peer->bonded || !peer->offers) {
            continue;
        }
        if (peer->question != 0 && now >= peer->answer_us) {
            peer->order = ++session->last_order;
            ls__snap_withdraw(session, peer); /* too slow: offers again when it can */
            continue;
        }
        tally.offering++;
        if (peer->again_us != 0 && now >= peer->again_us) {
            ask_table(session, peer, now);
        }
        if (peer->question != 0 || peer->again_us != 0) {
            tally.asked++;
            base->wake_at(base->self, peer->question != 0 ? peer->answer_us : peer->again_us);
        }
        if (peer->voted) {
            tally.voted++;
            tally.differ =
                tally.differ || (first != NULL && !ls_hash_equal(&first->root, &peer->root));
            first = first == NULL ? peer : first;
        }
    }
    return tally;
}

void ls__snap_compare(struct ls__snap_session *session, uint64_t now)
{
    struct ls__snap_peer *source = ls__snap_find_peer(session, &session->source);
    if (source == NULL || !source->bonded || !source->offers) {
        ls__table_clear(&session->table);
        session->source = (struct ls_peer_id){{0}};
        source = NULL;
    }
    struct tally tally = look(session, now);
    if (tally.offering == 0) {
        ls__snap_restart(session, "nobody offers the snapshot any more");
        return;
    }
    uint32_t wanted = tally.differ ? tally.offering : LS_SNAPSHOT_SOURCES;
    /* the leader makes no table while two others can */
    while (tally.voted + tally.asked < wanted) {
        struct ls__snap_peer *peer = next_source(session, now);
        bool needed = peer != NULL && (tally.voted + tally.asked == 0 || tally.differ ||
                                       !ls__snap_leads(session, peer));
        if (!needed) {
            break;
        }
        session->source = source == NULL ? peer->id : session->source;
        source = source == NULL ? peer : source;
        ask_table(session, peer, now);
        if (peer->question == 0) {
            break; /* its queue is full */
        }
        tally.asked++;
    }
    if (tally.asked == 0 && tally.voted > 0 && now < session->begin_us) {
        session->context.base.wake_at(session->context.base.self, session->begin_us);
    } else if (tally.asked == 0 && tally.voted > 0) {
        decide(session, now);
    } else if (tally.asked == 0) {
        session->context.base.wake_at(session->context.base.self, now + WORKING_US);
    }
}

static const char *table_invalid(const struct ls__snap_session *session,
                                 const struct ls__snap_message *answer)
{
    uint64_t smallest = session->snapshot.items == 0 ? 0 : 1;
    if (answer->configuration_index == 0 ||
        answer->configuration_index > session->snapshot.anchor.index || answer->data.bytes == 0) {
        return "a table without a configuration";
    }
    if (answer->chunks < smallest || answer->chunks > session->snapshot.items) {
        return "a table that cannot hold what was offered";
    }
    return NULL;
}

/* Keeps what the first page says of the whole; later ones must say the same. */
static const char *take_whole(struct ls__snap_session *session,
                              const struct ls__snap_message *answer)
{
    struct ls_snapshot *snapshot = &session->snapshot;
    if (session->table.count > 0) {
        return snapshot->chunks == answer->chunks && ls_hash_equal(&snapshot->root, &answer->root)
                   ? NULL
                   : "pages of different tables";
    }
    snapshot->chunks = answer->chunks;
    snapshot->root = answer->root;
    snapshot->configuration_index = answer->configuration_index;
    memcpy(session->configuration, answer->data.data, answer->data.bytes);
    snapshot->configuration = (struct ls_span){session->configuration, answer->data.bytes};
    return NULL;
}

/* Adds the rows of a page. LS_ERR_PROTOCOL: they cannot be right. */
static enum ls_status take_rows(struct ls__snap_session *session,
                                const struct ls__snap_message *answer)
{
    struct ls__table *table = &session->table;
    const struct ls_value *row = answer->rows;
    size_t chunk_bytes = ls_snapshot_chunk_bytes(session->snapshot.bytes);
    for (uint32_t i = 0; i < answer->count; i++, row += 4) {
        uint64_t items = row[1].as.number;
        uint64_t bytes = row[2].as.number;
        uint64_t whole = bytes + items * LS_ITEM_HEAD_BYTES;
        if (whole > (items > 1 ? chunk_bytes : LS_ITEM_BYTES_MAX)) {
            return LS_ERR_PROTOCOL;
        }
        struct ls_hash hash;
        memcpy(hash.bytes, row[0].as.bytes.data, sizeof hash.bytes);
        enum ls_status status =
            ls__table_add(table, &hash, (uint32_t)items, (uint32_t)bytes, row[3].as.bytes);
        if (status != LS_OK) {
            return status == LS_ERR_LIMIT ? LS_ERR_PROTOCOL : status;
        }
    }
    return LS_OK;
}

/* The table is whole: does it add up? */
static bool adds_up(const struct ls__snap_session *session)
{
    const struct ls_snapshot *snapshot = &session->snapshot;
    const struct ls__table *table = &session->table;
    struct ls_hash root = ls_snapshot_root(session->context.base.env, snapshot, table->hashes);
    return table->items == snapshot->items && table->bytes == snapshot->bytes &&
           (LS_MUTANT(S12_ROOT) || ls_hash_equal(&root, &snapshot->root));
}

static const char *take_page(struct ls__snap_session *session, struct ls__snap_peer *peer,
                             const struct ls__snap_message *answer)
{
    const char *reason = take_whole(session, answer);
    if (reason != NULL) {
        return reason;
    }
    if (answer->chunk != session->table.count ||
        (answer->count == 0 && answer->chunks > session->table.count)) {
        return "a page of a table from another place than asked";
    }
    enum ls_status status = take_rows(session, answer);
    if (status == LS_ERR_NO_MEMORY) {
        ls__table_clear(&session->table);
        session->source = (struct ls_peer_id){{0}};
        return NULL;
    }
    if (status != LS_OK) {
        return "a row that cannot be";
    }
    if (session->table.count == answer->chunks) {
        peer->voted = adds_up(session);
        peer->root = answer->root;
        return peer->voted ? NULL : "a table that does not add up to what was offered";
    }
    peer->again_us = ls__snap_now(session); /* the next page */
    return NULL;
}

enum ls_sync_verdict ls__snap_take_table(struct ls__snap_session *session,
                                         struct ls__snap_peer *peer,
                                         const struct ls__snap_message *answer)
{
    if (peer->question == 0 || answer->id != peer->question) {
        bool asked = answer->id != 0 && answer->id <= session->last_id;
        if (!asked) {
            ls__snap_strike(session, peer, "an answer to nothing that was asked");
        }
        return asked ? LS_SYNC_IGNORE : LS_SYNC_INVALID;
    }
    if (answer->kind == LS__SNAP_WORKING) {
        peer->question = 0;
        peer->again_us = ls__snap_now(session) + WORKING_US;
        if (answer->chunks > peer->prepared) {
            session->prepared += answer->chunks - peer->prepared;
            peer->prepared = answer->chunks;
        }
        return LS_SYNC_OK;
    }
    peer->question = 0;
    const char *reason = table_invalid(session, answer);
    if (reason == NULL && ls_peer_id_equal(&peer->id, &session->source)) {
        reason = take_page(session, peer, answer);
    } else if (reason == NULL) {
        peer->voted = true;
        peer->root = answer->root;
    }
    if (reason != NULL) {
        if (ls_peer_id_equal(&peer->id, &session->source)) {
            ls__table_clear(&session->table);
            session->source = (struct ls_peer_id){{0}};
        }
        ls__snap_strike(session, peer, reason);
        ls__snap_withdraw(session, peer);
        return LS_SYNC_INVALID;
    }
    return LS_SYNC_OK;
}
