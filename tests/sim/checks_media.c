/* SPDX-License-Identifier: MIT */
/*
 * Checks of promises against what would survive a power cut at this moment: the media are read, the
 * members are not asked.
 *
 * commit     what is committed lies on the media of a quorum of the configuration (P15, C5)
 * promises   what a message says about its sender's disk is there when the message leaves (P1),
 *            and still there whenever the member starts
 */
#include "sync.h"

#define U(number) ((unsigned long long)(number))

bool sim_check_holds(const struct sim_member *member, ls_index index, struct sim_mark mark)
{
    struct ls_storage_medium_left left;
    if (!ls_storage_medium_left(member->medium, &member->shadow.group, &left)) {
        return false;
    }
    struct ls_entry entry;
    return index <= left.anchor.index ||
           (ls_storage_medium_entry(member->medium, &member->shadow.group, index, &entry) &&
            entry.term == mark.term);
}

/* Is a majority of those voters in `mask` (bit: place in the configuration)? */
static bool majority(const struct ls_configuration *configuration, bool outgoing, uint32_t mask)
{
    uint32_t voters = 0, held = 0;
    for (uint32_t i = 0; i < configuration->count; i++) {
        const struct ls_member *member = &configuration->members[i];
        bool voter = outgoing
                         ? member->outgoing_voter
                         : member->role == LS_MEMBER_VOTER || member->role == LS_MEMBER_WITNESS;
        voters += voter ? 1u : 0u;
        held += voter && (mask >> i & 1u) != 0 ? 1u : 0u;
    }
    return held > voters / 2;
}

/* A disk that lost its end may have held it when its member said so; one that lost all, as long as
 * what its member said may be on its way. */
static bool held_once(const struct sim_member *member, ls_index index, struct sim_mark mark)
{
    const struct world *world = member->world;
    bool wiped =
        member->wiped_us != 0 && world->now_us <= member->wiped_us + world->network.delay_max_us;
    return ((member->lossy && index <= member->lossy_last) ||
            (wiped && index <= member->wiped_last)) &&
           member->shadow.log[index].term == mark.term;
}

void sim_check_quorum(struct sim_member *member, ls_index index)
{
    struct world *world = member->world;
    struct ls_group_status status;
    sim_glance_of(member, member->shadow.of, &status);
    if (status.core.configuration == NULL) {
        sim_fail(world, "%s commits %llu in term %llu without a configuration", member->name,
                 U(index), U(status.core.term));
        return;
    }
    const struct ls_configuration *configuration = &status.core.configuration->configuration;
    const struct sim_mark mark = member->shadow.log[index];
    uint32_t mask = 0;
    char names[2 * SIM_MEMBERS_MAX + 1] = "";
    for (uint32_t i = 0; i < world->count; i++) {
        const struct ls_member *found = ls_configuration_find(configuration, &world->members[i].id);
        if (found != NULL && (sim_check_holds(&world->members[i], index, mark) ||
                              held_once(&world->members[i], index, mark))) {
            mask |= 1u << (found - configuration->members);
            (void)strcat(strcat(names, " "), world->members[i].name);
        }
    }
    if (!majority(configuration, false, mask) ||
        (configuration->joint && !majority(configuration, true, mask))) {
        sim_fail(world, "%s commits %llu^%llu in term %llu, but only the media of%s hold it",
                 member->name, U(mark.term), U(index), U(status.core.term), names);
    }
}

/* ---- promises ---- */

static void promise_term(struct sim_promise *promise, ls_term term)
{
    if (term > promise->term) {
        promise->term = term;
        promise->voted = false;
    }
}

static void check_term(struct sim_member *member, ls_term term)
{
    struct ls_storage_medium_left left = {.damaged = false};
    if (term <= member->shadow.promise.term) {
        return; /* it was there at an earlier message, and is whenever the member starts */
    }
    (void)ls_storage_medium_left(member->medium, &member->shadow.group, &left);
    if (left.hard_state.term < term) {
        sim_fail(member->world, "a message of term %llu leaves %s, whose medium holds term %llu",
                 U(term), member->name, U(left.hard_state.term));
    }
    promise_term(&member->shadow.promise, term);
}

