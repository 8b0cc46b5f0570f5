/* SPDX-License-Identifier: MIT */
/*
 * Disks that lose or change what they had reported as durable, while their member is down. The
 * store has to notice when it opens (F3 to F7, P11):
 *
 *   a flipped bit, two records in each other's place,
 *   a log that begins after an anchor that is gone     it does not open; the operator puts it right
 *   a slot of the guard is damaged                     the other slot does
 *   the log lost its end, the hard state is older,
 *   both are those of an old backup                    the member promises nothing until it has
 *                                                      caught up, also if it starts again before
 *
 * What is lost for good is lost on one disk at a time, and only where logs are not pruned.
 */
#include "faults.h"

enum damage {
    DAMAGE_RECORD,
    DAMAGE_HARD,
    DAMAGE_COMMIT,
    DAMAGE_GUARD,
    DAMAGE_PLACES,
    DAMAGE_ANCHOR,
    DAMAGE_LOG_END,
    DAMAGE_HARD_OLDER,
    DAMAGE_BACKUP, /* in a story only: somebody has to keep it */
    DAMAGES
};

static const char *const names[DAMAGES] = {
    [DAMAGE_RECORD] = "a flipped bit in a record",
    [DAMAGE_HARD] = "a flipped bit in the hard state",
    [DAMAGE_COMMIT] = "a flipped bit in the commit hint",
    [DAMAGE_GUARD] = "a flipped bit in the guard",
    [DAMAGE_PLACES] = "two records in each other's place",
    [DAMAGE_ANCHOR] = "a lost anchor",
    [DAMAGE_LOG_END] = "the end of the log is lost",
    [DAMAGE_HARD_OLDER] = "an older hard state",
    [DAMAGE_BACKUP] = "an old backup",
};

struct place {
    enum damage damage;
    ls_index index;
    size_t bit;
};

/* Does it, or undoes what can be undone. */
static bool change(struct sim_member *member, const struct place *place)
{
    static const enum ls_storage_part parts[DAMAGES] = {[DAMAGE_RECORD] = LS_STORAGE_LOG,
                                                        [DAMAGE_HARD] = LS_STORAGE_HARD,
                                                        [DAMAGE_COMMIT] = LS_STORAGE_COMMIT,
                                                        [DAMAGE_GUARD] = LS_STORAGE_GUARD};
    const struct ls_group_id *id = &member->shadow.group;
    struct ls_storage_medium_left left;
    switch ((int)place->damage) {
    case DAMAGE_PLACES:
        return ls_storage_medium_swap(member->medium, id, place->index, place->index + 1);
    case DAMAGE_LOG_END:
        return ls_storage_medium_drop(member->medium, id, LS_STORAGE_LOG, place->index);
    case DAMAGE_HARD_OLDER:
        return ls_storage_medium_stale(member->medium, id);
    case DAMAGE_ANCHOR:
        (void)ls_storage_medium_left(member->medium, id, &left);
        return left.anchor.index == 0
                   ? ls_storage_medium_put_back(member->medium, id)
                   : ls_storage_medium_keep(member->medium, id) &&
                         ls_storage_medium_drop(member->medium, id, LS_STORAGE_ANCHOR, 0);
    case DAMAGE_BACKUP:
        return ls_storage_medium_put_back(member->medium, id);
    default:
        return ls_storage_medium_flip(member->medium, id, parts[place->damage], place->index,
                                      place->bit);
    }
}

static enum ls_standing standing(const struct sim_member *member)
{
    struct ls_group_status status;
    sim_glance(member, &status);
    return status.core.standing;
}

/* All others are up, hold the group's first entry, know all that they promised, also if they start
 * again, and can elect: what this one loses is not lost, and they lead it back. */
static bool others_whole(const struct world *world, uint32_t at)
{
    uint32_t voters = 0, whole = 0;
    for (uint32_t i = 0; i < world->count; i++) {
        const struct sim_member *member = &world->members[i];
        const struct ls_group_id *id = &member->shadow.group;
        struct ls_storage_medium_left left;
        bool counts = sim_is_voter(world, i) && member->rules.wipes == 0;
        voters += sim_is_voter(world, i) ? 1u : 0u;
        whole += counts && i != at ? 1u : 0u;
        if (!ls_storage_medium_left(member->medium, id, &left) || left.last == 0 ||
            ls_storage_medium_doubtful(member->medium, id) ||
            (i != at && (member->group == NULL || standing(member) == LS_STANDING_TAIL_UNKNOWN))) {
            return false;
        }
    }
    return whole * 2 > voters;
}

/* Can a log lose its end? Machines on disk would be ahead of it, and others may have pruned it. */
bool sim_damage_logs_end(const struct world *world)
{
    for (uint32_t i = 0; i < world->count; i++) {
        if (world->members[i].machine.inner.durable_applied != NULL) {
            return false;
        }
    }
    return sim_sync_keeps_all(world);
}

