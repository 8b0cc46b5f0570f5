/* SPDX-License-Identifier: MIT */
/*
 * Whom log replay asks for what, in every small world: a gap of a few entries, three peers that
 * each hold any range of it or nothing, have not said yet or are avoided, the first, the last or
 * nobody being the leader, every size of range and window. After each planning, and again after
 * every outcome of what was asked: no index is asked of two, each only of a peer that said it has
 * it, of the leader only what nobody else has, nothing above the goal, and nothing that somebody
 * free could serve is left out.
 */
#include "log_replay.h"
#include "test.h"

#include <stdlib.h>

#define TARGET 4u
#define PEERS  3u
#define NOW    1000000u
#define NOBODY PEERS

struct asked {
    ls_index first, last;
    uint32_t peer;
    uint64_t id;
};

struct plan {
    struct ls__replay_session session;
    struct ls_env env;
    uint32_t leader;
    uint32_t refuses; /* a peer whose queue is full; NOBODY */
    struct asked asked[64];
    uint32_t count;
    uint32_t questions; /* for availability */
};

static void *plan_allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, bytes);
}

static enum ls_status plan_send(void *self, const struct ls_peer_id *peer, struct ls_span bytes)
{
    struct plan *plan = self;
    struct ls_value values[16];
    struct ls__replay_message message;
    uint32_t at = peer->bytes[0] - 1u;
    assert_true(at < PEERS);
    if (at == plan->refuses) {
        return LS_ERR_BUSY;
    }
    assert_null(ls__replay_decode(&plan->env.codec, bytes, values, 16, &message));
    if (message.kind == LS__REPLAY_FETCH) {
        assert_true(message.attempt == plan->session.attempt);
        assert_true(message.need == plan->session.handed.index + 1);
        plan->asked[plan->count++] = (struct asked){message.first, message.last, at, message.id};
    } else {
        assert_true(message.kind == LS__REPLAY_AVAILABILITY_REQUEST);
        plan->questions++;
    }
    return LS_OK;
}

static uint64_t plan_now(void *self)
{
    (void)self;
    return NOW;
}

static bool plan_leader(void *self, struct ls_peer_id *out)
{
    const struct plan *plan = self;
    *out = (struct ls_peer_id){.bytes = {(uint8_t)(plan->leader + 1)}};
    return plan->leader != NOBODY;
}

/* What a peer is like: a range in [1, TARGET + 1], nothing held, not said yet, or avoided. */
enum { RANGES = (TARGET + 1) * (TARGET + 2) / 2, EMPTY = RANGES, UNSAID, AVOIDED, LIKES };

static void make_peer(struct ls__replay_peer *peer, uint32_t at, uint32_t like)
{
    *peer = (struct ls__replay_peer){.id = {{(uint8_t)(at + 1)}},
                                     .bonded = true,
                                     .known = like != UNSAID,
                                     .first = 1,
                                     .last = 0,
                                     .asked = like == UNSAID,
                                     .asked_us = NOW,
                                     .ask_us = UINT64_MAX,
                                     .order = at + 1};
    uint32_t number = 0;
    for (ls_index first = 1; first <= TARGET + 1; first++) {
        for (ls_index last = first; last <= TARGET + 1; last++) {
            if (number++ == like || (like == AVOIDED && first == 1)) {
                peer->first = first;
                peer->last = last;
            }
        }
    }
    peer->avoid_us = like == AVOIDED ? NOW + 1 : 0;
}

static void make(struct plan *plan, const uint32_t likes[PEERS], uint32_t leader,
                 uint32_t entries_max, uint32_t window)
{
    memset(plan, 0, sizeof *plan);
    plan->leader = leader;
    plan->refuses = NOBODY;
    plan->env = (struct ls_env){
        .size = sizeof plan->env, .allocate = plan_allocate, .codec = ls_env_default()->codec};
    struct ls__replay_session *session = &plan->session;
    session->context.base.self = plan;
    session->context.base.env = &plan->env;
    session->context.base.now_us = plan_now;
    session->context.base.send_to = plan_send;
    session->context.leader = plan_leader;
    session->limits = ls__replay_limits(NULL);
    session->limits.entries_max = entries_max;
    session->limits.window = window;
    session->arenas.env = &plan->env;
    session->attempt = 7;
    session->target = TARGET;
    session->peers_count = PEERS;
    for (uint32_t i = 0; i < PEERS; i++) {
        make_peer(&session->peers[i], i, likes[i]);
    }
}

static bool holds(const struct plan *plan, uint32_t at, ls_index index)
{
    const struct ls__replay_peer *peer = &plan->session.peers[at];
    return peer->bonded && peer->known && peer->avoid_us <= NOW && peer->first <= index &&
           index <= peer->last && at != plan->refuses;
}

