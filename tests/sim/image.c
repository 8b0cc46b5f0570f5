/* SPDX-License-Identifier: MIT */
/* States as lists of items. They are the simulator's, not the memory of a member. */
#include "image.h"

#include "checks.h"

#include <stdlib.h>

void sim_image_add(struct sim_image *image, const struct ls_item *item)
{
    size_t bytes = item->key.bytes + item->value.bytes;
    image->items = sim_grow(image->items, &image->room, image->count, sizeof *image->items);
    image->bytes = sim_grow(image->bytes, &image->capacity, image->used + bytes, 1);
    if (item->key.bytes > 0) {
        (void)memcpy(image->bytes + image->used, item->key.data, item->key.bytes);
    }
    if (item->value.bytes > 0) {
        (void)memcpy(image->bytes + image->used + item->key.bytes, item->value.data,
                     item->value.bytes);
    }
    image->items[image->count++] =
        (struct sim_image_item){image->used, item->key.bytes, item->value.bytes};
    image->used += bytes;
    image->total += bytes;
}

struct ls_item sim_image_item(const struct sim_image *image, size_t at)
{
    const struct sim_image_item *item = &image->items[at];
    return (struct ls_item){{image->bytes + item->at, item->key_bytes},
                            {image->bytes + item->at + item->key_bytes, item->value_bytes}};
}

static bool same(struct ls_span a, struct ls_span b)
{
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

enum ls_status sim_image_iterate(const struct sim_image *image, struct ls_span from,
                                 ls_item_visit visit, void *arg)
{
    size_t at = 0;
    while (from.bytes > 0 && at < image->count && !same(sim_image_item(image, at).key, from)) {
        at++;
    }
    for (; at < image->count; at++) {
        struct ls_item item = sim_image_item(image, at);
        if (!visit(arg, &item)) {
            return LS_OK;
        }
    }
    return LS_OK;
}

void sim_image_clear(struct sim_image *image)
{
    image->used = image->count = 0;
    image->total = 0;
}

void sim_image_free(struct sim_image *image)
{
    free(image->bytes);
    free(image->items);
    *image = (struct sim_image){.bytes = NULL};
}
