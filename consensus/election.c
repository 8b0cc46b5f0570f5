/* SPDX-License-Identifier: MIT */
/*
 * Elections: a pre-vote first, always (thesis 9.6), then a vote in a new term (Raft
 * paper 5.2, 5.4). Founding: without a configuration every founder must grant.
 */
#include "core_state.h"

/* splitmix64 (Steele, Lea, Flood 2014): enough to keep timeouts apart. */
static uint64_t random_next(struct ls_core *core)
{
    uint64_t z = core->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void ls__election_timer_reset(struct ls_core *core)
{
    uint64_t drawn =
        core->election_us + (LS_MUTANT(E16) ? 0 : random_next(core) % core->election_us);
    core->election_deadline_us = core->now_us + drawn * core->reluctance;
}

static void leader_forget(struct ls_core *core)
{
    memset(&core->leader, 0, sizeof core->leader);
    core->leader_heard_us = LS_MUTANT(E9) ? core->leader_heard_us : 0;
}

/* A term begins: nothing of its leader's log is verified yet. */
static void term_begin(struct ls_core *core, ls_term term, const struct ls_peer_id *vote)
{
    struct ls_hard_state hard = {.term = term, .voted = vote != NULL};
    if (vote != NULL) {
        hard.vote = *vote;
    }
    ls__hard_state_set(core, hard);
    core->verified = 0;
    core->leader_commit = 0;
    core->leader_counted = UINT64_MAX;
    core->prune_safe = 0;
}

void ls__become_follower(struct ls_core *core, ls_term term, const struct ls_peer_id *leader)
{
    LS_ASSERT(term >= core->hard.term || LS_MUTANT(L10));
    bool led = core->role == LS_ROLE_LEADER;
    bool same = leader != NULL && ls_peer_id_equal(leader, &core->leader);
    if (term > core->hard.term) {
        ls__trace(core, LS_TRACE_INFO, "term {} begins, was {}", NULL,
                  LS__ARGS(term, core->hard.term));
        term_begin(core, term, NULL);
        same = false;
    }
    if ((core->role != LS_ROLE_FOLLOWER || !same) && !LS_MUTANT(R4)) {
        ls__reads_fail(core);
    }
    core->hard = LS_MUTANT(E2) ? (struct ls_hard_state){.term = core->hard.term} : core->hard;
    core->role = LS_ROLE_FOLLOWER;
    core->grants = 0;
    core->campaign_transfer = false;
    core->transferring = false;
    core->own_term_first = 0;
    core->notice_deadline_us = UINT64_MAX;
    if (leader != NULL) {
        if (!same) {
            ls__trace(core, LS_TRACE_INFO, "follows {p} in term {}", leader, LS__ARGS(term));
            core->traced_term = 0; /* the next election is another story */
        }
        core->leader = *leader;
        core->leader_heard_us = core->now_us;
        core->removed = false;
        core->syncing_waited = false;
        ls__election_timer_reset(core);
        return;
    }
    leader_forget(core);
    if (led) {
        ls__trace(core, LS_TRACE_INFO, "no longer leads, term {}", NULL, LS__ARGS(term));
        ls__election_timer_reset(core);
    }
}

static bool granted_enough(const struct ls_core *core)
{
    const struct ls_configuration *view = ls__view(core);
    uint32_t grants = core->grants;
    for (uint32_t i = 0; i < view->count && LS_MUTANT(E1); i++) {
        grants |= core->peers[i].linked ? 0 : 1u << i;
    }
    return ls__founding(core) && !LS_MUTANT(FOUNDING) ? ls__quorum_has_all(view, grants)
                                                      : ls__quorum_has(view, grants);
}

/* The founders with the incarnations that voted; those of observers are learned by nobody yet. */
static bool founding_entry(struct ls_core *core, struct ls_entry *entry)
{
    struct ls_configuration_at *at = &core->configurations[core->configurations_count];
    at->index = core->trail.last + 1;
    at->configuration = core->founders;
    for (uint32_t i = 0; i < at->configuration.count; i++) {
        struct ls_member *member = &at->configuration.members[i];
        if (ls_peer_id_equal(&member->id, &core->self)) {
            member->incarnation = core->incarnation;
        } else if (ls__quorum_voter(&core->founders, i)) {
            member->incarnation = core->peers[i].incarnation;
        }
    }
    size_t bytes = 0;
    LS_ASSERT(core->own_payload != NULL);
    if (ls_configuration_encode(&core->env.codec, &at->configuration, core->own_payload,
                                LS_CONFIGURATION_BYTES_MAX, &bytes) != LS_OK) {
        return false;
    }
    *entry = (struct ls_entry){core->hard.term, LS_ENTRY_CONFIGURATION, {core->own_payload, bytes}};
    return true;
}

static void become_leader(struct ls_core *core)
{
    uint32_t count = 0;
    bool founding = ls__founding(core);
    LS_ASSERT(core->durable_seq >= core->hard_seq); /* P1: the own vote is durable */
    if (founding && !founding_entry(core, &core->own[count++])) {
        ls__trace(core, LS_TRACE_ERROR, "cannot encode the founders: does not lead", NULL,
                  LS__ARGS(0));
        ls__become_follower(core, core->hard.term, NULL);
        ls__election_timer_reset(core);
        return;
    }
    core->own[count++] = (struct ls_entry){core->hard.term, LS_ENTRY_NOOP, {NULL, 0}};
    core->role = LS_ROLE_LEADER;
    core->leader = core->self;
    core->grants = 0;
    core->own_term_first = core->trail.last + count;
    ls__trace(core, LS_TRACE_INFO, "leads term {} from {}", NULL,
              LS__ARGS(core->hard.term, core->own_term_first));
    ls__progress_open(core);
    ls__log_append(core, core->own, count);
    if (founding) {
        core->configurations_count++;
        ls__members_refresh(core);
    }
    core->heartbeat_deadline_us = core->now_us + core->heartbeat_us;
    core->disk_seq = core->durable_seq;
    core->disk_us = core->now_us;
    ls__progress_send_all(core);
}

static void request_votes(struct ls_core *core, enum ls_message_kind kind)
{
    const struct ls_configuration *view = ls__view(core);
    for (uint32_t i = 0; i < view->count; i++) {
        if (!ls__quorum_voter(view, i) || ls_peer_id_equal(&view->members[i].id, &core->self)) {
            continue;
        }
        struct ls_message *message = &ls__send(core, kind, &view->members[i].id)->message;
        message->term = core->hard.term + (kind == LS_MESSAGE_PRE_VOTE ? 1 : 0);
        message->as.vote = (struct ls_vote){.last = ls__trail_last(&core->trail),
                                            .transfer = core->campaign_transfer};
    }
}

/* The vote for oneself is as durable as any other: it counts when its batch is (P1, E4). */
static void own_vote(struct ls_core *core)
{
    if (core->durable_seq >= core->hard_seq) {
        core->grants |= 1u << ls__place(core, &core->self);
    }
}

static void campaign(struct ls_core *core)
{
    core->role = LS_ROLE_CANDIDATE;
    core->grants = 0;
    leader_forget(core);
    ls__election_timer_reset(core);
    core->election_deadline_us = LS_MUTANT(E18) ? UINT64_MAX : core->election_deadline_us;
    term_begin(core, core->hard.term + 1, LS_MUTANT(E4) ? NULL : &core->self);
    struct ls_cursor last = ls__trail_last(&core->trail);
    ls__trace(core, LS_TRACE_INFO, "asks for votes in term {}, last {^}", NULL,
              LS__ARGS(core->hard.term, last.term, last.index));
    request_votes(core, LS_MESSAGE_VOTE);
}

/* The level of a trace about pre-votes for `term`: info at the first time, then debug. */
static enum ls_trace_level pre_vote_level(struct ls_core *core, ls_term term, bool ask,
                                          uint64_t answer)
{
    if (core->traced_term != term) {
        core->traced_term = term;
        core->traced_ask = false;
        core->traced_answers = 0;
    }
    bool known = ask ? core->traced_ask : (core->traced_answers & answer) == answer;
    core->traced_ask = core->traced_ask || ask;
    core->traced_answers |= answer;
    return known ? LS_TRACE_DEBUG : LS_TRACE_INFO;
}

static void pre_campaign(struct ls_core *core)
{
    core->role = LS_ROLE_PRE_CANDIDATE;
    core->campaign_transfer = false;
    leader_forget(core);
    ls__election_timer_reset(core);
    core->grants = 1u << ls__place(core, &core->self);
    if ((granted_enough(core) && !LS_MUTANT(E17)) || LS_MUTANT(E10)) {
        campaign(core);
        return;
    }
    ls__trace(core, pre_vote_level(core, core->hard.term + 1, true, 0),
              "asks for pre-votes for term {}", NULL, LS__ARGS(core->hard.term + 1));
    request_votes(core, LS_MESSAGE_PRE_VOTE);
}

static bool may_campaign(const struct ls_core *core)
{
    return ls__makes_promises(core) && !core->removed && core->trail.count < LS_TRAIL_RUNS_MAX;
}

/*
 * A member with a state sync session leaves the first timeout to the others, which hold more as a
 * rule. Not longer: the session may wait for what only a new leader can commit, and its log may be
 * the only one that can win.
 */
static bool is_patient(struct ls_core *core)
{
    bool patient = core->syncing && !core->syncing_waited;
    core->syncing_waited = true;
    return patient;
}

void ls__election_tick(struct ls_core *core)
{
    if (core->now_us < core->election_deadline_us) {
        return;
    }
    ls__reads_fail(core);
    if (core->trail.count >= LS_TRAIL_RUNS_MAX) {
        ls__halt_full(core);
        return;
    }
    if (may_campaign(core) && !is_patient(core)) {
        pre_campaign(core);
        return;
    }
    ls__trace(core, LS_TRACE_DEBUG, "no leader heard; does not campaign, standing {}", NULL,
              LS__ARGS((uint64_t)ls__standing(core)));
    core->role = LS_ROLE_FOLLOWER;
    leader_forget(core);
    ls__election_timer_reset(core);
}

void ls__election_persisted(struct ls_core *core)
{
    if (core->role != LS_ROLE_CANDIDATE) {
        return;
    }
    if (!ls__makes_promises(core)) {
        ls__become_follower(core, core->hard.term, NULL);
        return;
    }
    own_vote(core);
    if (granted_enough(core) && core->durable_seq >= core->hard_seq) {
        become_leader(core);
    }
}

/* A leader, or one who heard it within the minimum timeout, takes part in no election. */
static bool sticks(const struct ls_core *core)
{
    return core->role == LS_ROLE_LEADER ||
           (core->leader_heard_us != 0 && !LS_MUTANT(P6) &&
            (core->now_us - core->leader_heard_us < core->election_us || LS_MUTANT(E9)));
}

/*
 * P6: the sender is in no configuration that could count here, and it cannot have one that this
 * member lacks: its log is behind, or equal. A longer log may hold a newer configuration, and such
 * a candidate is heard by the ordinary rules (thesis 4.2).
 */
static bool is_removed(const struct ls_core *core, const struct ls_message *message)
{
    const struct ls_configuration *committed = ls__configuration_committed(core);
    return committed != NULL && ls_configuration_find(committed, &message->from) == NULL &&
           ls__place(core, &message->from) < 0 &&
           ls_cursor_compare(message->as.vote.last, ls__trail_last(&core->trail)) <= 0;
}

static void vote_reply(struct ls_core *core, const struct ls_message *message, bool granted,
                       bool not_member)
{
    bool pre = message->kind == LS_MESSAGE_PRE_VOTE;
    struct ls_outgoing *reply =
        ls__send(core, pre ? LS_MESSAGE_PRE_VOTE_REPLY : LS_MESSAGE_VOTE_REPLY, &message->from);
    reply->after = LS_MUTANT(E3) ? 0 : reply->after;
    reply->message.term = granted ? message->term : core->hard.term;
    reply->message.as.vote_reply = (struct ls_vote_reply){
        .granted = granted, .transfer = message->as.vote.transfer, .not_member = not_member};
}

void ls__on_vote(struct ls_core *core, const struct ls_message *message)
{
    const struct ls_vote *vote = &message->as.vote;
    bool pre = message->kind == LS_MESSAGE_PRE_VOTE;
    core->hard =
        LS_MUTANT(E6) && pre ? (struct ls_hard_state){.term = core->hard.term} : core->hard;
    if (is_removed(core, message)) {
        ls__trace(core, LS_TRACE_INFO, "tells {p} that it is no member", &message->from,
                  LS__ARGS(0));
        vote_reply(core, message, false, true);
        return;
    }
    if (!vote->transfer && sticks(core)) {
        ls__trace(core, LS_TRACE_DEBUG, "vote for {p} in term {} ignored: the leader was heard",
                  &message->from, LS__ARGS(message->term));
        return;
    }
    if (!pre && message->term > core->hard.term) {
        ls__become_follower(core, message->term, NULL);
    }
    struct ls_cursor last = ls__trail_last(&core->trail);
    bool current = ls_cursor_compare(vote->last, last) >= 0; /* Raft paper 5.4.1 */
    current = LS_MUTANT(E15) ? vote->last.index >= last.index : current || (LS_MUTANT(E7) && pre);
    bool free_to_vote = pre ? message->term > core->hard.term
                            : message->term == core->hard.term &&
                                  (!core->hard.voted || LS_MUTANT(P2) ||
                                   ls_peer_id_equal(&core->hard.vote, &message->from));
    bool granted = current && free_to_vote && ls__makes_promises(core);
    int place = ls__place(core, &message->from);
    enum ls_trace_level level = LS_TRACE_INFO;
    if (pre && place >= 0) {
        level = pre_vote_level(core, message->term, false,
                               (uint64_t)1 << (2 * place + (granted ? 1 : 0)));
    }
    ls__trace(core, level,
              granted ? "grants {p} term {}, its last {^}, own {^}"
                      : "refuses {p} term {}, its last {^}, own {^}",
              &message->from,
              LS__ARGS(message->term, vote->last.term, vote->last.index, last.term, last.index));
    if (granted && !pre) {
        if (!core->hard.voted) {
            ls__hard_state_set(core, (struct ls_hard_state){message->term, true, message->from});
        }
        ls__election_timer_reset(core);
    }
    vote_reply(core, message, granted, false);
}

/* Believed from a member of the own configuration only, and until a leader or a configuration
 * proves otherwise; a member that is heard by its leader never campaigns and never gets here. */
static void removal_notice(struct ls_core *core, const struct ls_message *message, int at)
{
    bool campaigns = core->role == LS_ROLE_PRE_CANDIDATE || core->role == LS_ROLE_CANDIDATE;
    if (!campaigns || ls__founding(core) || !ls__promise_counts(core, (uint32_t)at)) {
        return;
    }
    ls__trace(core, LS_TRACE_WARN, "removed from the group, says {p}: campaigns no more",
              &message->from, LS__ARGS(0));
    core->removed = true;
    ls__become_follower(core, core->hard.term, NULL);
}

void ls__on_vote_reply(struct ls_core *core, const struct ls_message *message)
{
    bool pre = message->kind == LS_MESSAGE_PRE_VOTE_REPLY;
    int at = ls__place(core, &message->from);
    if (at < 0) {
        return;
    }
    if (message->as.vote_reply.not_member) {
        removal_notice(core, message, at);
        return;
    }
    pre = pre && !(LS_MUTANT(E5) && core->role == LS_ROLE_CANDIDATE);
    bool expected =
        pre ? core->role == LS_ROLE_PRE_CANDIDATE && message->term == core->hard.term + 1
            : core->role == LS_ROLE_CANDIDATE &&
                  (message->term == core->hard.term || LS_MUTANT(E14_LATE));
    if (!message->as.vote_reply.granted || !expected) {
        return;
    }
    if (!ls__promise_counts(core, (uint32_t)at)) {
        ls__trace(core, LS_TRACE_INFO, "vote of {p} does not count: its incarnation or role",
                  &message->from, LS__ARGS(0));
        return;
    }
    core->grants |=
        LS_MUTANT(E14_TWICE) && (core->grants >> at & 1u) != 0 ? core->grants + 1 : 1u << at;
    if (!granted_enough(core)) {
        return;
    }
    if (pre) {
        campaign(core);
    } else if (core->durable_seq >= core->hard_seq) {
        become_leader(core);
    }
}

void ls__on_timeout_now(struct ls_core *core, const struct ls_message *message)
{
    if (message->term != core->hard.term || core->role != LS_ROLE_FOLLOWER ||
        !ls_peer_id_equal(&message->from, &core->leader) || core->syncing || !may_campaign(core)) {
        ls__trace(core, LS_TRACE_INFO, "transfer from {p} ignored", &message->from, LS__ARGS(0));
        return;
    }
    ls__trace(core, LS_TRACE_INFO, "takes over from {p}", &message->from, LS__ARGS(0));
    ls__reads_fail(core);
    core->campaign_transfer = true;
    campaign(core);
}
