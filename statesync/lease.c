/* SPDX-License-Identifier: MIT */
/* Tables of members that a provider serves. */
#include "lease.h"

#include <string.h>

static struct ls__lease *at(void *table, size_t each, size_t number)
{
    uint8_t *bytes = table;
    void *place = bytes + number * each;
    return place;
}

void *ls__lease_find(void *table, size_t each, const struct ls_peer_id *id)
{
    for (size_t i = 0; i < LS_MEMBERS_MAX; i++) {
        struct ls__lease *lease = at(table, each, i);
        if (lease->until_us != 0 && ls_peer_id_equal(&lease->id, id)) {
            return lease;
        }
    }
    return NULL;
}

void *ls__lease_place(void *table, size_t each, const struct ls_peer_id *id, uint64_t now)
{
    void *found = ls__lease_find(table, each, id);
    for (size_t i = 0; found == NULL && i < LS_MEMBERS_MAX; i++) {
        struct ls__lease *lease = at(table, each, i);
        found = ls__lease_lives(lease, now) ? NULL : lease;
    }
    return found;
}