static bool others_hold(const struct plan *plan, ls_index index)
{
    for (uint32_t i = 0; i < PEERS; i++) {
        if (i != plan->leader && holds(plan, i, index)) {
            return true;
        }
    }
    return false;
}

static bool somebody_undecided(const struct plan *plan)
{
    for (uint32_t i = 0; i < PEERS; i++) {
        const struct ls__replay_peer *peer = &plan->session.peers[i];
        if (i != plan->leader && peer->bonded && peer->asked) {
            return true;
        }
    }
    return false;
}

/* Could anybody send the entry that comes next, now or later? What would follow a hole may never be
 * of use. */
static bool next_is_held(const struct plan *plan)
{
    ls_index next = plan->session.handed.index + 1;
    for (uint32_t i = 0; i < PEERS; i++) {
        const struct ls__replay_peer *peer = &plan->session.peers[i];
        if (peer->bonded && peer->known && peer->first <= next && next <= peer->last) {
            return true;
        }
    }
    return false;
}

/* The requests of this planning, each by itself. */
static void check_asked(const struct plan *plan)
{
    const struct ls__replay_session *session = &plan->session;
    assert_true(plan->count == 0 || next_is_held(plan));
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct asked *asked = &plan->asked[i];
        assert_true(asked->first > session->handed.index && asked->first <= asked->last);
        assert_true(asked->last <= ls__replay_goal(session));
        assert_true(asked->last - asked->first < session->limits.entries_max);
        for (ls_index index = asked->first; index <= asked->last; index++) {
            assert_true(holds(plan, asked->peer, index));
            assert_true(asked->peer != plan->leader || !others_hold(plan, index));
        }
        assert_true(asked->peer != plan->leader || !somebody_undecided(plan));
    }
}

/* What the session keeps track of, as a whole: each index once, and nothing left out. */
static void check_cover(const struct plan *plan)
{
    const struct ls__replay_session *session = &plan->session;
    uint32_t in_flight[PEERS] = {0};
    uint32_t cover[TARGET + 2] = {0};
    for (uint32_t i = 0; i < session->ranges_count; i++) {
        const struct ls__replay_range *range = &session->ranges[i];
        assert_true(i == 0 || session->ranges[i - 1].last < range->first);
        in_flight[range->peer.bytes[0] - 1] += range->state == LS__RANGE_ASKED;
        for (ls_index index = range->first; index <= range->last; index++) {
            cover[index]++;
        }
    }
    for (uint32_t i = 0; i < PEERS; i++) {
        assert_true(session->peers[i].in_flight == in_flight[i]);
        assert_true(in_flight[i] <= session->limits.window);
    }
    for (ls_index index = 1; index <= TARGET + 1; index++) {
        assert_true(cover[index] <= 1);
        bool open = index > session->handed.index && index <= ls__replay_goal(session) &&
                    cover[index] == 0 && next_is_held(plan);
        for (uint32_t i = 0; open && i < PEERS; i++) {
            bool may =
                i != plan->leader || (!others_hold(plan, index) && !somebody_undecided(plan));
            assert_false(may && holds(plan, i, index) && in_flight[i] < session->limits.window);
        }
    }
}

static uint64_t plannings, requests, of_leader;

static void fetch(struct plan *plan)
{
    plan->count = 0;
    ls__replay_fetch(&plan->session, NOW);
    plannings++;
    requests += plan->count;
    for (uint32_t i = 0; i < plan->count; i++) {
        of_leader += plan->asked[i].peer == plan->leader;
    }
    check_asked(plan);
    check_cover(plan);
}

/* ---- what becomes of requests ---- */

enum outcome { PENDING, ANSWERED, ANSWERED_IN_PART, TIMED_OUT, PEER_GONE, OUTCOMES };

static void happen(struct plan *plan, const struct asked *asked, enum outcome outcome)
{
    struct ls__replay_session *session = &plan->session;
    struct ls__replay_peer *peer = &session->peers[asked->peer];
    uint32_t at = 0;
    while (at < session->ranges_count && session->ranges[at].id != asked->id) {
        at++;
    }
    if (at == session->ranges_count) {
        assert_false(peer->bonded); /* it took all its requests along */
        return;
    }
    struct ls__replay_range *range = &session->ranges[at];
    switch (outcome) {
    case ANSWERED_IN_PART:
        range->last = range->first;
        /* fall through */
    case ANSWERED:
        range->state = LS__RANGE_FETCHED;
        peer->in_flight--;
        break;
    case TIMED_OUT:
        range->deadline_us = NOW;
        break;
    case PEER_GONE:
        ls__replay_release(session, peer);
        peer->bonded = peer->known = false;
        break;
    case PENDING:
    case OUTCOMES:
        break;
    }
}

