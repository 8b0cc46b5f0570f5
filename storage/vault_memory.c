/* SPDX-License-Identifier: MIT */
/*
 * The vault in memory, for tests and simulators. Each file has what is there and what is durable;
 * with the power goes all that is not durable.
 */
#include <lockstep/vault.h>

struct image {
    uint8_t *bytes;
    size_t count, capacity;
    bool there;
};

struct box {
    struct box *next;
    struct ls_group_id group;
    struct image now[LS_VAULT_FILES + 1], durable[LS_VAULT_FILES + 1];
    bool lost[LS_VAULT_FILES + 1]; /* a sync failed */
};

struct ls_vault_medium {
    struct ls_env env;
    struct box *boxes;
    bool hold, dead;
    uint64_t changes, fail_from, fail_until;
    uint64_t tear; /* 0: a power cut leaves what is durable, and nothing else */
};

static bool image_reserve(const struct ls_env *env, struct image *image, size_t bytes)
{
    if (bytes <= image->capacity) {
        return true;
    }
    size_t capacity = image->capacity < 1024u ? 1024u : image->capacity;
    while (capacity < bytes) {
        capacity *= 2;
    }
    void *fresh = env->allocate(env->self, image->bytes, capacity);
    if (fresh == NULL) {
        return false;
    }
    image->bytes = fresh;
    image->capacity = capacity;
    return true;
}

static void image_drop(const struct ls_env *env, struct image *image)
{
    if (image->bytes != NULL) {
        (void)env->allocate(env->self, image->bytes, 0);
    }
    *image = (struct image){0};
}

static bool image_copy(const struct ls_env *env, struct image *to, const struct image *from)
{
    if (!image_reserve(env, to, from->count)) {
        return false;
    }
    if (from->count > 0) {
        (void)memcpy(to->bytes, from->bytes, from->count);
    }
    to->count = from->count;
    to->there = from->there;
    return true;
}

static struct box *box_find(const struct ls_vault_medium *medium, const struct ls_group_id *group)
{
    struct box *box = medium->boxes;
    while (box != NULL && !ls_group_id_equal(&box->group, group)) {
        box = box->next;
    }
    return box;
}

static struct box *box_make(struct ls_vault_medium *medium, const struct ls_group_id *group)
{
    struct box *box = box_find(medium, group);
    if (box == NULL) {
        box = medium->env.allocate(medium->env.self, NULL, sizeof *box);
        if (box != NULL) {
            *box = (struct box){.next = medium->boxes, .group = *group};
            medium->boxes = box;
        }
    }
    return box;
}

/* LS_OK, or why a call that changes something does not. */
static enum ls_status change(struct ls_vault_medium *medium)
{
    if (medium->dead) {
        return LS_ERR_IO;
    }
    uint64_t at = medium->changes++;
    return at >= medium->fail_from && at < medium->fail_until ? LS_ERR_IO : LS_OK;
}

/* ---- the port -------------------------------------------------------------------------------- */

