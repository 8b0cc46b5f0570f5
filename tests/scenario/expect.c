/* SPDX-License-Identifier: MIT */
/* What `expect` and `run until` can claim. A claim that does not hold says what does instead. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "script.h"

struct claim {
    const struct script *script;
    size_t at; /* of the first word after the claim's name */
    char *why;
};

static bool no(const struct claim *claim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool no(const struct claim *claim, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(claim->why, SCRIPT_WHY_BYTES, format, arguments);
    va_end(arguments);
    return false;
}

/* [==|<=|>=|<|>] N, compared with `actual`. */
static bool compares(const struct claim *claim, size_t at, const char *what, uint64_t actual)
{
    static const char *const operators[] = {"==", "<=", ">=", "<", ">"};
    size_t operator= 0;
    for (size_t i = 0; i < 5; i++) {
        if (script_is(claim->script, at, operators[i])) {
            operator= i;
            at++;
            break;
        }
    }
    uint64_t wanted = script_number(claim->script, at, "a number");
    bool holds[] = {actual == wanted, actual <= wanted, actual >= wanted,
                    actual<wanted, actual> wanted};
    return holds[operator] ||
           no(claim, "expected %s %s %" PRIu64 ", it is %" PRIu64, what, operators[operator],
              wanted, actual);
}

static bool word_is(const struct claim *claim, size_t at, const char *what, const char *actual)
{
    const char *wanted = script_word(claim->script, at, what);
    return strcmp(wanted, actual) == 0 ||
           no(claim, "expected %s %s, it is %s", what, wanted, actual);
}

static const char *role_text(enum ls_role role)
{
    static const char *const texts[] = {"?", "follower", "pre_candidate", "candidate", "leader"};
    return texts[role <= LS_ROLE_LEADER ? role : 0];
}

static const char *standing_text(enum ls_standing standing)
{
    static const char *const texts[] = {
        "?",          "counts", "founding", "observer", "other_incarnation", "tail_unknown",
        "not_member", "halted"};
    return texts[standing <= LS_STANDING_HALTED ? standing : 0];
}

/* The leader of the highest term among those that run. */
static const struct node *present_leader(const struct realm *realm)
{
    const struct node *leader = NULL;
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        const struct node *node = &realm->nodes[i];
        if (node->alive && node->role == LS_ROLE_LEADER &&
            (leader == NULL || node->term > leader->term)) {
            leader = node;
        }
    }
    return leader;
}

static bool claim_leader(const struct claim *claim)
{
    const struct node *leader = present_leader(claim->script->realm);
    if (leader == NULL) {
        return no(claim, "expected a leader, there is none");
    }
    return claim->at >= claim->script->count || word_is(claim, claim->at, "leader", leader->name);
}

static bool claim_no_leader(const struct claim *claim)
{
    const struct node *leader = present_leader(claim->script->realm);
    return leader == NULL ||
           no(claim, "expected no leader, %s leads term %" PRIu64, leader->name, leader->term);
}

static bool claim_role(const struct claim *claim)
{
    const char *role = role_text(script_alive(claim->script, claim->at)->role);
    if (script_is(claim->script, claim->at + 1, "not")) {
        return strcmp(script_word(claim->script, claim->at + 2, "a role"), role) != 0 ||
               no(claim, "expected another role than %s", role);
    }
    return word_is(claim, claim->at + 1, "role", role);
}

/* sees b leader a | sees b leader nobody */
static bool claim_sees(const struct claim *claim)
{
    const struct node *node = script_alive(claim->script, claim->at);
    const struct node *leader = realm_by_id(node->realm, &node->leader);
    return word_is(claim, claim->at + 2, "leader", leader == NULL ? "nobody" : leader->name);
}

static bool claim_term(const struct claim *claim)
{
    return compares(claim, claim->at + 1, "term", script_alive(claim->script, claim->at)->term);
}

static bool claim_commit(const struct claim *claim)
{
    return compares(claim, claim->at + 1, "commit", script_alive(claim->script, claim->at)->commit);
}

