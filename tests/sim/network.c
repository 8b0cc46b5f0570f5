/* SPDX-License-Identifier: MIT */
/*
 * Paths and timers of the virtual network. A path delays each write by a time of its own, and a
 * connection keeps the order; a lost packet costs the time of its retransmission, doubled each time
 * it is lost again, and all that was written after it waits as well, as TCP lets it. A blocked path
 * holds everything until it opens, unless the transport gives the connection up before.
 */
#include "net.h"

#include <stdio.h>
#include <stdlib.h>

#define PACKET_BYTES     1400u
#define PACKETS_MAX      8u /* of one write, each of which may be lost */
#define RETRIES_MAX      8u
#define RETRANSMIT_US    40000u
#define FLAP_US          400000u
#define RETRANSMIT_AT_US 120000u /* a path that opens carries what waited within so long */
/* a timer of a member whose clock stands still is looked at again */
#define STOPPED_US 20000u

/* ---- timers ---- */

void sim_net_prepare(void *self, struct ls__event *event)
{
    (void)self;
    event->word = 0;
}

static struct sim_timer *timer_of(struct sim_network *network, const struct ls__event *event)
{
    LS_ASSERT(event->word > 0 && event->word <= network->timers_count);
    return &network->timers[event->word - 1];
}

static void timer_release(struct sim_network *network, struct ls__event *event)
{
    if (event->word == 0) {
        return;
    }
    struct sim_timer *timer = timer_of(network, event);
    timer->event = NULL;
    timer->missed = false;
    timer->generation++;
    timer->next_free = network->timers_free;
    network->timers_free = (uint32_t)event->word;
    event->word = 0;
}

/* Slot of a new timer, from 1. */
static uint32_t timer_take(struct sim_network *network)
{
    uint32_t slot = network->timers_free;
    if (slot != 0) {
        network->timers_free = network->timers[slot - 1].next_free;
        return slot;
    }
    if (network->timers_count == network->timers_capacity) {
        network->timers_capacity =
            network->timers_capacity == 0 ? 64 : network->timers_capacity * 2;
        network->timers =
            realloc(network->timers, network->timers_capacity * sizeof *network->timers);
        LS_ASSERT(network->timers != NULL);
    }
    network->timers[network->timers_count++] = (struct sim_timer){.generation = 1};
    return network->timers_count;
}

static void timer_push(struct world *world, const struct ls__event *event, uint64_t at_us)
{
    const struct sim_timer *timer = timer_of(&world->network, event);
    sim_push(world, at_us, SIM_NET_TIMER, timer->member, (uint32_t)event->word, timer->generation);
}

bool sim_net_add(void *self, struct ls__event *event, uint64_t after_us)
{
    struct sim_member *member = self;
    struct world *world = member->world;
    struct sim_network *network = &world->network;
    if (event->kind != LS__EVENT_TIMER) {
        sim_socket_watch(member, event, true);
        return true;
    }
    if (event->word == 0) {
        event->word = timer_take(network);
    }
    struct sim_timer *timer = timer_of(network, event);
    timer->event = event;
    timer->member = member->at;
    timer->generation++;
    timer->missed = false;
    uint64_t at_us =
        after_us == 0 ? world->now_us : sim_member_time(member, sim_member_now(member) + after_us);
    timer_push(world, event, at_us != UINT64_MAX ? at_us : world->now_us + after_us);
    return true;
}

void sim_net_remove(void *self, struct ls__event *event)
{
    struct sim_member *member = self;
    if (event->kind != LS__EVENT_TIMER) {
        sim_socket_watch(member, event, false);
    } else {
        timer_release(&member->world->network, event);
    }
}

void sim_net_activate(void *self, struct ls__event *event)
{
    if (event->kind != LS__EVENT_TIMER) {
        sim_socket_activate(self, event);
    } else {
        (void)sim_net_add(self, event, 0);
    }
}

static void on_timer(struct world *world, const struct sim_event *at)
{
    struct sim_timer *timer = &world->network.timers[at->b - 1];
    struct sim_member *member = &world->members[at->a];
    if (timer->event == NULL || timer->generation != at->token) {
        return;
    }
    if (member->paused) {
        timer->missed = true;
        return;
    }
    if (member->stopped) { /* its clock: looked at again soon */
        sim_push(world, world->now_us + STOPPED_US, SIM_NET_TIMER, at->a, at->b, at->token);
        return;
    }
    struct ls__event *event = timer->event;
    timer_release(&world->network, event);
    event->fire(event->arg);
    sim_member_after(member);
}