static enum ls_status memory_write(void *self, const struct ls_group_id *group,
                                   enum ls_vault_file file, uint64_t offset, struct ls_span bytes)
{
    struct ls_vault_medium *medium = self;
    enum ls_status status = change(medium);
    if (status != LS_OK) {
        return status;
    }
    struct box *box = box_make(medium, group);
    if (box == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    struct image *image = &box->now[file];
    LS_ASSERT(offset <= image->count);
    size_t end = (size_t)offset + bytes.bytes;
    if (!image_reserve(&medium->env, image, end)) {
        return LS_ERR_NO_MEMORY;
    }
    if (bytes.bytes > 0) {
        (void)memcpy(image->bytes + offset, bytes.data, bytes.bytes);
    }
    image->count = end > image->count ? end : image->count;
    image->there = true;
    return LS_OK;
}

static enum ls_status memory_read(void *self, const struct ls_group_id *group,
                                  enum ls_vault_file file, uint64_t offset, void *out, size_t bytes,
                                  size_t *got)
{
    const struct ls_vault_medium *medium = self;
    *got = 0;
    const struct box *box = box_find(medium, group);
    if (medium->dead) {
        return LS_ERR_IO;
    }
    if (box == NULL || !box->now[file].there) {
        return LS_ERR_NOT_FOUND;
    }
    const struct image *image = &box->now[file];
    if (offset < image->count) {
        size_t left = image->count - (size_t)offset;
        *got = bytes < left ? bytes : left;
        (void)memcpy(out, image->bytes + offset, *got);
    }
    return LS_OK;
}

static enum ls_status memory_truncate(void *self, const struct ls_group_id *group,
                                      enum ls_vault_file file, uint64_t bytes)
{
    struct ls_vault_medium *medium = self;
    struct box *box = box_find(medium, group);
    if (box == NULL || !box->now[file].there) {
        return LS_ERR_NOT_FOUND;
    }
    enum ls_status status = change(medium);
    if (status == LS_OK && bytes < box->now[file].count) {
        box->now[file].count = (size_t)bytes;
    }
    return status;
}

static enum ls_status memory_sync(void *self, const struct ls_group_id *group,
                                  enum ls_vault_file file)
{
    struct ls_vault_medium *medium = self;
    struct box *box = box_find(medium, group);
    if (box == NULL || !box->now[file].there) {
        return LS_ERR_NOT_FOUND;
    }
    if (medium->hold && !medium->dead) {
        return LS_ERR_BUSY;
    }
    enum ls_status status = change(medium);
    if (box->lost[file] || status != LS_OK ||
        !image_copy(&medium->env, &box->durable[file], &box->now[file])) {
        box->lost[file] = true;
        status = LS_ERR_IO;
    }
    return status;
}

/* One that fails is seen to have happened, but is not durable. */
static enum ls_status memory_replace(void *self, const struct ls_group_id *group,
                                     enum ls_vault_file from, enum ls_vault_file to)
{
    struct ls_vault_medium *medium = self;
    struct box *box = box_find(medium, group);
    if (medium->hold && !medium->dead) {
        return LS_ERR_BUSY;
    }
    enum ls_status status = change(medium);
    if (medium->dead || box == NULL || !box->now[from].there || box->lost[from]) {
        return LS_ERR_IO;
    }
    LS_ASSERT(box->durable[from].there);
    image_drop(&medium->env, &box->now[to]);
    box->now[to] = box->now[from];
    box->now[from] = (struct image){0};
    box->lost[from] = box->lost[to] = false;
    if (status == LS_OK) {
        image_drop(&medium->env, &box->durable[to]);
        box->durable[to] = box->durable[from];
        box->durable[from] = (struct image){0};
    }
    return status;
}

/* What is durable may be back after a power cut. */
static enum ls_status memory_remove(void *self, const struct ls_group_id *group,
                                    enum ls_vault_file file)
{
    struct ls_vault_medium *medium = self;
    struct box *box = box_find(medium, group);
    if (box == NULL || !box->now[file].there) {
        return LS_OK;
    }
    enum ls_status status = change(medium);
    if (status == LS_OK) {
        image_drop(&medium->env, &box->now[file]);
        box->lost[file] = false;
    }
    return status;
}

static void memory_close(void *self)
{
    (void)self; /* the medium stays */
}

void ls_vault_memory_open_on(struct ls_vault_medium *medium, struct ls_vault *out)
{
    medium->dead = false;
    *out = (struct ls_vault){.size = sizeof *out,
                             .self = medium,
                             .write = memory_write,
                             .read = memory_read,
                             .truncate = memory_truncate,
                             .sync = memory_sync,
                             .replace = memory_replace,
                             .remove = memory_remove,
                             .close = memory_close};
}

/* ---- the medium ------------------------------------------------------------------------------ */

enum ls_status ls_vault_medium_open(const struct ls_env *env, struct ls_vault_medium **out)
{
    const struct ls_env *used = env != NULL ? env : ls_env_default();
    struct ls_vault_medium *medium = used->allocate(used->self, NULL, sizeof *medium);
    *out = medium;
    if (medium == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    *medium = (struct ls_vault_medium){.env = *used};
    return LS_OK;
}

void ls_vault_medium_wipe(struct ls_vault_medium *medium)
{
    while (medium->boxes != NULL) {
        struct box *box = medium->boxes;
        medium->boxes = box->next;
        for (size_t i = 0; i <= LS_VAULT_FILES; i++) {
            image_drop(&medium->env, &box->now[i]);
            image_drop(&medium->env, &box->durable[i]);
        }
        (void)medium->env.allocate(medium->env.self, box, 0);
    }
}

void ls_vault_medium_close(struct ls_vault_medium *medium)
{
    if (medium != NULL) {
        struct ls_env env = medium->env;
        ls_vault_medium_wipe(medium);
        (void)env.allocate(env.self, medium, 0);
    }
}

/* A page of what was not synced is there, as it was before, or zero. */
#define PAGE_BYTES 512u

static uint64_t draw(struct ls_vault_medium *medium, uint64_t below)
{
    uint64_t x = medium->tear += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (x ^ (x >> 31)) % below;
}

/* Of a file that was written and not synced the disk has any pages, up to any length. */
static void tear(struct ls_vault_medium *medium, struct image *now, const struct image *durable)
{
    size_t most = now->count > durable->count ? now->count : durable->count;
    size_t least = now->count < durable->count ? now->count : durable->count;
    size_t count = least + (size_t)draw(medium, most - least + 1);
    if (!image_reserve(&medium->env, now, count)) {
        return;
    }
    for (size_t at = 0; at < count; at += PAGE_BYTES) {
        size_t end = at + PAGE_BYTES < count ? at + PAGE_BYTES : count;
        uint64_t fate = draw(medium, 8);
        for (size_t i = at; i < end && (fate < 2 || i >= now->count); i++) {
            now->bytes[i] = i < durable->count ? durable->bytes[i] : 0;
        }
    }
    now->count = count;
}

static bool same(const struct image *a, const struct image *b)
{
    return a->there == b->there && a->count == b->count &&
           (a->count == 0 || memcmp(a->bytes, b->bytes, a->count) == 0);
}

/* What the disk has of a file after the power was cut. */
static void cut(struct ls_vault_medium *medium, struct box *box, size_t file)
{
    struct image *now = &box->now[file];
    struct image *durable = &box->durable[file];
    bool copied = true;
    /* the newest one is never written in place, and has its name durably or not */
    if (medium->tear != 0 && file != LS_VAULT_SNAPSHOT && now->there && !same(now, durable) &&
        draw(medium, 4) > 0) {
        tear(medium, now, durable);
        copied = image_copy(&medium->env, durable, now);
    } else {
        image_drop(&medium->env, now);
        copied = image_copy(&medium->env, now, durable);
    }
    LS_ASSERT(copied);
    box->lost[file] = false;
}

void ls_vault_medium_power_cut(struct ls_vault_medium *medium)
{
    medium->dead = true;
    for (struct box *box = medium->boxes; box != NULL; box = box->next) {
        for (size_t i = 0; i <= LS_VAULT_FILES; i++) {
            cut(medium, box, i);
        }
    }
}

void ls_vault_medium_tear(struct ls_vault_medium *medium, uint64_t seed)
{
    medium->tear = seed;
}

void ls_vault_medium_hold(struct ls_vault_medium *medium, bool on)
{
    medium->hold = on;
}

void ls_vault_medium_fail(struct ls_vault_medium *medium, uint64_t after, uint64_t count)
{
    medium->fail_from = medium->changes + after;
    medium->fail_until =
        count < UINT64_MAX - medium->fail_from ? medium->fail_from + count : UINT64_MAX;
}

uint64_t ls_vault_medium_changes(const struct ls_vault_medium *medium)
{
    return medium->changes;
}

bool ls_vault_medium_flip(struct ls_vault_medium *medium, const struct ls_group_id *group,
                          enum ls_vault_file file, uint64_t offset)
{
    struct box *box = box_find(medium, group);
    bool flipped = false;
    struct image *images[] = {box != NULL ? &box->now[file] : NULL,
                              box != NULL ? &box->durable[file] : NULL};
    for (size_t i = 0; i < 2; i++) {
        if (images[i] != NULL && offset < images[i]->count) {
            images[i]->bytes[offset] ^= 1;
            flipped = true;
        }
    }
    return flipped;
}