static bool claim_applied(const struct claim *claim)
{
    return compares(claim, claim->at + 1, "applied",
                    script_alive(claim->script, claim->at)->applied);
}

static bool claim_durable(const struct claim *claim)
{
    return compares(claim, claim->at + 1, "durable",
                    script_alive(claim->script, claim->at)->durable);
}

static bool claim_last(const struct claim *claim)
{
    return compares(claim, claim->at + 1, "last",
                    log_last(&script_alive(claim->script, claim->at)->view));
}

static bool log_is(const struct claim *claim, size_t at, const struct log *log)
{
    ls_index end = log->anchor.index;
    for (; at < claim->script->count; at++) {
        struct ls_cursor cursor;
        ls_index last = script_cursors(claim->script, at, &cursor);
        if (cursor.index != end + 1) {
            script_fail(claim->script, "%" PRIu64 " does not follow %" PRIu64, cursor.index, end);
        }
        for (; cursor.index <= last; cursor.index++) {
            if (log_term(log, cursor.index) != cursor.term) {
                return no(claim, "expected %" PRIu64 "^%" PRIu64 ", found term %" PRIu64,
                          cursor.term, cursor.index, log_term(log, cursor.index));
            }
        }
        end = last;
    }
    return end == log_last(log) ||
           no(claim, "expected the log to end at %" PRIu64 ", it ends at %" PRIu64, end,
              log_last(log));
}

static bool claim_log(const struct claim *claim)
{
    return log_is(claim, claim->at + 1, &script_alive(claim->script, claim->at)->view);
}

/* disk a log ... | disk a term 3 | disk a vote b | disk a vote none */
static bool claim_disk(const struct claim *claim)
{
    const struct node *node = script_node(claim->script, claim->at);
    const struct ls_hard_state *hard = &node->disk.hard_state;
    if (script_is(claim->script, claim->at + 1, "log")) {
        return log_is(claim, claim->at + 2, &node->disk.log);
    }
    if (script_is(claim->script, claim->at + 1, "term")) {
        return compares(claim, claim->at + 2, "durable term", hard->term);
    }
    if (script_is(claim->script, claim->at + 1, "vote")) {
        const struct node *vote = realm_by_id(node->realm, &hard->vote);
        return word_is(claim, claim->at + 2, "durable vote",
                       hard->voted && vote != NULL ? vote->name : "none");
    }
    script_fail(claim->script, "expect disk: expected log, term or vote");
}

static bool claim_same(const struct claim *claim)
{
    const struct node *first = NULL;
    struct realm *realm = claim->script->realm;
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        const struct node *node = &realm->nodes[i];
        if (!node->alive) {
            continue;
        }
        first = first == NULL ? node : first;
        ls_index common = log_common(&first->view, &node->view);
        if (common != log_last(&first->view) || common != log_last(&node->view)) {
            return no(claim, "the logs of %s and %s agree up to %" PRIu64 " only", first->name,
                      node->name, common);
        }
        if (node->commit != common || node->applied != common) {
            return no(claim, "%s: commit %" PRIu64 ", applied %" PRIu64 ", last %" PRIu64,
                      node->name, node->commit, node->applied, common);
        }
    }
    return true;
}

/* machine a x y z: the commands applied there, in order */
static bool claim_machine(const struct claim *claim)
{
    const struct script *script = claim->script;
    const struct node *node = script_alive(script, claim->at);
    size_t at = claim->at + 1;
    for (ls_index i = node->view.anchor.index + 1; i <= node->applied; i++) {
        const struct ls_entry *entry = log_entry(&node->view, i);
        if (entry->kind != LS_ENTRY_COMMAND) {
            continue;
        }
        if (at >= script->count || strlen(script->words[at]) != entry->data.bytes ||
            memcmp(script->words[at], entry->data.data, entry->data.bytes) != 0) {
            return no(claim, "%s applied \"%.*s\" at %" PRIu64 ", expected %s", node->name,
                      (int)entry->data.bytes, (const char *)entry->data.data, i,
                      at < script->count ? script->words[at] : "nothing");
        }
        at++;
    }
    return at >= script->count || no(claim, "%s did not apply %s", node->name, script->words[at]);
}

