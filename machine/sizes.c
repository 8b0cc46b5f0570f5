/* SPDX-License-Identifier: MIT */
/* About how many bytes which part of the log has. */
#include "sizes.h"

#include <string.h>

void ls__sizes_reset(struct ls__sizes *sizes, ls_index anchor)
{
    *sizes =
        (struct ls__sizes){.marks = {{anchor, 0}}, .count = 1, .stride = 1, .last = {anchor, 0}};
}

/* Every second mark goes: the distance between them is doubled. */
static void thin(struct ls__sizes *sizes)
{
    size_t kept = 0;
    for (size_t i = 0; i < sizes->count; i += 2) {
        sizes->marks[kept++] = sizes->marks[i];
    }
    sizes->count = kept;
    sizes->stride *= 2;
}

void ls__sizes_add(struct ls__sizes *sizes, uint64_t count, uint64_t bytes)
{
    LS_ASSERT(sizes->count > 0);
    sizes->last.index += count;
    sizes->last.bytes += bytes + count * LS__SIZES_ENTRY_BYTES;
    if (sizes->last.index < sizes->marks[sizes->count - 1].index + sizes->stride) {
        return;
    }
    if (sizes->count == LS__SIZES_MARKS) {
        thin(sizes);
    }
    sizes->marks[sizes->count++] = sizes->last;
}

/* The number of the last mark at or below `index`; the first if there is none. */
static size_t mark_below(const struct ls__sizes *sizes, ls_index index)
{
    size_t low = 0;
    size_t high = sizes->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (sizes->marks[middle].index <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct ls__sizes_mark mark_after(const struct ls__sizes *sizes, size_t at)
{
    return at + 1 < sizes->count ? sizes->marks[at + 1] : sizes->last;
}

/* The sum up to `index`. */
static uint64_t sum_at(const struct ls__sizes *sizes, ls_index index)
{
    size_t at = mark_below(sizes, index);
    const struct ls__sizes_mark below = sizes->marks[at];
    const struct ls__sizes_mark above = mark_after(sizes, at);
    if (index <= below.index || above.index <= below.index) {
        return below.bytes;
    }
    if (index >= above.index) {
        return above.bytes;
    }
    return below.bytes +
           (above.bytes - below.bytes) / (above.index - below.index) * (index - below.index);
}

void ls__sizes_truncate(struct ls__sizes *sizes, ls_index from)
{
    if (from > sizes->last.index) {
        return;
    }
    ls_index last = from > sizes->marks[0].index ? from - 1 : sizes->marks[0].index;
    sizes->last = (struct ls__sizes_mark){last, sum_at(sizes, last)};
    while (sizes->count > 1 && sizes->marks[sizes->count - 1].index > last) {
        sizes->count--;
    }
}

void ls__sizes_prune(struct ls__sizes *sizes, ls_index upto)
{
    size_t gone = mark_below(sizes, upto);
    sizes->count -= gone;
    memmove(sizes->marks, sizes->marks + gone, sizes->count * sizeof sizes->marks[0]);
    while (sizes->count < LS__SIZES_MARKS / 4 && sizes->stride > 1) {
        sizes->stride /= 2;
        if (sizes->stride * LS__SIZES_MARKS < sizes->last.index - sizes->marks[0].index) {
            break;
        }
    }
}

uint64_t ls__sizes_between(const struct ls__sizes *sizes, ls_index after, ls_index upto)
{
    uint64_t sum = upto > after ? sum_at(sizes, upto) - sum_at(sizes, after) : 0;
    return sum;
}

ls_index ls__sizes_back(const struct ls__sizes *sizes, ls_index upto, uint64_t bytes)
{
    uint64_t sum = sum_at(sizes, upto);
    ls_index low = 0; /* too much lies after it; found: nothing does */
    ls_index high = upto;
    if (sum - sizes->marks[0].bytes <= bytes) {
        return 0;
    }
    while (high - low > 1) {
        ls_index middle = low + (high - low) / 2;
        if (sum - sum_at(sizes, middle) <= bytes) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return high;
}