/* Every outcome of what was just asked, each in a copy of this world; then it is planned again. */
static void explore_outcomes(const struct plan *plan)
{
    static struct plan next;
    uint32_t combinations = 1;
    uint32_t considered = plan->count < 3 ? plan->count : 3;
    for (uint32_t i = 0; i < considered; i++) {
        combinations *= OUTCOMES;
    }
    for (uint32_t number = 0; number < combinations; number++) {
        next = *plan;
        next.session.context.base.self = &next;
        next.session.context.base.env = next.session.arenas.env = &next.env;
        uint32_t rest = number;
        for (uint32_t i = 0; i < considered; i++, rest /= OUTCOMES) {
            happen(&next, &plan->asked[i], (enum outcome)(rest % OUTCOMES));
        }
        fetch(&next);
    }
}

static void explore(uint32_t leader, uint32_t entries_max, uint32_t window, bool outcomes)
{
    static struct plan plan;
    for (uint32_t world = 0; world < LIKES * LIKES * LIKES; world++) {
        uint32_t likes[PEERS] = {world % LIKES, world / LIKES % LIKES, world / LIKES / LIKES};
        make(&plan, likes, leader, entries_max, window);
        fetch(&plan);
        if (outcomes) {
            explore_outcomes(&plan);
        }
        fetch(&plan);
        assert_int_equal(plan.count, 0); /* nothing is asked twice */
    }
}

TEST(replay_plan, every_index_is_asked_once_of_one_who_has_it_and_of_the_leader_last)
{
    static const uint32_t leaders[] = {0, PEERS - 1, NOBODY};
    for (size_t i = 0; i < sizeof leaders / sizeof leaders[0]; i++) {
        for (uint32_t entries_max = 1; entries_max <= TARGET; entries_max++) {
            for (uint32_t window = 1; window <= 3; window++) {
                explore(leaders[i], entries_max, window, false);
            }
        }
    }
    assert_true(plannings > 200000 && requests > plannings / 2 && of_leader > 1000);
}

TEST(replay_plan, whatever_becomes_of_the_requests_the_rest_is_asked_again_and_only_that)
{
    explore(0, 1, 2, true);
    explore(PEERS - 1, 2, 1, true);
}

/* While requests are under way two peers say that they hold something else now. */
TEST(replay_plan, what_peers_say_later_decides_about_what_is_not_asked_yet)
{
    static struct plan plan;
    for (uint32_t world = 0; world < LIKES * LIKES * LIKES * LIKES; world++) {
        uint32_t likes[PEERS] = {TARGET, world % LIKES, world / LIKES % LIKES};
        uint32_t later[PEERS] = {TARGET, world / (LIKES * LIKES) % LIKES,
                                 world / (LIKES * LIKES * LIKES)};
        make(&plan, likes, 0, 1, 1);
        assert_true(plan.session.peers[0].last == TARGET + 1); /* the leader holds all */
        fetch(&plan);
        for (uint32_t i = 1; i < PEERS; i++) {
            struct ls__replay_peer *peer = &plan.session.peers[i];
            uint32_t in_flight = peer->in_flight;
            make_peer(peer, i, later[i]);
            peer->in_flight = in_flight;
        }
        fetch(&plan);
    }
}

/* The log has a part already, and another part came from the leader while all of it was asked. */
static void shrink(struct plan *plan, const uint32_t likes[PEERS], ls_index handed, ls_index run)
{
    struct ls__replay_session *session = &plan->session;
    for (uint32_t released = 0; released < PEERS; released++) {
        make(plan, likes, 0, 2, 2);
        plan->refuses = (uint32_t)(handed + run) % (PEERS + 1);
        session->handed = session->solid = (struct ls_cursor){1, handed};
        fetch(plan);
        ls__replay_release(session, &session->peers[released]);
        struct ls__arena *arena = ls__arena_take(&session->arenas, 1);
        assert_non_null(arena);
        session->run = (struct ls__run){.term = 1,
                                        .prev = {1, run},
                                        .last = {1, TARGET + 1},
                                        .first_arena = arena,
                                        .last_arena = arena};
        assert_true(ls__replay_goal(session) == run);
        fetch(plan);
        assert_true(run > handed || plan->count == 0);
        ls__arena_give(&session->arenas, arena);
        ls__arenas_free(&session->arenas);
    }
}

TEST(replay_plan, what_the_log_holds_and_what_the_leader_sent_is_not_asked_for)
{
    static struct plan plan;
    for (uint32_t world = 0; world < LIKES * LIKES * LIKES; world++) {
        uint32_t likes[PEERS] = {world % LIKES, world / LIKES % LIKES, world / LIKES / LIKES};
        for (ls_index handed = 0; handed <= TARGET; handed++) {
            for (ls_index run = handed; run <= TARGET; run++) {
                shrink(&plan, likes, handed, run);
            }
        }
    }
}
