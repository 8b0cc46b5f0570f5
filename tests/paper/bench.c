/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

#include "realm.h"

static const char payload[] = "payload";

static struct ls_incarnation incarnation_of(int member)
{
    struct ls_incarnation out = {{0}};
    out.bytes[0] = 1;
    out.bytes[1] = (uint8_t)member;
    return out;
}

static void configuration_of(const struct bench *bench, const struct setup *setup, unsigned voters,
                             struct ls_configuration *out)
{
    *out = (struct ls_configuration){.count = voters + setup->observers, .joint = setup->joint};
    for (uint32_t i = 0; i < out->count; i++) {
        struct ls_member *member = &out->members[i];
        member->id = bench->ids[i];
        member->incarnation = incarnation_of((int)i);
        member->role = i < voters ? LS_MEMBER_VOTER : LS_MEMBER_OBSERVER;
        if (setup->incoming != 0 && (setup->incoming & (1u << i)) == 0) {
            member->role = LS_MEMBER_OBSERVER;
        }
        member->outgoing_voter = setup->joint && (setup->outgoing & (1u << i)) != 0;
        (void)snprintf(member->name, sizeof member->name, "%c", 'A' + (int)i);
    }
    assert_null(ls_configuration_invalid(out));
}

/* Links every other member of the configuration. */
static void link_all(struct bench *bench, unsigned count)
{
    for (int i = 1; i < (int)count; i++) {
        struct ls_event event = {.kind = LS_EVENT_LINK};
        event.as.link.peer = bench->ids[i];
        event.as.link.incarnation = incarnation_of(i);
        event.as.link.up = true;
        bench_step(bench, &event);
    }
}

struct bench *bench_open(const struct setup *setup)
{
    unsigned voters = setup->voters == 0 ? 3 : setup->voters;
    struct bench *bench = calloc(1, sizeof *bench);
    struct ls_configuration_at *at = calloc(1, sizeof *at);
    assert_non_null(bench);
    assert_non_null(at);
    bench->env = (struct ls_env){
        .size = sizeof(struct ls_env), .allocate = realm_allocate, .codec = realm_codec};
    bench->now_us = 1000000;
    for (int i = 0; i < BENCH_MEMBERS; i++) {
        bench->ids[i].bytes[0] = (uint8_t)('A' + i);
    }
    struct ls_cursor runs[BENCH_LOG_MAX];
    size_t runs_count = 0;
    for (; setup->log[bench->last] != 0; bench->last++) {
        ls_term term = setup->log[bench->last];
        if (bench->last == 0 || bench->log[bench->last] != term) {
            runs[runs_count++] = CURSOR(term, bench->last + 1);
        }
        bench->log[bench->last + 1] = term;
    }
    at->index = 1;
    configuration_of(bench, setup, voters, &at->configuration);
    uint32_t cached[BENCH_LOG_MAX];
    for (size_t i = 0; i < BENCH_LOG_MAX; i++) {
        cached[i] = sizeof payload;
    }
    static const struct ls_group_id group = {{7}};
    struct ls_core_config config = {
        .size = sizeof config,
        .env = &bench->env,
        .group = &group,
        .self = bench->ids[A],
        .incarnation = incarnation_of(A),
        .hard_state = {.term = setup->term, .voted = setup->vote > 0},
        .runs = runs,
        .runs_count = runs_count,
        .last = bench->last,
        .configurations = at,
        .configurations_count = bench->last > 0 ? 1 : 0,
        .cached_bytes = cached,
        .cached_count = bench->last,
        .founders = setup->founders != NULL ? setup->founders : &at->configuration,
        .seed = setup->seed,
        .now_us = bench->now_us,
        .election_ms = BENCH_ELECTION_MS,
        .heartbeat_ms = BENCH_ELECTION_MS / 5,
        .reluctance = 1,
        .window_bytes = LS_WINDOW_BYTES_DEFAULT,
        .cache_bytes = setup->cache_bytes == 0 ? LS_CACHE_BYTES_DEFAULT : setup->cache_bytes,
    };
    if (setup->vote > 0) {
        config.hard_state.vote = bench->ids[setup->vote];
    }
    struct ls_configuration founders = at->configuration;
    if (bench->last == 0 && setup->founders == NULL) {
        for (uint32_t i = 0; i < founders.count; i++) {
            founders.members[i].incarnation = (struct ls_incarnation){{0}};
        }
        config.founders = &founders;
    }
    struct ls_error error = {LS_OK, ""};
    if (ls_core_open(&config, &bench->core, &error) != LS_OK) {
        fail_msg("open: %s", error.text);
    }
    uint32_t members = at->configuration.count;
    free(at);
    bench_tick(bench);
    link_all(bench, members);
    return bench;
}

void bench_close(struct bench *bench)
{
    ls_core_close(bench->core);
    free(bench);
}