static void check_vote(struct sim_member *member, ls_term term, const struct ls_peer_id *vote)
{
    struct ls_storage_medium_left left = {.damaged = false};
    (void)ls_storage_medium_left(member->medium, &member->shadow.group, &left);
    const struct ls_hard_state *hard = &left.hard_state;
    struct sim_promise *promise = &member->shadow.promise;
    if (hard->term == term && !(hard->voted && ls_peer_id_equal(&hard->vote, vote))) {
        sim_fail(member->world, "a vote in term %llu leaves %s, whose medium holds %s", U(term),
                 member->name, hard->voted ? "another vote" : "no vote");
    }
    check_term(member, term);
    if (promise->term == term) {
        if (promise->voted && !ls_peer_id_equal(&promise->vote, vote)) {
            sim_fail(member->world, "%s votes twice in term %llu", member->name, U(term));
        }
        promise->voted = true;
        promise->vote = *vote;
    }
}

static void check_match(struct sim_member *member, ls_term term, ls_index index)
{
    struct sim_shadow *shadow = &member->shadow;
    struct sim_promise *promise = &shadow->promise;
    if (index == 0 || term < shadow->hard.term) {
        return; /* of an earlier term: a later leader may have taken it back meanwhile */
    }
    if (term == promise->fresh.term && index <= promise->fresh.index) {
        return; /* it was there, and nothing was removed in this term */
    }
    if (index > shadow->last || !sim_check_holds(member, index, shadow->log[index])) {
        sim_fail(member->world, "%s acknowledges %llu in term %llu, its medium does not hold it",
                 member->name, U(index), U(term));
        return;
    }
    if (index >= promise->match) {
        promise->match = index;
        promise->mark = shadow->log[index];
    }
    if (term > promise->fresh.term || index > promise->fresh.index) {
        promise->fresh = (struct ls_cursor){term, index};
    }
}

static void note_append(struct sim_member *member, const struct ls_peer_id *to,
                        const struct ls_append *append, uint64_t bytes)
{
    struct sim_watch *watch = &member->watch;
    uint32_t at = sim_member_find(member->world, to);
    if (at < member->world->count && append->count > 0) { /* a question says nothing of what left */
        watch->sent_next[at] = append->prev.index + append->count + 1;
    }
    watch->append_bytes_max = bytes > watch->append_bytes_max ? bytes : watch->append_bytes_max;
}

static void check_core(struct sim_member *member, const struct ls_peer_id *to,
                       const struct ls_message *message)
{
    ls_term term = message->term;
    switch (message->kind) {
    case LS_MESSAGE_PRE_VOTE:
        return; /* promises nothing: the term is one that might be */
    case LS_MESSAGE_PRE_VOTE_REPLY:
        if (message->as.vote_reply.granted) {
            return;
        }
        break;
    case LS_MESSAGE_VOTE:
        check_vote(member, term, &member->id);
        sim_rules_vote(member, term, &message->as.vote);
        break;
    case LS_MESSAGE_VOTE_REPLY:
        if (message->as.vote_reply.granted) {
            check_vote(member, term, to);
        }
        break;
    case LS_MESSAGE_APPEND:
        sim_check_leader(member, term);
        sim_check_commit(member, term, message->as.append.commit);
        break;
    case LS_MESSAGE_APPEND_REPLY:
        if (message->as.append_reply.counts) {
            check_match(member, term, message->as.append_reply.match);
        }
        break;
    case LS_MESSAGE_HEARTBEAT:
        sim_check_leader(member, term);
        sim_check_commit(member, term, message->as.heartbeat.commit);
        sim_snapshot_leads(member); /* it says what may be pruned */
        break;
    case LS_MESSAGE_HEARTBEAT_REPLY:
        if (message->as.heartbeat_reply.counts) {
            check_match(member, term, message->as.heartbeat_reply.match);
        }
        break;
    case LS_MESSAGE_READ_INDEX:
    case LS_MESSAGE_READ_INDEX_REPLY:
    case LS_MESSAGE_TIMEOUT_NOW:
        break;
    }
    check_term(member, term);
}

/* K2: what another member forwarded is never forwarded again. */
static void check_forward(struct sim_member *member, const struct ls_forward *forward)
{
    struct world *world = member->world;
    uint64_t id = 0;
    if (forward->count > 0 && forward->commands[0].bytes >= sizeof id) {
        (void)memcpy(&id, forward->commands[0].data, sizeof id);
    }
    if (id >= 1 && id <= world->ops_made && world->ops[id]->call.member != member->at) {
        sim_fail(world, "%s forwards call %llu, which %s was asked", member->name, U(id),
                 world->members[world->ops[id]->call.member].name);
    }
}

