/* SPDX-License-Identifier: MIT */
/*
 * Real lockstep-kv processes on an address of this test's own, and the questions tests ask them.
 * Ends only what it started; the members die with the test, however it ends. Nothing here sleeps to
 * be sure: eventually() looks until a condition holds, or fails at a generous deadline.
 */
#ifndef LOCKSTEP_TESTS_CLUSTER_H
#define LOCKSTEP_TESTS_CLUSTER_H

#include "test.h"

#include <hiredis.h>
#include <sys/types.h>

#define CLUSTER_MEMBERS_MAX 5u
#define CLUSTER_DEADLINE_MS 30000u
/* longer than the server's own deadline of a call, so that its answer arrives first */
#define CLUSTER_REPLY_MS 9000u

struct member {
    const char *name;
    pid_t pid; /* 0: not running */
    uint16_t peer_port, redis_port;
    char data[128], log[128];
    char key[128];              /* the key file it is started with */
    const char *environment[6]; /* "NAME=value" besides ours, borrowed; NULL ends */
    redisContext *connection;   /* lazily opened by cluster_ask */
};

struct cluster {
    unsigned count;
    unsigned election_ms;
    const char *state;     /* of the machine: "memory" or "rocksdb" */
    const char *flags[16]; /* besides ours, of every member: borrowed; NULL ends */
    const char *directory;
    char host[32];
    struct member members[CLUSTER_MEMBERS_MAX];
};

#define NOBODY UINT32_MAX

struct cluster_values {
    unsigned bytes, round;
};

/** Prepares directories, ports and the key; starts nobody. Ends what an earlier, failed test left.
 */
void cluster_prepare(struct cluster *cluster, unsigned count);

/** cluster_prepare, starts everyone and waits for a leader. */
void cluster_open(struct cluster *cluster, unsigned count);

/** Ends every member and closes the connections. */
void cluster_close(struct cluster *cluster);

/** Starts a member and waits until it answers PING. */
void cluster_start(struct cluster *cluster, unsigned at);

/** Starts a member without waiting for anything. */
void cluster_spawn(struct cluster *cluster, unsigned at);

/** Waits until the member has ended by itself or by a signal; returns the status of waitpid. */
int cluster_reap(struct cluster *cluster, unsigned at);

/** kill -9, and gone when it returns. */
void cluster_kill(struct cluster *cluster, unsigned at);

/** kill -9 to all that run, before the first is waited for. */
void cluster_kill_all(struct cluster *cluster);

/** Runs a helper program to its end, which must be exit code 0. `arguments` ends with NULL. */
void cluster_run(const char *const *arguments);

/** SIGTERM; the member must end with exit code 0. */
void cluster_terminate(struct cluster *cluster, unsigned at);

/** SIGSTOP and SIGCONT. */
void cluster_pause(struct cluster *cluster, unsigned at);
void cluster_resume(struct cluster *cluster, unsigned at);

/** A new connection of the caller's own, or NULL. */
redisContext *cluster_connect(const struct cluster *cluster, unsigned at);

/** One command on the member's shared connection; NULL when it does not answer. The caller frees.
 */
redisReply *cluster_ask(struct cluster *cluster, unsigned at, const char *format, ...)
    LS_PRINTF(3, 4);

/** The reply as text in a buffer that the next call overwrites: status, string, error or number as
 * is, nil as "(nil)", no answer as "(none)". */
const char *cluster_text(struct cluster *cluster, unsigned at, const char *format, ...)
    LS_PRINTF(3, 4);

/** A line of INFO: its value in a buffer that the next call overwrites; "" when there is none. */
const char *cluster_info(struct cluster *cluster, unsigned at, const char *field);
uint64_t cluster_number(struct cluster *cluster, unsigned at, const char *field);

/** Whoever of the running members leads in the highest term, or NOBODY. Does not wait. */
unsigned cluster_leader(struct cluster *cluster);

/** Waits for a serving leader whom all members that run agree on. */
unsigned cluster_await_leader(struct cluster *cluster);

/** Whether every running member has applied what the leader has committed. */
bool cluster_level(struct cluster *cluster);

/** A member that runs and does not lead. */
unsigned cluster_follower(struct cluster *cluster);

/** Sets `count` keys from number `first` on, to values that differ by round, through a member. */
void cluster_fill(struct cluster *cluster, unsigned at, unsigned first, unsigned count,
                  const struct cluster_values *values);

/** Before the members start: flags with which the log is pruned soon. */
void cluster_prune_early(struct cluster *cluster);

/** Writes until no member that runs has an entry any more that follows `last`: a state on disk is
 * durable only after megabytes. */
void cluster_write_past(struct cluster *cluster, uint64_t last);

/** All hold the same keys and values. */
void cluster_assert_same(struct cluster *cluster);

/** SHA-256, in hexadecimal, of all keys and values that a member holds: in a buffer that the next
 * call overwrites. "": it did not answer. */
const char *cluster_digest(struct cluster *cluster, unsigned at);

/** Whether the member's log holds `text`. */
bool cluster_logged(const struct cluster *cluster, unsigned at, const char *text);

/** "host:port" on the loopback address of this process, which no other test uses. */
void cluster_address(uint16_t port, char *out, size_t capacity);

uint64_t cluster_now_ms(void);
/** A pause between two looks at a condition. */
void cluster_nap(void);

/** Looks until the condition holds. */
#define eventually(condition)                                                                      \
    do {                                                                                           \
        uint64_t eventually_until = cluster_now_ms() + CLUSTER_DEADLINE_MS;                        \
        while (!(condition)) {                                                                     \
            if (cluster_now_ms() > eventually_until) {                                             \
                fail_msg("not within %u ms: %s", CLUSTER_DEADLINE_MS, #condition);                 \
            }                                                                                      \
            cluster_nap();                                                                         \
        }                                                                                          \
    } while (0)

/** A thread that writes keys, each once, and remembers which were acknowledged. */
struct writer;

/**
 * Begins to write through `through` (NOBODY: any member, another one after each loss).
 * `first` numbers the keys, so that writers do not meet.
 */
struct writer *writer_start(const struct cluster *cluster, unsigned through, unsigned first);
/** Acknowledged so far. Any time. */
unsigned writer_acknowledged(struct writer *writer);
/** Longest time between two acknowledgements so far, ms. */
unsigned writer_gap_ms(struct writer *writer);
void writer_stop(struct writer *writer);
/** How many acknowledged keys `at` does not hold with their value, by linearizable reads. */
unsigned writer_missing(struct writer *writer, struct cluster *cluster, unsigned at);
void writer_free(struct writer *writer);

#endif