/* A disk that does not open: what it says, then all is put right. */
static void must_refuse(struct sim_member *member, const struct place *place)
{
    struct world *world = member->world;
    member->broken = true;
    member->start_excused |= 1u << LS_ERR_CORRUPT;
    sim_member_start(member);
    if (member->group != NULL) {
        sim_fail(world, "%s did not notice %s (%llu)", member->name, names[place->damage],
                 (unsigned long long)place->index);
    }
    (void)change(member, place);
    member->broken = false;
}

static void must_doubt(struct sim_member *member, const struct place *place)
{
    struct world *world = member->world;
    struct ls_group_status status;
    if (member->group == NULL) {
        return; /* it could not be started for another reason */
    }
    sim_glance(member, &status);
    if (status.core.standing == LS_STANDING_COUNTS) {
        sim_fail(world, "%s did not notice %s (%llu)", member->name, names[place->damage],
                 (unsigned long long)place->index);
    } else if (status.core.term < member->lossy_term) {
        sim_fail(world, "%s was in term %llu and starts in %llu", member->name,
                 (unsigned long long)member->lossy_term, (unsigned long long)status.core.term);
    }
}

/* The member is down, and its disk has lost something for good. */
static void start_lossy(struct sim_member *member, const struct place *place, bool again)
{
    struct sim_promise *promise = &member->shadow.promise;
    member->lossy = true;
    member->losses++;
    if (promise->term < member->lossy_term) { /* was durable, before any message of it */
        promise->term = member->lossy_term;
        promise->voted = false;
    }
    member->hard_lost = place->damage != DAMAGE_LOG_END;
    ls_index kept = place->damage != DAMAGE_HARD_OLDER ? place->index - 1 : member->lossy_last;
    sim_lost_note(member, kept);
    if (promise->match > kept) {
        promise->match = kept;
        promise->mark = member->shadow.log[kept];
    }
    promise->fresh.index = promise->fresh.index > kept ? kept : promise->fresh.index;
    sim_member_start(member);
    must_doubt(member, place);
    if (again && member->group != NULL) {
        sim_member_crash(member, SIZE_MAX);
        sim_member_start(member);
        must_doubt(member, place);
    }
}

bool sim_strike_damage(struct sim_strike *strike)
{
    struct world *world = strike->world;
    struct sim_member *member = sim_strike_find(strike, sim_is_up);
    uint32_t at = member->at;
    struct place place = {.damage =
                              (enum damage)sim_random_in(&strike->random, 0, DAMAGE_BACKUP - 1)};
    place.bit = (size_t)sim_random_next(&strike->random) >> 1;
    uint64_t where = sim_random_next(&strike->random);
    bool again = sim_random_percent(&strike->random, 50);
    bool lasts = place.damage >= DAMAGE_LOG_END; /* cannot be put right */
    bool spare = others_whole(world, at);
    if (lasts && (!spare || (place.damage == DAMAGE_LOG_END && !sim_damage_logs_end(world)))) {
        place.damage = (enum damage)(place.damage - DAMAGE_LOG_END);
        lasts = false;
    }
    if (member->group == NULL || member->tear != 0 ||
        member->disk_error.kind != LS_STORAGE_FAULT_NONE || member->closing) {
        return false;
    }
    sim_member_crash(member, SIZE_MAX);
    struct ls_storage_medium_left left;
    const struct ls_group_id *id = &member->shadow.group;
    ls_index last = ls_storage_medium_left(member->medium, id, &left) ? left.last : 0;
    ls_index guarded = ls_storage_medium_guarded(member->medium, id);
    if (place.damage == DAMAGE_LOG_END && guarded < last) {
        last = guarded; /* losing only what the guard does not know of yet, nobody would notice */
    }
    last -= place.damage == DAMAGE_PLACES && last > 0 ? 1 : 0;
    ls_index entries = last > left.anchor.index ? last - left.anchor.index : 0;
    place.index = entries == 0 ? 0 : left.anchor.index + 1 + where % entries;
    if (place.damage == DAMAGE_ANCHOR && left.anchor.index == 0) {
        place.damage = DAMAGE_RECORD; /* there is none to lose */
    }
    bool whole = place.damage == DAMAGE_HARD || place.damage == DAMAGE_HARD_OLDER;
    bool changed = (entries > 0 || whole) && !left.damaged && change(member, &place);
    for (ls_index i = 1; !changed && place.damage == DAMAGE_PLACES && i < entries; i++) {
        place.index = left.anchor.index + 1 + (where + i) % entries; /* they have to be as long */
        changed = change(member, &place);
    }
    if (changed && place.damage == DAMAGE_GUARD && ls_storage_medium_doubtful(member->medium, id)) {
        /* the slot before the last truncation is left, which promises more than the log holds */
        changed = spare || !change(member, &place);
        member->misled = changed;
    }
    if (!changed) {
        sim_push(world, world->now_us + 1000, SIM_START, at, 0, 0);
        return false;
    }
    sim_strike_tell(strike, " %s: %s (%llu)", member->name, names[place.damage],
                    (unsigned long long)place.index);
    sim_note(world, "%s: %s", member->name, names[place.damage]);
    if (place.damage == DAMAGE_GUARD) {
        sim_member_start(member);
    } else if (!lasts) {
        must_refuse(member, &place);
    } else {
        member->lossy_term = left.hard_state.term;
        member->lossy_last = left.last;
        start_lossy(member, &place, again);
    }
    return true;
}