struct ls__net sim_net(struct sim_member *member)
{
    return (struct ls__net){.self = member,
                            .prepare = sim_net_prepare,
                            .add = sim_net_add,
                            .remove = sim_net_remove,
                            .activate = sim_net_activate,
                            .dial = sim_socket_dial,
                            .listen = sim_socket_listen,
                            .accept = sim_socket_accept,
                            .failure = sim_socket_failure,
                            .write = sim_socket_write,
                            .read = sim_socket_read,
                            .close = sim_socket_close};
}

/* ---- paths ---- */

uint64_t sim_path_due(struct world *world, uint32_t from, uint32_t to, size_t bytes)
{
    struct sim_network *network = &world->network;
    struct sim_random *random = &network->random;
    struct sim_path *path = &network->paths[from][to];
    uint64_t delay = sim_random_in(random, network->delay_min_us, network->delay_max_us);
    if (network->tail_percent > 0 && sim_random_percent(random, network->tail_percent)) {
        delay += sim_random_in(random, 0, network->tail_us);
        world->injected[SIM_FAULT_LONG_DELAY]++;
    }
    size_t packets = bytes / PACKET_BYTES + 1;
    packets = packets < PACKETS_MAX ? packets : PACKETS_MAX;
    for (size_t i = 0; i < packets && network->loss_percent > 0; i++) {
        uint64_t again = 2u * network->delay_max_us + sim_random_in(random, 1000, RETRANSMIT_US);
        for (uint32_t retry = 0;
             retry < RETRIES_MAX && sim_random_percent(random, network->loss_percent); retry++) {
            delay += again << retry;
            world->injected[SIM_FAULT_LOSS]++;
        }
    }
    uint64_t start = world->now_us;
    if (path->bytes_per_s > 0) {
        start = path->busy_us > start ? path->busy_us : start;
        start += (uint64_t)bytes * 1000000u / path->bytes_per_s;
        path->busy_us = start;
    }
    return start + delay;
}

void sim_network_narrow(struct world *world, uint32_t from, uint32_t to, uint32_t bytes_per_s)
{
    struct sim_path *path = &world->network.paths[from][to];
    path->bytes_per_s = bytes_per_s;
    path->busy_us = 0;
}

void sim_path_block(struct world *world, uint32_t from, uint32_t to, enum sim_block why, bool on)
{
    struct sim_network *network = &world->network;
    struct sim_path *path = &network->paths[from][to];
    uint32_t before = path->blocked;
    path->blocked = on ? before | (uint32_t)why : before & ~(uint32_t)why;
    if (before != 0 && path->blocked == 0) {
        path->open_us = world->now_us + sim_random_in(&network->random, 0, RETRANSMIT_AT_US);
        sim_sockets_look(world, from, to);
    }
}

void sim_network_block(struct world *world, uint32_t from, uint32_t to, bool blocked)
{
    sim_path_block(world, from, to, SIM_BLOCK_PARTITION, blocked);
}

void sim_network_flap(struct world *world, uint32_t from, uint32_t to, uint64_t until_us)
{
    struct sim_path *path = &world->network.paths[from][to];
    bool flaps = path->flap_us > world->now_us;
    path->flap_us = until_us;
    if (!flaps) {
        sim_push(world, world->now_us, SIM_FLAP, from, to, 0);
    }
}

static void on_flap(struct world *world, const struct sim_event *at)
{
    struct sim_network *network = &world->network;
    const struct sim_path *path = &network->paths[at->a][at->b];
    bool open = (path->blocked & SIM_BLOCK_FLAP) == 0;
    if (path->flap_us <= world->now_us || !open) {
        sim_path_block(world, at->a, at->b, SIM_BLOCK_FLAP, false);
    } else {
        sim_path_block(world, at->a, at->b, SIM_BLOCK_FLAP, true);
    }
    if (path->flap_us > world->now_us) {
        uint64_t after = sim_random_in(&network->random, 1000, FLAP_US);
        sim_push(world, world->now_us + after, SIM_FLAP, at->a, at->b, 0);
    }
}

void sim_network_wake(struct world *world, uint32_t at)
{
    struct sim_network *network = &world->network;
    for (uint32_t i = 0; i < network->timers_count; i++) {
        const struct sim_timer *timer = &network->timers[i];
        if (timer->event != NULL && timer->member == at && timer->missed) {
            /* timers and sockets are served in any order */
            timer_push(world, timer->event,
                       world->now_us + sim_random_in(&network->random, 0, 3000));
        }
    }
    sim_sockets_look(world, SIM_MEMBERS_MAX, at);
}