static bool claim_standing(const struct claim *claim)
{
    struct ls_core_status status;
    ls_core_status(script_alive(claim->script, claim->at)->core, &status);
    return word_is(claim, claim->at + 1, "standing", standing_text(status.standing));
}

static const struct ls_progress *progress_of(const struct claim *claim,
                                             struct ls_core_status *status)
{
    const struct node *peer = script_node(claim->script, claim->at + 1);
    ls_core_status(script_alive(claim->script, claim->at)->core, status);
    for (uint32_t i = 0; i < status->progress_count; i++) {
        if (ls_peer_id_equal(&status->progress[i].id, &peer->id)) {
            return &status->progress[i];
        }
    }
    (void)no(claim, "%s has no progress of %s", claim->script->words[claim->at], peer->name);
    return NULL;
}

/* progress a b probe|pipeline|syncing */
static bool claim_progress(const struct claim *claim)
{
    static const char *const texts[] = {"?", "probe", "pipeline", "syncing"};
    struct ls_core_status status;
    const struct ls_progress *progress = progress_of(claim, &status);
    return progress != NULL && word_is(claim, claim->at + 2, "progress", texts[progress->state]);
}

/* match a b 5: the leader a knows that b holds 5 */
static bool claim_match(const struct claim *claim)
{
    struct ls_core_status status;
    const struct ls_progress *progress = progress_of(claim, &status);
    return progress != NULL && compares(claim, claim->at + 2, "match", progress->match);
}

/* regards a c other_incarnation: the leader's view of a member's standing */
static bool claim_regards(const struct claim *claim)
{
    struct ls_core_status status;
    const struct ls_progress *progress = progress_of(claim, &status);
    return progress != NULL &&
           word_is(claim, claim->at + 2, "standing", standing_text(progress->standing));
}

/* missing a c d: founders that a still waits for; `missing a nobody` */
static bool claim_missing(const struct claim *claim)
{
    const struct script *script = claim->script;
    struct ls_core_status status;
    ls_core_status(script_alive(script, claim->at)->core, &status);
    size_t named = script_is(script, claim->at + 1, "nobody") ? 0 : script->count - claim->at - 1;
    if (named != status.missing_founders_count) {
        return no(claim, "%u founders are missing, expected %zu",
                  (unsigned)status.missing_founders_count, named);
    }
    for (size_t i = 0; i < named; i++) {
        const struct node *node = script_node(script, claim->at + 1 + i);
        bool found = false;
        for (uint32_t j = 0; j < status.missing_founders_count; j++) {
            found = found || ls_peer_id_equal(&status.missing_founders[j], &node->id);
        }
        if (!found) {
            return no(claim, "%s is not missing", node->name);
        }
    }
    return true;
}

/* read b ok | no_leader | pending | index [op] 5 */
static bool claim_read(const struct claim *claim)
{
    const struct script *script = claim->script;
    const struct node *node = script_node(script, claim->at);
    if (script->last_read[node->number] == 0) {
        script_fail(script, "%s was not asked to read", node->name);
    }
    const struct pending_read *read = &script->realm->reads[script->last_read[node->number] - 1];
    if (script_is(script, claim->at + 1, "index")) {
        return compares(claim, claim->at + 2, "read index", read->index);
    }
    const char *state = !read->done                        ? "pending"
                        : read->status == LS_OK            ? "ok"
                        : read->status == LS_ERR_NO_LEADER ? "no_leader"
                                                           : ls_status_text(read->status);
    return word_is(claim, claim->at + 1, "read", state);
}

/* gap c 7 | gap c none */
static bool claim_gap(const struct claim *claim)
{
    const struct node *node = script_alive(claim->script, claim->at);
    if (script_is(claim->script, claim->at + 1, "none")) {
        return !node->gap || no(claim, "%s has a gap up to %" PRIu64, node->name, node->gap_target);
    }
    return node->gap ? compares(claim, claim->at + 1, "gap", node->gap_target)
                     : no(claim, "%s has no gap", node->name);
}

