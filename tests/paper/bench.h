/* SPDX-License-Identifier: MIT */
/*
 * One core on a bench: opened with a given term and log, fed one message at a time, and looked at.
 * Members are called A to G; the core on the bench is A. Its disk is as quick or as slow as the
 * test wants: nothing is durable before bench_persist().
 */
#ifndef PAPER_BENCH_H
#define PAPER_BENCH_H

#include <lockstep/core.h>

#include "test.h"

enum { A, B, C, D, E, F, G, BENCH_MEMBERS };

#define BENCH_LOG_MAX     64
#define BENCH_SENT_MAX    256
#define BENCH_ELECTION_MS 100u

struct setup {
    unsigned voters;    /* 0: three */
    unsigned observers; /* after the voters */
    ls_term term;
    int vote;                   /* of that term: -1 or 0 none (A never votes for itself here) */
    ls_term log[BENCH_LOG_MAX]; /* terms of the entries from index 1 on, ended by 0 */
    uint64_t seed;
    bool joint;        /* outgoing voters: see `outgoing` */
    unsigned outgoing; /* bits of members that vote in the outgoing half */
    unsigned incoming; /* bits of members that vote in the incoming half; 0: all voters */
    bool without_self; /* A is in the outgoing half only */
    const struct ls_configuration *founders;
    uint64_t cache_bytes;
};

struct bench {
    struct ls_env env;
    struct ls_core *core;
    struct ls_peer_id ids[BENCH_MEMBERS];
    uint64_t now_us;
    struct ls_ready ready; /* scalars of the last one; its pointers are gone */
    struct ls_outgoing sent[BENCH_SENT_MAX];
    size_t sent_count;
    struct ls_read_result reads[16];
    size_t reads_count;
    ls_term log[BENCH_LOG_MAX + 1]; /* [index] */
    ls_index last;
    uint64_t staged_seq;
};

struct bench *bench_open(const struct setup *setup);
void bench_close(struct bench *bench);

void bench_step(struct bench *bench, struct ls_event *event);
void bench_tick(struct bench *bench);
/** Lets time pass, without ticks. */
void bench_pass(struct bench *bench, uint64_t ms);
/** Lets time pass up to the core's own deadline, and ticks. */
void bench_wait(struct bench *bench);
/** Everything staged becomes durable. */
void bench_persist(struct bench *bench);
void bench_propose(struct bench *bench, uint32_t count);
void bench_read(struct bench *bench, uint64_t token);

struct ls_message bench_message(const struct bench *bench, enum ls_message_kind kind, int from,
                                ls_term term);
void bench_receive(struct bench *bench, const struct ls_message *message);
/** From B unless told otherwise: `count` entries of `terms` after `prev`. */
void bench_append(struct bench *bench, ls_term term, struct ls_cursor prev, const ls_term *terms,
                  uint32_t count, ls_index commit);
void bench_heartbeat(struct bench *bench, int from, ls_term term, ls_index commit);
void bench_vote(struct bench *bench, int from, ls_term term, struct ls_cursor last);
void bench_pre_vote(struct bench *bench, int from, ls_term term, struct ls_cursor last);
void bench_grant(struct bench *bench, int from, bool granted);
void bench_accept(struct bench *bench, int from, ls_index match);
void bench_reject(struct bench *bench, int from, struct ls_cursor prev, struct ls_cursor hint);
void bench_heartbeat_reply(struct bench *bench, int from, uint64_t round);
/** Links, pre-votes and votes of members 1 .. voters/2 until A leads, its disk following. */
void bench_lead(struct bench *bench, unsigned grants);
/** Up to and including the real campaign: role CANDIDATE. */
void bench_campaign(struct bench *bench, unsigned grants);
void bench_forget(struct bench *bench);

/** The last message of that kind to `to` (-1: anybody) since bench_forget, or NULL. */
const struct ls_outgoing *bench_sent(const struct bench *bench, enum ls_message_kind kind, int to);
size_t bench_count(const struct bench *bench, enum ls_message_kind kind, int to);
void bench_log_is(const struct bench *bench, const ls_term *terms);
const struct ls_progress *bench_progress(const struct bench *bench, int of,
                                         struct ls_core_status *status);

#define TERMS(...)      ((const ls_term[]){__VA_ARGS__, 0})
#define CURSOR(t, i)    ((struct ls_cursor){(t), (i)})
#define assert_log(...) bench_log_is(bench, TERMS(__VA_ARGS__))

#endif