void sim_network_vanish(struct world *world, uint32_t at)
{
    struct sim_network *network = &world->network;
    network->ports[at].cut = true;
    /* the kernel of a killed process tells its peers; a host that loses its power does not */
    sim_sockets_die(world, at, sim_random_percent(&network->random, 30));
}

/* ---- the whole ---- */

static uint32_t power_of_two(struct sim_random *random, uint32_t low, uint32_t high)
{
    return (uint32_t)1 << sim_random_in(random, low, high);
}

void sim_network_open(struct world *world)
{
    struct sim_network *network = &world->network;
    struct sim_random *random = &network->random;
    random->state = sim_random_next(&world->random);
    network->delay_min_us = (uint32_t)sim_random_in(random, 20, 1000);
    network->delay_max_us = network->delay_min_us + (uint32_t)sim_random_in(random, 100, 10000);
    network->handshake_ms = (uint32_t)sim_random_in(random, 500, 5000);
    network->idle_ms = (uint32_t)sim_random_in(random, 600, 6000);
    network->reconnect_min_ms = (uint32_t)sim_random_in(random, 5, 100);
    network->reconnect_max_ms = (uint32_t)sim_random_in(random, 100, 2000);
    network->ring_bytes = power_of_two(random, 14, 18);
    network->window_bytes = network->ring_bytes;
    network->queue_bytes = LS_SEND_QUEUE_BYTES_MAX;
    if (sim_random_percent(random, 25)) {
        network->bulk_bytes_per_s = sim_random_in(random, 1u << 20, 16u << 20);
    }
    network->stand_in = !sim_random_percent(random, 10);
    network->late_us = (uint32_t)sim_random_in(random, 1000, 500000);
    if (sim_fault_enabled(world, SIM_FAULT_LONG_DELAY)) {
        network->tail_percent = (uint32_t)sim_random_in(random, 1, 3);
        network->tail_us = (uint32_t)sim_random_in(random, 10000, 400000);
    }
    if (sim_fault_enabled(world, SIM_FAULT_LOSS)) {
        network->loss_percent = (uint32_t)sim_random_in(random, 1, 30);
    }
    if (sim_fault_enabled(world, SIM_FAULT_TWICE)) {
        network->twice_percent = (uint32_t)sim_random_in(random, 1, 50);
    }
    if (sim_fault_enabled(world, SIM_FAULT_LATE)) {
        network->late_percent = (uint32_t)sim_random_in(random, 1, 50);
    }
    if (sim_fault_enabled(world, SIM_FAULT_FULL_QUEUE)) {
        network->queue_bytes = power_of_two(random, 9, 12);
        network->window_bytes = power_of_two(random, 9, 12);
    }
    network->disordered = network->twice_percent > 0 || network->late_percent > 0;
    sim_cipher_stand_in(network->stand_in);
}

void sim_network_disorder(struct world *world, uint32_t late_percent)
{
    world->network.disordered = true;
    world->network.late_percent = late_percent;
}

void sim_network_calm(struct world *world)
{
    struct sim_network *network = &world->network;
    network->tail_percent = network->loss_percent = 0;
    network->twice_percent = network->late_percent = 0;
    network->window_bytes = network->ring_bytes;
    network->queue_bytes = LS_SEND_QUEUE_BYTES_MAX;
    for (uint32_t from = 0; from < world->count; from++) {
        for (uint32_t to = 0; to < world->count; to++) {
            network->paths[from][to].flap_us = 0;
            sim_path_block(world, from, to, SIM_BLOCK_PARTITION, false);
            sim_path_block(world, from, to, SIM_BLOCK_CLOG, false);
            sim_path_block(world, from, to, SIM_BLOCK_FLAP, false);
            sim_network_narrow(world, from, to, 0);
        }
    }
}

void sim_network_event(struct world *world, const struct sim_event *event)
{
    if (event->kind == SIM_NET_TIMER) {
        on_timer(world, event);
    } else if (event->kind == SIM_FLAP) {
        on_flap(world, event);
    } else if (event->kind == SIM_LATE) {
        sim_port_event(world, event);
    } else {
        sim_sockets_event(world, event);
    }
}

void sim_network_free(struct world *world)
{
    struct sim_network *network = &world->network;
    for (uint32_t i = 0; i < world->count; i++) {
        sim_port_forget(world, i);
    }
    for (uint32_t i = 0; i < network->timers_count && !world->failed; i++) {
        LS_ASSERT(network->timers[i].event == NULL); /* all transports are closed */
    }
    sim_sockets_free(world);
    free(network->timers);
}