/* halted a diverged | io | no */
static bool claim_halted(const struct claim *claim)
{
    enum ls_status halted = script_alive(claim->script, claim->at)->halted;
    const char *text = halted == LS_OK             ? "no"
                       : halted == LS_ERR_DIVERGED ? "diverged"
                       : halted == LS_ERR_IO       ? "io"
                                                   : ls_status_text(halted);
    return word_is(claim, claim->at + 1, "halted", text);
}

/* sent a->b append [op] 3: since the last `count` */
static bool claim_sent(const struct claim *claim)
{
    const struct script *script = claim->script;
    struct rule rule = {0};
    script_arrow(script, claim->at, &rule);
    rule.kind = script_kind(script, claim->at + 1);
    uint64_t sent = 0;
    for (unsigned from = 0; from < script->realm->nodes_count; from++) {
        for (unsigned to = 0; to < script->realm->nodes_count; to++) {
            if ((rule.from < 0 || (unsigned)rule.from == from) &&
                (rule.to < 0 || (unsigned)rule.to == to)) {
                sent += script->realm->sent[from][to][rule.kind] -
                        script->sent_base[from][to][rule.kind];
            }
        }
    }
    return compares(claim, claim->at + 2, "sent", sent);
}

/* parked a->b append 1: messages that a `park` or `copy` rule keeps */
static bool claim_parked(const struct claim *claim)
{
    struct rule rule = {0};
    script_arrow(claim->script, claim->at, &rule);
    rule.kind = script_kind(claim->script, claim->at + 1);
    uint64_t parked = 0;
    for (size_t i = 0; i < claim->script->realm->parked.count; i++) {
        parked += rule_matches(&rule, &claim->script->realm->parked.items[i]) ? 1 : 0;
    }
    return compares(claim, claim->at + 2, "parked", parked);
}

/* refused a propose not_leader | refused a transfer d not_found */
static bool claim_refused(const struct claim *claim)
{
    const struct script *script = claim->script;
    struct node *node = script_alive(script, claim->at);
    enum ls_status status = LS_OK;
    size_t at = claim->at + 2;
    if (script_is(script, claim->at + 1, "propose")) {
        status = realm_propose(node, &(struct ls_span){"refused", 7}, 1);
    } else {
        status = realm_transfer(node, script_node(script, at++));
    }
    const char *text = status == LS_ERR_NOT_LEADER  ? "not_leader"
                       : status == LS_ERR_BUSY      ? "busy"
                       : status == LS_ERR_NOT_FOUND ? "not_found"
                       : status == LS_ERR_HALTED    ? "halted"
                                                    : ls_status_text(status);
    return word_is(claim, at, "refusal", text);
}

static const struct {
    const char *name;
    bool (*holds)(const struct claim *claim);
} claims[] = {
    {"leader", claim_leader},     {"role", claim_role},         {"sees", claim_sees},
    {"term", claim_term},         {"commit", claim_commit},     {"applied", claim_applied},
    {"durable", claim_durable},   {"last", claim_last},         {"log", claim_log},
    {"disk", claim_disk},         {"same", claim_same},         {"machine", claim_machine},
    {"standing", claim_standing}, {"progress", claim_progress}, {"match", claim_match},
    {"regards", claim_regards},   {"missing", claim_missing},   {"read", claim_read},
    {"gap", claim_gap},           {"halted", claim_halted},     {"sent", claim_sent},
    {"parked", claim_parked},     {"refused", claim_refused},
};

bool script_holds(const struct script *script, size_t at, char why[SCRIPT_WHY_BYTES])
{
    struct claim claim = {script, at + 1, why};
    const char *name = script_word(script, at, "a claim");
    if (strcmp(name, "no") == 0 && script_is(script, at + 1, "leader")) {
        return claim_no_leader(&claim);
    }
    for (size_t i = 0; i < sizeof claims / sizeof claims[0]; i++) {
        if (strcmp(name, claims[i].name) == 0) {
            return claims[i].holds(&claim);
        }
    }
    script_fail(script, "nothing is known about \"%s\"", name);
}
