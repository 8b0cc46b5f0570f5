/* SPDX-License-Identifier: MIT */
/* The replicated machine of lockstep-kv: decodes log entries and runs them over a store. */
#ifndef KV_MACHINE_H
#define KV_MACHINE_H

#include <lockstep/machine.h>

#include "command.h"

struct kv_machine {
    struct kv_store store;
    ls_index applied;      /* index of the last command applied */
    enum ls_status failed; /* the store failed: nothing is read or written any more */
    struct kv_entry entry;
    struct kv_buffer reply;
};

/** Moves `store` into the machine, whose close releases it. */
void kv_machine_init(struct kv_machine *machine, const struct kv_store *store);

/** The port, for ls_group_options. `machine` is borrowed until the group closed. */
struct ls_machine kv_machine_port(struct kv_machine *machine);

/** Runs a read command over the present state. errors LS_ERR_IO: nothing was replied */
LS_NODISCARD enum ls_status kv_machine_read(struct kv_machine *machine,
                                            const struct kv_command *command,
                                            const struct ls_span *args, size_t argc,
                                            struct resp_out *out);

/** Why it failed, or NULL. */
const char *kv_machine_trouble(const struct kv_machine *machine);

#endif
