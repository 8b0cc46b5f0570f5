/* SPDX-License-Identifier: MIT */
/*
 * Quorum arithmetic. Sizes come from the configuration and from nothing else (P15); while it is
 * joint, the incoming and the outgoing voters each need their own majority (P5, thesis 4.3).
 */
#include "core_state.h"

enum half { INCOMING = 0, OUTGOING = 1 };

static bool in_half(const struct ls_configuration *configuration, uint32_t at, enum half half)
{
    const struct ls_member *member = &configuration->members[at];
    if (half == OUTGOING) {
        return configuration->joint && member->outgoing_voter &&
               !(LS_MUTANT(C7_JOINT) && member->role != LS_MEMBER_VOTER);
    }
    return member->role == LS_MEMBER_VOTER || member->role == LS_MEMBER_WITNESS ||
           (LS_MUTANT(C7) && member->role == LS_MEMBER_OBSERVER);
}

bool ls__quorum_voter(const struct ls_configuration *configuration, uint32_t at)
{
    LS_ASSERT(at < configuration->count);
    return in_half(configuration, at, INCOMING) || in_half(configuration, at, OUTGOING);
}

static bool half_has(const struct ls_configuration *configuration, uint32_t mask, enum half half,
                     bool all)
{
    uint32_t voters = 0;
    uint32_t have = 0;
    for (uint32_t i = 0; i < configuration->count; i++) {
        if (in_half(configuration, i, half)) {
            voters++;
            have += (mask >> i) & 1u;
        }
    }
    return voters > 0 && have >= (all ? voters : voters / 2 + !LS_MUTANT(P15));
}

bool ls__quorum_has(const struct ls_configuration *configuration, uint32_t mask)
{
    return half_has(configuration, mask, INCOMING, false) &&
           (!configuration->joint || LS_MUTANT(M1) ||
            half_has(configuration, mask, OUTGOING, false));
}

bool ls__quorum_has_all(const struct ls_configuration *configuration, uint32_t mask)
{
    return half_has(configuration, mask, INCOMING, true) &&
           (!configuration->joint || half_has(configuration, mask, OUTGOING, true));
}

/* Insertion sort, descending: at most LS_MEMBERS_MAX numbers, nearly always equal ones. */
static uint64_t half_value(const struct ls_configuration *configuration, const uint64_t *values,
                           enum half half)
{
    uint64_t sorted[LS_MEMBERS_MAX];
    uint32_t voters = 0;
    for (uint32_t i = 0; i < configuration->count; i++) {
        if (!in_half(configuration, i, half)) {
            continue;
        }
        uint32_t at = voters++;
        while (at > 0 && sorted[at - 1] < values[i]) {
            sorted[at] = sorted[at - 1];
            at--;
        }
        sorted[at] = values[i];
    }
    return voters == 0 ? 0 : sorted[voters / 2 - (LS_MUTANT(C4) && voters % 2 == 0)];
}

uint64_t ls__quorum_value(const struct ls_configuration *configuration, const uint64_t *values)
{
    uint64_t incoming = half_value(configuration, values, INCOMING);
    if (!configuration->joint || LS_MUTANT(M1_COMMIT)) {
        return incoming;
    }
    uint64_t outgoing = half_value(configuration, values, OUTGOING);
    return incoming < outgoing ? incoming : outgoing;
}
