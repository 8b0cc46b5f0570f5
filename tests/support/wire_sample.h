/* SPDX-License-Identifier: MIT */
/* One well-formed frame of every kind, with fields that differ from each other. */
#ifndef LOCKSTEP_WIRE_SAMPLE_H
#define LOCKSTEP_WIRE_SAMPLE_H

#include <lockstep/wire.h>

static const struct ls_entry wire_sample_entries[] = {
    {7, LS_ENTRY_COMMAND, {"set a 1", 7}},
    {7, LS_ENTRY_NOOP, {NULL, 0}},
    {9, LS_ENTRY_CONFIGURATION, {"configuration", 13}},
    {9, LS_ENTRY_MARKER, {"m", 1}},
};
static const struct ls_span wire_sample_spans[] = {{"one", 3}, {NULL, 0}, {"three", 5}};

#define WIRE_SAMPLE_CORE(message_kind, ...)                                                        \
    {                                                                                              \
        .kind = LS_WIRE_CORE, .as.core = {.kind = (message_kind), .term = 9, __VA_ARGS__ }         \
    }

static const struct ls_wire_frame wire_samples[] = {
    WIRE_SAMPLE_CORE(LS_MESSAGE_PRE_VOTE, .as.vote = {.last = {8, 300}, .transfer = false}),
    WIRE_SAMPLE_CORE(LS_MESSAGE_PRE_VOTE_REPLY, .as.vote_reply = {true, false, false}),
    WIRE_SAMPLE_CORE(LS_MESSAGE_VOTE, .as.vote = {.last = {8, 300}, .transfer = true}),
    WIRE_SAMPLE_CORE(LS_MESSAGE_VOTE_REPLY, .as.vote_reply = {false, true, true}),
    WIRE_SAMPLE_CORE(LS_MESSAGE_APPEND, .as.append = {.prev = {6, 70000},
                                                      .commit = 69999,
                                                      .syncing = true,
                                                      .entries = wire_sample_entries,
                                                      .count = 4}),
    WIRE_SAMPLE_CORE(LS_MESSAGE_APPEND,
                     .as.append = {.prev = {0, 0}, .commit = 0, .syncing = false}),
    WIRE_SAMPLE_CORE(LS_MESSAGE_APPEND_REPLY, .as.append_reply = {.accepted = true,
                                                                  .counts = true,
                                                                  .prev = {6, 70000},
                                                                  .match = 70004,
                                                                  .last = 70005}),
    WIRE_SAMPLE_CORE(LS_MESSAGE_APPEND_REPLY, .as.append_reply = {.accepted = false,
                                                                  .counts = false,
                                                                  .prev = {6, 70000},
                                                                  .match = 3,
                                                                  .hint = {5, 40},
                                                                  .last = 41}),
    WIRE_SAMPLE_CORE(LS_MESSAGE_HEARTBEAT, .as.heartbeat = {.commit = 5000000000,
                                                            .sent = 5000000001,
                                                            .round = 17,
                                                            .prune_safe = 200,
                                                            .syncing = true}),
    WIRE_SAMPLE_CORE(
        LS_MESSAGE_HEARTBEAT_REPLY,
        .as.heartbeat_reply = {.round = 17, .last = 301, .match = 299, .counts = true}),
    WIRE_SAMPLE_CORE(LS_MESSAGE_READ_INDEX, .as.read_index = {0xfedcba9876543210}),
    WIRE_SAMPLE_CORE(
        LS_MESSAGE_READ_INDEX_REPLY,
        .as.read_index_reply = {.token = 0xfedcba9876543210, .valid = true, .index = 9}),
    WIRE_SAMPLE_CORE(LS_MESSAGE_TIMEOUT_NOW, .incarnation = {{0}}),
    {.kind = LS_WIRE_FORWARD,
     .as.forward = {.id = 77,
                    .kind = LS_FORWARD_EXECUTE,
                    .deadline_ms = 5000,
                    .count = 3,
                    .commands = wire_sample_spans}},
    {.kind = LS_WIRE_FORWARD,
     .as.forward = {.id = 78,
                    .kind = LS_FORWARD_FEED,
                    .deadline_ms = UINT32_MAX,
                    .count = 1,
                    .commands = wire_sample_spans}},
    {.kind = LS_WIRE_FORWARD,
     .as.forward = {.id = 79,
                    .kind = LS_FORWARD_TRANSFER,
                    .deadline_ms = 0,
                    .target = {{1, 2, 3, 4, 5, 6, 7, 8}}}},
    {.kind = LS_WIRE_FORWARD,
     .as.forward = {.id = 80, .kind = LS_FORWARD_TRANSFER, .deadline_ms = 1}},
    {.kind = LS_WIRE_FORWARD_REPLY,
     .as.forward_reply = {.id = 77,
                          .status = LS_OK,
                          .first = {9, 70004},
                          .count = 3,
                          .replies = wire_sample_spans}},
    {.kind = LS_WIRE_FORWARD_REPLY,
     .as.forward_reply = {.id = UINT64_MAX, .status = LS_ERR_UNREACHABLE}},
    {.kind = LS_WIRE_SYNC, .as.sync = {.tag = 1, .to_session = true, .bytes = {"range", 5}}},
    {.kind = LS_WIRE_SYNC, .as.sync = {.tag = UINT32_MAX, .to_session = false}},
    {.kind = LS_WIRE_NOTE,
     .as.note = {.role = LS_ROLE_FOLLOWER,
                 .term = 9,
                 .commit = 70004,
                 .applied = 70001,
                 .log_first = 60000,
                 .sync_phase = 2,
                 .percent = 41,
                 .serves = 1}},
};
#define WIRE_SAMPLES (sizeof wire_samples / sizeof wire_samples[0])

#endif
