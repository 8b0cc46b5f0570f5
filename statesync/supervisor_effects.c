/* SPDX-License-Identifier: MIT */
/*
 * What a session wants done: recorded by its context (supervisor_context.c), carried out here after
 * the vtable call returned, and reported when the driver has done it. Also the markers of
 * providers.
 */
#include "supervisor_state.h"

/* a chunk for which the disk has no time is put again after so long */
#define PUT_AGAIN_US 1000u

static void report_effect(struct ls_supervisor *supervisor, struct ls__effect *effect,
                          enum ls_status status)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    LS_ASSERT(attempt->live);
    uint64_t token = effect->token;
    *effect = (struct ls__effect){0};
    supervisor->inside++;
    attempt->session.effect(attempt->session.self, token, status);
    supervisor->inside--;
    ls__session_due(supervisor);
}

static struct ls__effect *oldest_queued(struct ls_supervisor *supervisor)
{
    struct ls__effect *oldest = NULL;
    for (size_t i = 0; i < LS_SYNC_EFFECTS_MAX; i++) {
        struct ls__effect *effect = &supervisor->effects[i];
        if (effect->state == LS__EFFECT_QUEUED &&
            (oldest == NULL || effect->token < oldest->token)) {
            oldest = effect;
        }
    }
    return oldest;
}

static enum ls_status carry_out(const struct ls_supervisor_driver *driver,
                                const struct ls__effect *effect)
{
    switch (effect->kind) {
    case LS__EFFECT_INSTALL:
        return driver->install(driver->self, effect->token, effect->term, effect->prev,
                               effect->entries, effect->count, effect->commit);
    case LS__EFFECT_BEGIN:
        return driver->begin == NULL
                   ? LS_ERR_NOT_FOUND
                   : driver->begin(driver->self, effect->token, effect->snapshot, effect->hashes);
    case LS__EFFECT_PUT:
        return driver->put == NULL
                   ? LS_ERR_NOT_FOUND
                   : driver->put(driver->self, effect->token, effect->chunk, effect->bytes);
    case LS__EFFECT_PUBLISH:
        return driver->publish == NULL ? LS_ERR_NOT_FOUND
                                       : driver->publish(driver->self, effect->token);
    }
    return LS_ERR_INVALID;
}

void ls__markers_carry_out(struct ls_supervisor *supervisor)
{
    struct ls_supervisor_driver *driver = &supervisor->driver;
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        struct ls__side *side = &supervisor->hosted[i].side;
        if (side->marker_bytes == 0) {
            continue;
        }
        struct ls_span payload = {side->marker, side->marker_bytes};
        side->marker_bytes = 0; /* one that is lost is asked for again */
        if (driver->feed_marker != NULL) {
            supervisor->carrying = true;
            (void)driver->feed_marker(driver->self, payload);
            supervisor->carrying = false;
        }
    }
}

void ls__effects_carry_out(struct ls_supervisor *supervisor)
{
    struct ls__effect *effect = NULL;
    supervisor->put_us = LS__NEVER;
    while ((effect = oldest_queued(supervisor)) != NULL) {
        effect->state = LS__EFFECT_CALLING;
        supervisor->carrying = true;
        enum ls_status status = carry_out(&supervisor->driver, effect);
        supervisor->carrying = false;
        if (status == LS_ERR_BUSY && effect->kind == LS__EFFECT_PUT) {
            effect->state = LS__EFFECT_QUEUED; /* and so are those behind it */
            supervisor->put_us = ls__supervisor_now(supervisor) + PUT_AGAIN_US;
            return;
        }
        if (status != LS_OK) {
            report_effect(supervisor, effect, status);
        } else if (effect->state == LS__EFFECT_OVER) {
            report_effect(supervisor, effect, effect->status);
        } else {
            effect->state = LS__EFFECT_UNDER_WAY;
        }
    }
}

void ls_supervisor_effect(struct ls_supervisor *supervisor, uint64_t token, enum ls_status status)
{
    LS_ASSERT(supervisor->inside == 0);
    for (size_t i = 0; i < LS_SYNC_EFFECTS_MAX; i++) {
        struct ls__effect *effect = &supervisor->effects[i];
        if (effect->token != token) {
            continue; /* also the late result of an older attempt: its slot was cleared */
        }
        if (effect->state == LS__EFFECT_CALLING) {
            effect->state = LS__EFFECT_OVER; /* the driver still reads the entries */
            effect->status = status;
        } else if (effect->state == LS__EFFECT_UNDER_WAY) {
            report_effect(supervisor, effect, status);
        }
        return;
    }
}