bool sim_damage_lose(struct world *world, uint32_t at, bool log)
{
    struct sim_member *member = &world->members[at];
    const struct ls_group_id *id = &member->shadow.group;
    struct place place = {.damage = log ? DAMAGE_LOG_END : DAMAGE_HARD_OLDER};
    struct ls_storage_medium_left left;
    LS_ASSERT(member->node == NULL);
    ls_index guarded = ls_storage_medium_guarded(member->medium, id);
    if (!ls_storage_medium_left(member->medium, id, &left) || left.last <= left.anchor.index ||
        guarded <= left.anchor.index) {
        return false;
    }
    guarded = guarded < left.last ? guarded : left.last;
    place.index = (ls_index)sim_random_in(&world->random, left.anchor.index + 1, guarded);
    if (!change(member, &place)) {
        return false;
    }
    sim_note(world, "%s: %s (%llu)", member->name, names[place.damage],
             (unsigned long long)place.index);
    member->lossy_term = left.hard_state.term;
    member->lossy_last = left.last;
    start_lossy(member, &place, sim_random_percent(&world->random, 50));
    return true;
}

bool sim_damage_restore(struct world *world, uint32_t at)
{
    struct sim_member *member = &world->members[at];
    const struct ls_group_id *id = &member->shadow.group;
    struct place place = {.damage = DAMAGE_BACKUP};
    struct ls_storage_medium_left left, backup;
    LS_ASSERT(member->node == NULL);
    if (!ls_storage_medium_left(member->medium, id, &left) ||
        ls_storage_medium_guarded(member->medium, id) < left.last || !change(member, &place) ||
        !ls_storage_medium_left(member->medium, id, &backup)) {
        return false;
    }
    ls_index same = left.last < backup.last ? left.last : backup.last;
    while (same > 0 && !sim_check_holds(member, same, member->shadow.log[same])) {
        same--;
    }
    LS_ASSERT(same < left.last);
    place.index = same + 1;
    sim_note(world, "%s: %s, of which %llu to %llu are of another time", member->name,
             names[place.damage], (unsigned long long)place.index, (unsigned long long)backup.last);
    member->lossy_term = left.hard_state.term;
    member->lossy_last = left.last;
    start_lossy(member, &place, sim_random_percent(&world->random, 50));
    return true;
}

void sim_check_doubts(struct sim_member *member, const struct ls_group_status *status)
{
    bool doubts = status->core.standing == LS_STANDING_TAIL_UNKNOWN;
    if (doubts && !member->misled &&
        member->losses == 0) { /* else its guard may learn later than it that all is back */
        sim_fail(member->world, "%s doubts its log, of which nothing was lost", member->name);
    }
    bool back = status->core.standing == LS_STANDING_OBSERVER /* it never says that it doubts */
                    ? status->core.durable >= member->lossy_last
                    : status->core.standing == LS_STANDING_COUNTS;
    if (member->lossy && back && status->core.standing == LS_STANDING_COUNTS) {
        sim_lost_check(member, status->core.term);
    }
    member->lossy = member->lossy && !back;
}

void sim_check_start(struct sim_member *member, bool doubtful)
{
    if (doubtful && standing(member) == LS_STANDING_COUNTS) {
        sim_fail(member->world,
                 "%s counts at once, and its guard knows of more than its disk holds",
                 member->name);
    }
}

void sim_damage_forgotten(struct world *world)
{
    for (uint32_t i = 0; i < world->count && !world->failed; i++) {
        struct sim_member *member = &world->members[i];
        if (member->losses > 0) {
            sim_member_crash(member, SIZE_MAX);
            sim_member_start(member);
            if (member->group != NULL && standing(member) == LS_STANDING_TAIL_UNKNOWN) {
                sim_fail(world, "%s has all that it lost, and doubts its log when it starts again",
                         member->name);
            }
        }
    }
}