static void absorb_log(struct bench *bench, const struct ls_ready *ready)
{
    if (ready->truncate) {
        assert_true(ready->truncate_from > ready->commit);
        bench->last = ready->truncate_from - 1;
    }
    for (uint32_t i = 0; i < ready->entries_count; i++) {
        assert_int_equal(ready->append_first + i, bench->last + 1);
        assert_true(bench->last < BENCH_LOG_MAX);
        bench->log[++bench->last] = ready->entries[i].term;
    }
    assert_int_equal(ready->last, bench->last);
}

/* A message must pass the receiver's border once the driver has filled in the payloads. */
static void assert_valid(const struct bench *bench, struct ls_message message)
{
    struct ls_entry entries[BENCH_LOG_MAX];
    struct ls_append *append = &message.as.append;
    if (message.kind == LS_MESSAGE_APPEND && append->count > 0) {
        assert_true(append->prev.index + append->count <= bench->last);
        for (uint32_t i = 0; i < append->count; i++) {
            entries[i] = (struct ls_entry){.term = bench->log[append->prev.index + 1 + i],
                                           .kind = LS_ENTRY_COMMAND};
        }
        append->entries = entries;
    }
    const char *invalid = ls_message_invalid(&message);
    if (invalid != NULL) {
        fail_msg("the core sends an invalid message: %s", invalid);
    }
}

void bench_step(struct bench *bench, struct ls_event *event)
{
    const struct ls_ready *ready = NULL;
    event->now_us = bench->now_us;
    assert_ok(ls_core_step(bench->core, event, &ready));
    ls_core_check(bench->core);
    if (ready->persist_seq != 0) {
        bench->staged_seq = ready->persist_seq;
    }
    absorb_log(bench, ready);
    for (size_t i = 0; i < ready->messages_count; i++) {
        assert_true(bench->sent_count < BENCH_SENT_MAX);
        assert_valid(bench, ready->messages[i].message);
        bench->sent[bench->sent_count++] = ready->messages[i];
    }
    for (size_t i = 0; i < ready->reads_count; i++) {
        assert_true(bench->reads_count < 16);
        bench->reads[bench->reads_count++] = ready->reads[i];
    }
    bench->ready = *ready;
}

void bench_tick(struct bench *bench)
{
    bench_step(bench, &(struct ls_event){.kind = LS_EVENT_TICK});
}

void bench_pass(struct bench *bench, uint64_t ms)
{
    bench->now_us += ms * 1000u;
}

void bench_wait(struct bench *bench)
{
    assert_true(bench->ready.deadline_us != UINT64_MAX);
    if (bench->ready.deadline_us > bench->now_us) {
        bench->now_us = bench->ready.deadline_us;
    }
    bench_tick(bench);
}

void bench_persist(struct bench *bench)
{
    if (bench->staged_seq != 0) {
        bench_step(bench, &(struct ls_event){.kind = LS_EVENT_PERSISTED,
                                             .as.persisted_seq = bench->staged_seq});
    }
}

void bench_propose(struct bench *bench, uint32_t count)
{
    struct ls_entry entries[BENCH_LOG_MAX];
    assert_true(count <= BENCH_LOG_MAX);
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (struct ls_entry){.kind = LS_ENTRY_COMMAND, .data = {payload, sizeof payload}};
    }
    struct ls_event event = {.kind = LS_EVENT_PROPOSE};
    event.as.propose.entries = entries;
    event.as.propose.count = count;
    bench_step(bench, &event);
}

void bench_read(struct bench *bench, uint64_t token)
{
    bench_step(bench, &(struct ls_event){.kind = LS_EVENT_READ, .as.read_token = token});
}

struct ls_message bench_message(const struct bench *bench, enum ls_message_kind kind, int from,
                                ls_term term)
{
    return (struct ls_message){.kind = kind,
                               .from = bench->ids[from],
                               .to = bench->ids[A],
                               .incarnation = incarnation_of(from),
                               .term = term};
}

void bench_receive(struct bench *bench, const struct ls_message *message)
{
    const char *invalid = ls_message_invalid(message);
    if (invalid != NULL) {
        fail_msg("the test sends what no peer can send: %s", invalid);
    }
    bench_step(bench, &(struct ls_event){.kind = LS_EVENT_MESSAGE, .as.message = message});
}

void bench_append(struct bench *bench, ls_term term, struct ls_cursor prev, const ls_term *terms,
                  uint32_t count, ls_index commit)
{
    struct ls_entry entries[BENCH_LOG_MAX];
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (struct ls_entry){
            .term = terms[i], .kind = LS_ENTRY_COMMAND, .data = {payload, sizeof payload}};
    }
    struct ls_message message = bench_message(bench, LS_MESSAGE_APPEND, B, term);
    message.as.append = (struct ls_append){
        .prev = prev, .commit = commit, .entries = count == 0 ? NULL : entries, .count = count};
    bench_receive(bench, &message);
}

void bench_heartbeat(struct bench *bench, int from, ls_term term, ls_index commit)
{
    struct ls_message message = bench_message(bench, LS_MESSAGE_HEARTBEAT, from, term);
    message.as.heartbeat = (struct ls_heartbeat){.commit = commit, .round = 1};
    bench_receive(bench, &message);
}

