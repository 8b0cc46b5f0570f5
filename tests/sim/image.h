/* SPDX-License-Identifier: MIT */
/*
 * A state that stands still, as items in the order in which they were added: what machines of
 * workloads freeze, and what a simulated disk keeps of a machine.
 */
#ifndef LOCKSTEP_SIM_IMAGE_H
#define LOCKSTEP_SIM_IMAGE_H

#include <lockstep/snapshot.h>

struct sim_image {
    uint8_t *bytes; /* keys and values, back to back */
    size_t used, capacity;
    struct sim_image_item {
        size_t at, key_bytes, value_bytes;
    } * items;
    size_t count, room;
    uint64_t total; /* of keys and values */
};

void sim_image_add(struct sim_image *image, const struct ls_item *item);
struct ls_item sim_image_item(const struct sim_image *image, size_t at);
/** As ls_machine.iterate. */
enum ls_status sim_image_iterate(const struct sim_image *image, struct ls_span from,
                                 ls_item_visit visit, void *arg);
void sim_image_clear(struct sim_image *image);
void sim_image_free(struct sim_image *image);

#endif
