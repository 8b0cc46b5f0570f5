/* SPDX-License-Identifier: MIT */
/* Randomness, and events ordered by (time, sequence). */
#ifndef LOCKSTEP_SIM_QUEUE_H
#define LOCKSTEP_SIM_QUEUE_H

#include <lockstep/types.h>

/* splitmix64: one stream for the world, one for each member, the network, and each fault */
struct sim_random {
    uint64_t state;
};
uint64_t sim_random_next(struct sim_random *random);
/** A hash of the bytes and of how many they are: with other bytes at one place of eight, another.
 */
uint64_t sim_digest(uint64_t seed, const void *bytes, size_t count);
/** In [low, high]. */
uint64_t sim_random_in(struct sim_random *random, uint64_t low, uint64_t high);
bool sim_random_percent(struct sim_random *random, uint32_t percent);

enum sim_event_kind {
    SIM_TIMER = 1, /* a: member */
    SIM_TURN = 2,
    SIM_RELEASE = 3, /* the oldest commit of a member's medium becomes durable */
    SIM_START = 4,
    SIM_RESUME = 5,
    SIM_NET_TIMER = 6, /* a: member, b: timer of its transport */
    SIM_LOOK = 7,      /* a: connection, b: end: bytes arrive, or there is room */
    SIM_DIAL = 8,      /* a: connection, b: whether the answer is back */
    SIM_BREAK = 9,     /* a: connection, b: end */
    SIM_LATE = 10,     /* a: member: a message is handed over late */
    SIM_CLIENT = 11,   /* a: client */
    SIM_FAULT = 12,
    SIM_FLAP = 14,  /* a -> b */
    SIM_PRUNE = 15, /* a: member, which serves from its log just now */
    SIM_HEAL = 13   /* a: kind of fault, b: member */
};

struct sim_event {
    uint64_t at, sequence;
    enum sim_event_kind kind;
    uint32_t a, b;
    uint64_t token; /* what the event was meant for; another one now: it is void */
};

/*
 * Half of all events are due at the instant at which they are asked for. They need no heap: what is
 * in it for that instant was asked for earlier, so they come behind it, in the order of asking.
 */
struct sim_queue {
    struct sim_event *heap;
    size_t count, capacity;
    struct sim_event *soon; /* a ring, of events at now_us */
    size_t soon_first, soon_count, soon_capacity;
    uint64_t now_us; /* of the event that was taken last */
    uint64_t sequence;
};
/** When the next event is; UINT64_MAX: there is none. */
uint64_t sim_queue_next(const struct sim_queue *queue);
void sim_queue_push(struct sim_queue *queue, uint64_t at_us, enum sim_event_kind kind, uint32_t a,
                    uint32_t b, uint64_t token);
bool sim_queue_pop(struct sim_queue *queue, struct sim_event *out);
void sim_queue_free(struct sim_queue *queue);

#endif