static void ask(struct bench *bench, enum ls_message_kind kind, int from, struct ls_cursor at[2])
{
    struct ls_message message = bench_message(bench, kind, from, at[0].term);
    message.as.vote.last = at[1];
    bench_receive(bench, &message);
}

void bench_vote(struct bench *bench, int from, ls_term term, struct ls_cursor last)
{
    ask(bench, LS_MESSAGE_VOTE, from, (struct ls_cursor[]){{term, 0}, last});
}

void bench_pre_vote(struct bench *bench, int from, ls_term term, struct ls_cursor last)
{
    ask(bench, LS_MESSAGE_PRE_VOTE, from, (struct ls_cursor[]){{term, 0}, last});
}

/* Answers whatever the core campaigns for now. */
void bench_grant(struct bench *bench, int from, bool granted)
{
    bool pre = bench->ready.role == LS_ROLE_PRE_CANDIDATE;
    ls_term term = pre && granted ? bench->ready.term + 1 : bench->ready.term;
    struct ls_message message =
        bench_message(bench, pre ? LS_MESSAGE_PRE_VOTE_REPLY : LS_MESSAGE_VOTE_REPLY, from, term);
    message.as.vote_reply.granted = granted;
    bench_receive(bench, &message);
}

void bench_accept(struct bench *bench, int from, ls_index match)
{
    struct ls_message message =
        bench_message(bench, LS_MESSAGE_APPEND_REPLY, from, bench->ready.term);
    message.as.append_reply =
        (struct ls_append_reply){.accepted = true, .counts = true, .match = match, .last = match};
    bench_receive(bench, &message);
}

void bench_reject(struct bench *bench, int from, struct ls_cursor prev, struct ls_cursor hint)
{
    struct ls_message message =
        bench_message(bench, LS_MESSAGE_APPEND_REPLY, from, bench->ready.term);
    message.as.append_reply =
        (struct ls_append_reply){.counts = true, .prev = prev, .hint = hint, .last = hint.index};
    bench_receive(bench, &message);
}

void bench_heartbeat_reply(struct bench *bench, int from, uint64_t round)
{
    struct ls_message message =
        bench_message(bench, LS_MESSAGE_HEARTBEAT_REPLY, from, bench->ready.term);
    message.as.heartbeat_reply =
        (struct ls_heartbeat_reply){.round = round, .last = bench->last, .counts = true};
    bench_receive(bench, &message);
}

void bench_campaign(struct bench *bench, unsigned grants)
{
    for (int waits = 0; bench->ready.role != LS_ROLE_PRE_CANDIDATE && waits < 20; waits++) {
        bench_wait(bench);
        bench_persist(bench);
    }
    assert_int_equal(bench->ready.role, LS_ROLE_PRE_CANDIDATE);
    for (int from = B; from <= (int)grants && bench->ready.role == LS_ROLE_PRE_CANDIDATE; from++) {
        bench_grant(bench, from, true);
    }
    assert_int_equal(bench->ready.role, LS_ROLE_CANDIDATE);
    bench_persist(bench);
}

void bench_lead(struct bench *bench, unsigned grants)
{
    bench_campaign(bench, grants);
    for (int from = B; from <= (int)grants && bench->ready.role == LS_ROLE_CANDIDATE; from++) {
        bench_grant(bench, from, true);
    }
    assert_int_equal(bench->ready.role, LS_ROLE_LEADER);
}

void bench_forget(struct bench *bench)
{
    bench->sent_count = 0;
    bench->reads_count = 0;
}

const struct ls_outgoing *bench_sent(const struct bench *bench, enum ls_message_kind kind, int to)
{
    for (size_t i = bench->sent_count; i > 0; i--) {
        const struct ls_outgoing *sent = &bench->sent[i - 1];
        if (sent->message.kind == kind &&
            (to < 0 || ls_peer_id_equal(&sent->message.to, &bench->ids[to]))) {
            return sent;
        }
    }
    return NULL;
}

size_t bench_count(const struct bench *bench, enum ls_message_kind kind, int to)
{
    size_t count = 0;
    for (size_t i = 0; i < bench->sent_count; i++) {
        const struct ls_message *message = &bench->sent[i].message;
        if (message->kind == kind && (to < 0 || ls_peer_id_equal(&message->to, &bench->ids[to]))) {
            count++;
        }
    }
    return count;
}

void bench_log_is(const struct bench *bench, const ls_term *terms)
{
    ls_index at = 0;
    for (; terms[at] != 0; at++) {
        assert_true(at < bench->last);
        assert_int_equal(bench->log[at + 1], terms[at]);
        assert_int_equal(ls_core_term_at(bench->core, at + 1), terms[at]);
    }
    assert_int_equal(bench->last, at);
}

const struct ls_progress *bench_progress(const struct bench *bench, int of,
                                         struct ls_core_status *status)
{
    ls_core_status(bench->core, status);
    for (uint32_t i = 0; i < status->progress_count; i++) {
        if (ls_peer_id_equal(&status->progress[i].id, &bench->ids[of])) {
            return &status->progress[i];
        }
    }
    fail_msg("no progress of member %c", 'A' + of);
    return NULL;
}
