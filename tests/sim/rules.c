/* SPDX-License-Identifier: MIT */
/*
 * Checks of roles: who may lead, who may ask for votes, and what a leader may believe of the
 * others. A member is judged by its status after each turn, and by what the status of the others
 * was after theirs.
 */
#include "rules.h"

#include <lockstep/wire.h>

#include "world.h"

#define U(number) ((unsigned long long)(number))

/* Founding needs every founder: nobody leads before each of them has been there once. */
static void check_founders(struct sim_member *member)
{
    struct world *world = member->world;
    for (uint32_t i = 0; i < world->count; i++) {
        if (world->members[i].life == 0 && sim_is_voter(world, i)) {
            sim_fail(world, "%s leads, and %s has never been there", member->name,
                     world->members[i].name);
        }
    }
}

/*
 * A pre-vote is won with a quorum whose logs were no longer. One of them held what was committed
 * when the round began; so must the candidate, or it disturbs the others for nothing (E7).
 */
static void note_candidate(struct sim_member *member, const struct ls_core_status *core)
{
    struct sim_rules *rules = &member->rules;
    if (core->role == LS_ROLE_PRE_CANDIDATE && rules->floor_term != core->term + 1) {
        rules->floor_term = core->term + 1; /* a late answer to the first round counts as well */
        rules->floor = member->world->rules_commit;
    }
}

void sim_rules_vote(struct sim_member *member, ls_term term, const struct ls_vote *vote)
{
    const struct sim_rules *rules = &member->rules;
    if (!vote->transfer && rules->life == member->life && term == rules->floor_term &&
        vote->last.index < rules->floor) {
        sim_fail(member->world, "%s asks for votes with a log up to %llu, but %llu was committed",
                 member->name, U(vote->last.index), U(rules->floor));
    }
}

/* What the leader believes of one member, after what it believed before in this term. */
static void check_progress(struct sim_member *member, const struct ls_core_status *core,
                           const struct ls_progress *progress)
{
    struct world *world = member->world;
    struct sim_rules *rules = &member->rules;
    uint32_t at = sim_member_find(world, &progress->id);
    if (at == world->count) {
        sim_fail(world, "%s replicates to nobody of the group", member->name);
        return;
    }
    struct sim_member *peer = &world->members[at];
    struct sim_belief *belief = &rules->beliefs[peer->at];
    if (progress->next <= progress->match || progress->match > core->last) {
        sim_fail(world, "%s has %llu for %s, but sends from %llu next and ends at %llu itself",
                 member->name, U(progress->match), peer->name, U(progress->next), U(core->last));
    }
    bool fell = rules->role == LS_ROLE_LEADER && rules->term == core->term &&
                progress->match < belief->match && !belief->refused;
    if (progress->match < belief->match) {
        sim_lost_lowered(peer, member->at, (struct ls_cursor){core->term, core->commit});
    }
    if (fell && belief->wipes < peer->rules.wipes + peer->losses) {
        belief->wipes = peer->rules.wipes + peer->losses; /* once for each disk that was lost */
    } else if (fell) {
        sim_fail(world, "%s had %llu acknowledged by %s, and now only %llu", member->name,
                 U(belief->match), peer->name, U(progress->match));
    }
    bool known = peer->group != NULL && !peer->lossy && peer->rules.life == peer->life &&
                 peer->rules.term == core->term;
    if (known && progress->match > peer->rules.durable &&
        progress->match > sim_member_disk_last(peer)) {
        sim_fail(world, "%s counts on %s up to %llu, which has %llu on its disk", member->name,
                 peer->name, U(progress->match), U(peer->rules.durable));
    } else if (known && progress->match > belief->match && progress->match <= member->shadow.last &&
               !sim_check_holds(peer, progress->match, member->shadow.log[progress->match])) {
        sim_fail(world, "%s counts on %s up to %llu, which has another entry there", member->name,
                 peer->name, U(progress->match));
    }
    belief->match = progress->match;
    belief->refused = false;
}

/* What decides stands at the front (wire.c): version, frame, kind, term, accepted?; each of one
 * byte but the term. Whether the rest is well formed, the member says. */
static bool is_refusal(struct ls_span message)
{
    const uint8_t *at = message.data; /* of an array of less than 16 */
    if (message.bytes < 6 || at[2] != LS_WIRE_CORE || at[3] != LS_MESSAGE_APPEND_REPLY) {
        return false;
    }
    size_t accepted = 5u + (at[4] >= 0xcc ? (size_t)1 << (at[4] & 3u) : 0u);
    return accepted < message.bytes && at[accepted] == 0xc2;
}

void sim_rules_heard(struct sim_member *member, uint32_t from, struct ls_span message)
{
    if (is_refusal(message)) {
        member->rules.beliefs[from].refused = true;
    }
}

/* P3, figure 8 of the Raft paper: a leader counts copies of entries of its own term only. While a
 * batch of its log waits for room, its commits are not known, and are judged when it is there. */
static void check_commit(struct sim_member *member, const struct ls_core_status *core)
{
    struct sim_rules *rules = &member->rules;
    ls_index before = rules->commit;
    bool leads =
        rules->role == LS_ROLE_LEADER && rules->term == core->term && core->role == LS_ROLE_LEADER;
    if (leads && member->shadow.refused) {
        return;
    }
    rules->commit = core->commit;
    if (!leads || core->commit <= before || core->commit > member->shadow.last) {
        return;
    }
    ls_term term = member->shadow.log[core->commit].term;
    if (term < core->term) {
        sim_fail(member->world, "%s leads term %llu and commits up to %llu, of term %llu",
                 member->name, U(core->term), U(core->commit), U(term));
    }
}

void sim_rules_turn(struct sim_member *member, const struct ls_core_status *core)
{
    struct world *world = member->world;
    struct sim_rules *rules = &member->rules;
    if (rules->life != member->life) {
        *rules = (struct sim_rules){.life = member->life, .wipes = rules->wipes};
    }
    if (core->role == LS_ROLE_LEADER && world->checks.leader_changes <= 1) {
        check_founders(member);
    }
    note_candidate(member, core);
    check_commit(member, core);
    for (uint32_t i = 0; i < core->progress_count; i++) {
        check_progress(member, core, &core->progress[i]);
    }
    const struct sim_shadow *shadow = &member->shadow;
    rules->role = core->role;
    rules->serving = core->role == LS_ROLE_LEADER && core->commit <= shadow->last &&
                     shadow->log[core->commit].term == core->term;
    rules->term = core->term;
    rules->durable = core->durable;
    world->rules_commit = core->commit > world->rules_commit ? core->commit : world->rules_commit;
}