static void check_core_sent(struct sim_member *member, const struct ls_peer_id *to, bool leaves)
{
    const struct sim_sent *sent = &member->world->checks.logs.sent;
    if (sent->message.kind == LS_MESSAGE_APPEND) {
        note_append(member, to, &sent->message.as.append, sent->payload);
    }
    if (leaves) {
        check_core(member, to, &sent->message);
    }
}

static void sent_keep(struct sim_sent *sent, const struct ls_message *message, struct ls_span bytes)
{
    sent->message = *message;
    sent->payload = 0;
    if (message->kind == LS_MESSAGE_APPEND) {
        for (uint32_t i = 0; i < message->as.append.count; i++) {
            sent->payload += message->as.append.entries[i].data.bytes;
        }
        sent->message.as.append.entries = NULL;
    }
    sent->count = bytes.bytes <= sizeof sent->bytes ? bytes.bytes : 0;
    (void)memcpy(sent->bytes, bytes.data, sent->count);
}

void sim_check_sent(struct sim_member *member, const struct ls_peer_id *to, struct ls_span bytes,
                    bool leaves)
{
    struct world *world = member->world;
    struct ls_wire_decoder **decoder = &world->checks.logs.decoder;
    struct sim_sent *sent = &world->checks.logs.sent;
    struct ls_wire_frame frame;
    const char *reason = "no memory";
    if (member->dying) {
        return; /* its power is gone */
    }
    if (*decoder == NULL && ls_wire_decoder_open(ls_env_default(), decoder) != LS_OK) {
        return;
    }
    if (bytes.bytes == sent->count && memcmp(bytes.data, sent->bytes, sent->count) == 0) {
        check_core_sent(member, to, leaves);
    } else if (ls_wire_decode(*decoder, bytes, &frame, &reason) != LS_OK) {
        sim_fail(world, "%s sends a message that nobody can read: %s", member->name, reason);
    } else if (frame.kind == LS_WIRE_CORE) {
        sent_keep(sent, &frame.as.core, bytes);
        check_core_sent(member, to, leaves);
    } else if (frame.kind == LS_WIRE_FORWARD) {
        check_forward(member, &frame.as.forward);
    }
}

/* Its disk has an older hard state: the guard, which knows it, makes it doubt. */
static void promise_of_guard(struct sim_member *member, const struct ls_hard_state *hard)
{
    const struct sim_promise *promise = &member->shadow.promise;
    bool behind = hard->term < promise->term ||
                  (hard->term == promise->term && promise->voted &&
                   !(hard->voted && ls_peer_id_equal(&hard->vote, &promise->vote)));
    member->hard_lost = behind;
    if (behind && !ls_storage_medium_doubtful(member->medium, &member->shadow.group)) {
        sim_fail(member->world, "%s starts with term %llu, its messages were of term %llu",
                 member->name, U(hard->term), U(promise->term));
    }
}

void sim_check_promises(struct sim_member *member)
{
    struct world *world = member->world;
    struct sim_promise *promise = &member->shadow.promise;
    if (member->broken) {
        return; /* it must not get far */
    }
    if (member->shadow.wipes != member->rules.wipes) { /* another incarnation: it owes nothing */
        member->shadow.wipes = member->rules.wipes;
        *promise = (struct sim_promise){.term = 0};
    }
    struct ls_storage_medium_left left = {.damaged = false};
    (void)ls_storage_medium_left(member->medium, &member->shadow.group, &left);
    const struct ls_hard_state *hard = &left.hard_state;
    if (member->hard_lost && promise->term <= member->lossy_term) {
        promise_of_guard(member, hard); /* until the next write stores it again */
    } else if (hard->term < promise->term) {
        sim_fail(world, "%s starts with term %llu, its messages were of term %llu", member->name,
                 U(hard->term), U(promise->term));
    } else if (hard->term == promise->term && promise->voted &&
               !(hard->voted && ls_peer_id_equal(&hard->vote, &promise->vote))) {
        sim_fail(world, "%s starts without the vote that it gave in term %llu", member->name,
                 U(promise->term));
    }
    if (promise->match > 0 && !sim_check_holds(member, promise->match, promise->mark)) {
        sim_fail(world, "%s starts without %llu^%llu, which it acknowledged", member->name,
                 U(promise->mark.term), U(promise->match));
    }
}
