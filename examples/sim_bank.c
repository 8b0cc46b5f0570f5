/* SPDX-License-Identifier: MIT */
/* A bank in the simulator: whatever happens to its members, transfers never change the sum of all
 * accounts. `sim_bank --seed 7` simulates one run, `sim_bank --help` tells the rest. */
#include <lockstep/sim.h>

#define ACCOUNTS 8
#define OPENING  100

/* ---- the machine, as it would be in production ---- */

struct bank {
    int64_t accounts[ACCOUNTS];
};
struct transfer {
    int64_t from, to, amount;
};

static struct ls_span signature(void *self)
{
    (void)self;
    return (struct ls_span){"bank/1", 6};
}

static enum ls_status apply(void *self, const struct ls_command *command, struct ls_replies *reply)
{
    struct bank *bank = self;
    struct transfer transfer;
    memcpy(&transfer, command->data.data, sizeof transfer);
    bool enough = bank->accounts[transfer.from] >= transfer.amount;
    bank->accounts[transfer.from] -= enough ? transfer.amount : 0;
    bank->accounts[transfer.to] += enough ? transfer.amount : 0;
    return ls_reply_set(reply, 0, &enough, sizeof enough);
}

static enum ls_status query(void *self, struct ls_span what, struct ls_replies *reply)
{
    (void)what;
    return ls_reply_set(reply, 0, self, sizeof(struct bank));
}

/* ---- how it is simulated ---- */

static enum ls_status machine(void *self, uint32_t member, struct ls_machine *out)
{
    static struct bank banks[LS_SIM_MEMBERS_MAX];
    (void)self;
    for (size_t i = 0; i < ACCOUNTS; i++) { /* it is in memory: a new life begins anew */
        banks[member].accounts[i] = OPENING;
    }
    *out = (struct ls_machine){sizeof *out, &banks[member], .signature = signature};
    out->apply = apply;
    out->query = query;
    return LS_OK;
}

static void next(void *self, struct ls_sim *sim, struct ls_sim_call *call)
{
    static struct transfer transfer;
    (void)self;
    transfer.from = (int64_t)ls_sim_random(sim, 0, ACCOUNTS - 1);
    transfer.to = (int64_t)ls_sim_random(sim, 0, ACCOUNTS - 1);
    transfer.amount = (int64_t)ls_sim_random(sim, 1, OPENING);
    call->data = (struct ls_span){&transfer, sizeof transfer};
    call->kind = !call->probe && ls_sim_random(sim, 1, 3) == 1 ? LS_SIM_QUERY : LS_SIM_COMMAND;
}

/* Of each state that a member has been in, and of each that a client has read. */
static void check(void *self, struct ls_sim *sim, uint32_t member, const void *state)
{
    struct bank bank;
    int64_t sum = 0;
    (void)self;
    memcpy(&bank, state, sizeof bank);
    for (size_t i = 0; i < ACCOUNTS; i++) {
        sum += bank.accounts[i];
    }
    if (sum != ACCOUNTS * OPENING) {
        ls_sim_fail(sim, "the bank of member %c holds %lld", 'a' + (int)member, (long long)sum);
    }
}

static void judge(void *self, struct ls_sim *sim, const struct ls_sim_call *call,
                  const struct ls_outcome *outcome)
{
    if (call->kind == LS_SIM_QUERY && outcome->status == LS_OK) {
        check(self, sim, call->member, outcome->replies[0].data);
    }
}

int main(int argc, char **argv)
{
    struct ls_sim_workload bank = {.size = sizeof bank, .name = "bank"};
    bank.machine = machine;
    bank.next = next;
    bank.check = check;
    bank.judge = judge;
    return ls_sim_main(argc, argv, &bank, 1);
}
