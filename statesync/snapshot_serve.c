/* SPDX-License-Identifier: MIT */
/*
 * Tables and chunks of frozen states. A table is made in slices, chunks are read when they are
 * sent; neither is ever held for more than one answer, so that memory does not depend on the size
 * of the state. What is sent is paid for at the rate allowed; who waits, waits here.
 */
#include "snapshot_sync.h"

/* read for a table, or sent, before the loop looks at its sockets again */
#define SLICE_BYTES (1u << 20)
/* while the group is busy, serving gets this part of its rate */
#define BUSY_DIVISOR 4u
/* ... and a byte of a table costs this part of one that is sent */
#define TABLE_DIVISOR 2u
/* a full queue is tried again after so long */
#define RETRY_US 5000u
/* what was not sent in time may be sent later, up to this part of a second's worth */
#define BURST_DIVISOR 10u
/* the block for an answer begins with so much */
#define ROOM_BYTES 65536u

static void wake_at(const struct ls__snap_provider *provider, uint64_t at_us)
{
    provider->context.base.wake_at(provider->context.base.self, at_us);
}

uint8_t *ls__snap_room(struct ls__snap_provider *provider, size_t bytes)
{
    bool room = ls__grow(provider->context.base.env, ROOM_BYTES, &provider->encoded,
                         &provider->encoded_capacity, bytes);
    return room ? provider->encoded : NULL;
}

void ls__snap_release_memory(struct ls__snap_provider *provider)
{
    const struct ls_env *env = provider->context.base.env;
    ls__free(env, provider->encoded);
    provider->encoded = NULL;
    provider->encoded_capacity = 0;
    ls_chunk_builder_free(&provider->builder);
    while (provider->asks != NULL) {
        ls__snap_drop_asks(provider, &provider->asks->peer);
    }
}

/* Cuts the chunk that begins with `from` (empty: the first) into the builder. */
static enum ls_status cut(struct ls__snap_provider *provider, const struct ls__anchor *anchor,
                          struct ls_span from)
{
    struct ls_chunk_builder *builder = &provider->builder;
    builder->bytes_max = ls_snapshot_chunk_bytes(anchor->frozen.bytes);
    ls_chunk_begin(builder);
    enum ls_status status = provider->context.iterate(
        provider->context.base.self, anchor->frozen.id, from, ls_chunk_visit, builder);
    return status != LS_OK ? status : builder->failed;
}

/* ---- pace ------------------------------------------------------------------------------------ */

void ls__snap_look_at_load(struct ls__snap_provider *provider, uint64_t now)
{
    const struct ls_sync_context *base = &provider->context.base;
    ls__snap_load_look(&provider->load, base->committed(base->self).index, now);
}

/* Every byte takes its time at the rate; what was not used up to now is worth a short burst, but
 * not while others want the loop, too. */
static void pay(struct ls__snap_provider *provider, uint64_t now, size_t bytes)
{
    uint64_t burst = provider->load.busy ? 0 : 1000000u / BURST_DIVISOR;
    if (provider->credit_us + burst < now) {
        provider->credit_us = now - burst;
    }
    uint64_t cost = provider->load.busy ? BUSY_DIVISOR * (uint64_t)bytes : bytes;
    provider->credit_us += cost * 1000000u / provider->limits.rate_bytes;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* Without a table the state is of no use to anybody. */
static void table_fail(struct ls__snap_provider *provider, struct ls__anchor *anchor)
{
    provider->failed_us =
        provider->context.base.now_us(provider->context.base.self) + provider->limits.lease_us;
    ls__snap_thaw(provider, anchor);
}

static void table_end(struct ls__snap_provider *provider, struct ls__anchor *anchor)
{
    const struct ls_sync_frozen *frozen = &anchor->frozen;
    const struct ls_snapshot snapshot = {.anchor = frozen->anchor,
                                         .configuration_index = frozen->configuration_index,
                                         .configuration = frozen->configuration,
                                         .items = frozen->items,
                                         .bytes = frozen->bytes,
                                         .chunks = anchor->table.count};
    if (anchor->table.items != frozen->items || anchor->table.bytes != frozen->bytes) {
        const struct ls_sync_context *base = &provider->context.base;
        const struct ls__note note = {base->env, &base->group, NULL, NULL};
        ls__note(&note, LS_TRACE_ERROR, "the machine counts {} items, and has {}", frozen->items,
                 anchor->table.items, 0);
        table_fail(provider, anchor);
        return;
    }
    anchor->root = ls_snapshot_root(provider->context.base.env, &snapshot, anchor->table.hashes);
    anchor->state = LS__TABLE_READY;
}

/* Room for the key that follows, so that keeping it cannot fail. */
static bool reserve_next(struct ls__snap_provider *provider, struct ls__anchor *anchor)
{
    const struct ls_chunk_builder *builder = &provider->builder;
    if (builder->full && builder->next_bytes > anchor->next_capacity) {
        const struct ls_env *env = provider->context.base.env;
        void *fresh = env->allocate(env->self, anchor->next, builder->next_bytes);
        if (fresh == NULL) {
            return false;
        }
        anchor->next = fresh;
        anchor->next_capacity = builder->next_bytes;
    }
    return true;
}

static void keep_next(const struct ls__snap_provider *provider, struct ls__anchor *anchor)
{
    const struct ls_chunk_builder *builder = &provider->builder;
    LS_ASSERT(builder->next_bytes > 0 && builder->next_bytes <= anchor->next_capacity);
    memcpy(anchor->next, builder->next, builder->next_bytes);
    anchor->next_bytes = builder->next_bytes;
}

/* One more row. Out of memory: tried again with the next slice. */
static size_t table_row(struct ls__snap_provider *provider, struct ls__anchor *anchor)
{
    struct ls_chunk_builder *builder = &provider->builder;
    if (anchor->frozen.items == 0) {
        table_end(provider, anchor);
        return 0;
    }
    enum ls_status status =
        cut(provider, anchor, (struct ls_span){anchor->next, anchor->next_bytes});
    struct ls_item first = {{NULL, 0}, {NULL, 0}};
    size_t at = 0;
    const struct ls_span chunk = {builder->data, builder->bytes};
    if (status == LS_OK && !ls_chunk_next(chunk, &at, &first)) {
        status = LS_ERR_INVALID; /* the machine has nothing where it had something */
    }
    if (status == LS_OK && !reserve_next(provider, anchor)) {
        status = LS_ERR_NO_MEMORY;
    }
    if (status == LS_OK) {
        struct ls_hash hash = ls_chunk_hash(provider->context.base.env, chunk);
        status = ls__table_add(&anchor->table, &hash, (uint32_t)builder->items,
                               (uint32_t)builder->item_bytes, first.key);
    }
    if (status == LS_ERR_NO_MEMORY || status == LS_ERR_BUSY) {
        return SLICE_BYTES;
    }
    if (status != LS_OK) {
        table_fail(provider, anchor);
        return 0;
    }
    if (builder->full) {
        keep_next(provider, anchor);
    } else {
        table_end(provider, anchor);
    }
    return builder->bytes;
}

static void make_tables(struct ls__snap_provider *provider, uint64_t now)
{
    const size_t slice = provider->load.busy ? 1 : SLICE_BYTES;
    size_t done = 0;
    if (provider->load.busy && provider->credit_us > now) {
        return;
    }
    for (size_t i = 0; i < LS_SNAPSHOT_ANCHORS_MAX; i++) {
        struct ls__anchor *anchor = &provider->anchors[i];
        while (anchor->live && anchor->state == LS__TABLE_MAKING && done < slice) {
            done += table_row(provider, anchor);
        }
    }
    if (provider->load.busy) {
        pay(provider, now, done / TABLE_DIVISOR);
    }
}

static bool makes_tables(const struct ls__snap_provider *provider)
{
    bool makes = false;
    for (size_t i = 0; i < LS_SNAPSHOT_ANCHORS_MAX; i++) {
        const struct ls__anchor *anchor = &provider->anchors[i];
        makes = makes || (anchor->live && anchor->state == LS__TABLE_MAKING);
    }
    return makes;
}

/* The rows of a page: as many as asked, within what a message may carry. */
static uint32_t page_rows(const struct ls__table *table, struct ls__snap_message *page,
                          struct ls_value *values, size_t *key_bytes)
{
    uint32_t count = 0;
    while (count < page->count && page->chunk + count < table->count) {
        uint32_t chunk = page->chunk + count;
        struct ls_span key = ls__table_key(table, chunk);
        if (count > 0 && *key_bytes + key.bytes > LS__SNAP_PAGE_BYTES) {
            break;
        }
        *key_bytes += key.bytes;
        const struct ls__chunk_row *row = &table->rows[chunk];
        struct ls_value *at = values + 4u * (size_t)count;
        at[0] = (struct ls_value){.kind = LS_VALUE_BYTES,
                                  .as.bytes = {table->hashes[chunk].bytes, sizeof(struct ls_hash)}};
        at[1] = (struct ls_value){.kind = LS_VALUE_UINT, .as.number = row->items};
        at[2] = (struct ls_value){.kind = LS_VALUE_UINT, .as.number = row->bytes};
        at[3] = (struct ls_value){.kind = LS_VALUE_BYTES, .as.bytes = key};
        count++;
    }
    return count;
}

/* Lost answers are asked for again. */
static void send_page(struct ls__snap_provider *provider, const struct ls_peer_id *to,
                      const struct ls__anchor *anchor, struct ls__snap_message *page)
{
    const struct ls_sync_context *base = &provider->context.base;
    struct ls_value *values = ls__allocate(base->env, LS__SNAP_VALUES_MAX * sizeof *values);
    if (values == NULL) {
        return;
    }
    size_t key_bytes = 0;
    page->count = page_rows(&anchor->table, page, values + LS__SNAP_HEAD_VALUES, &key_bytes);
    size_t bytes = LS__SNAP_HEAD_BYTES + page->data.bytes + key_bytes +
                   (size_t)page->count * LS__SNAP_ROW_BYTES;
    uint8_t *room = ls__snap_room(provider, bytes);
    if (room != NULL) {
        size_t count = ls__snap_head(page, values);
        LS_ASSERT(count == LS__SNAP_HEAD_VALUES);
        size_t written = 0;
        const struct ls_codec *codec = &base->env->codec;
        enum ls_status status = codec->encode(codec->self, values, count + 4u * (size_t)page->count,
                                              room, bytes, &written);
        LS_ASSERT(status == LS_OK);
        (void)base->send_to(base->self, to, (struct ls_span){room, written});
    }
    ls__free(base->env, values);
}

void ls__snap_answer_table(struct ls__snap_provider *provider, const struct ls_peer_id *to,
                           const struct ls__snap_message *question)
{
    struct ls__anchor *anchor = ls__snap_find_anchor(provider, question->anchor);
    LS_ASSERT(anchor != NULL);
    if (anchor->state == LS__TABLE_NONE) {
        anchor->state = LS__TABLE_MAKING;
    }
    struct ls__snap_message answer = {.kind = LS__SNAP_TABLE,
                                      .attempt = question->attempt,
                                      .id = question->id,
                                      .chunks = anchor->table.count,
                                      .chunk = question->chunk,
                                      .count = question->count};
    if (anchor->state == LS__TABLE_READY && question->chunk <= anchor->table.count) {
        answer.root = anchor->root;
        answer.configuration_index = anchor->frozen.configuration_index;
        answer.data = anchor->frozen.configuration;
        send_page(provider, to, anchor, &answer);
        return;
    }
    answer.kind = anchor->state == LS__TABLE_MAKING ? LS__SNAP_WORKING : LS__SNAP_GONE;
    uint8_t room[LS__SNAP_HEAD_BYTES];
    (void)ls__snap_send(&provider->context.base, to, &answer, room, sizeof room);
    wake_at(provider, provider->context.base.now_us(provider->context.base.self));
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static struct ls__ask *unlink_ask(struct ls__snap_provider *provider, struct ls__ask **at)
{
    struct ls__ask *ask = *at;
    *at = ask->next;
    if (*at == NULL) {
        provider->asks_end = at;
    }
    struct ls__snap_client *client =
        ls__lease_find(provider->clients, sizeof provider->clients[0], &ask->peer);
    if (client != NULL) {
        client->asks--;
    }
    return ask;
}

void ls__snap_drop_asks(struct ls__snap_provider *provider, const struct ls_peer_id *peer)
{
    const struct ls_peer_id id = *peer; /* it may be that of an ask */
    struct ls__ask **at = &provider->asks;
    while (*at != NULL) {
        if (ls_peer_id_equal(&(*at)->peer, &id)) {
            ls__free(provider->context.base.env, unlink_ask(provider, at));
        } else {
            at = &(*at)->next;
        }
    }
}

void ls__snap_take_ask(struct ls__snap_provider *provider, struct ls__snap_client *client,
                       const struct ls__snap_message *question)
{
    if (client->asks == LS_SNAPSHOT_WINDOW_MAX) {
        return; /* more than anybody asks at once */
    }
    struct ls__ask *ask =
        ls__allocate(provider->context.base.env, sizeof *ask + question->data.bytes);
    if (ask == NULL) {
        return; /* as if it had been lost */
    }
    *ask = (struct ls__ask){.peer = client->lease.id,
                            .anchor = question->anchor,
                            .attempt = question->attempt,
                            .id = question->id,
                            .key_bytes = question->data.bytes};
    if (question->data.bytes > 0) {
        memcpy(ask->key, question->data.data, question->data.bytes);
    }
    *provider->asks_end = ask;
    provider->asks_end = &ask->next;
    client->asks++;
    wake_at(provider, provider->context.base.now_us(provider->context.base.self));
}

/* Cuts and sends. LS_ERR_BUSY: again later; any other error is left to the session's timeout. */
static enum ls_status send_chunk(struct ls__snap_provider *provider, const struct ls__ask *ask)
{
    const struct ls_sync_context *base = &provider->context.base;
    struct ls__snap_message answer = {
        .kind = LS__SNAP_CHUNK, .attempt = ask->attempt, .id = ask->id};
    const struct ls__anchor *anchor = ls__snap_find_anchor(provider, ask->anchor);
    size_t bytes = LS__SNAP_HEAD_BYTES;
    provider->builder.bytes = 0;
    if (anchor == NULL) {
        answer.kind = LS__SNAP_GONE;
    } else {
        enum ls_status status = cut(provider, anchor, (struct ls_span){ask->key, ask->key_bytes});
        if (status != LS_OK) {
            return status;
        }
        answer.data = (struct ls_span){provider->builder.data, provider->builder.bytes};
        bytes += provider->builder.bytes;
    }
    uint8_t *room = ls__snap_room(provider, bytes);
    return room == NULL ? LS_ERR_NO_MEMORY : ls__snap_send(base, &ask->peer, &answer, room, bytes);
}

/* The first question of a peer whose queue is not full. */
static struct ls__ask **next_ask(struct ls__snap_provider *provider, const struct ls_peer_id *full,
                                 size_t full_count)
{
    struct ls__ask **at = &provider->asks;
    while (*at != NULL) {
        bool waits = false;
        for (size_t i = 0; i < full_count; i++) {
            waits = waits || ls_peer_id_equal(&full[i], &(*at)->peer);
        }
        if (!waits) {
            return at;
        }
        at = &(*at)->next;
    }
    return NULL;
}

void ls__snap_serve(struct ls__snap_provider *provider, uint64_t now)
{
    ls__snap_look_at_load(provider, now);
    struct ls_peer_id full[LS_MEMBERS_MAX];
    size_t full_count = 0;
    const size_t slice = provider->load.busy ? 1 : SLICE_BYTES;
    size_t sent = 0;
    make_tables(provider, now);
    struct ls__ask **at = NULL;
    while (provider->credit_us <= now && sent < slice &&
           (at = next_ask(provider, full, full_count)) != NULL) {
        if (send_chunk(provider, *at) == LS_ERR_BUSY) {
            if (full_count == LS_MEMBERS_MAX) {
                break;
            }
            full[full_count++] = (*at)->peer;
            continue;
        }
        pay(provider, now, provider->builder.bytes);
        sent += provider->builder.bytes;
        ls__free(provider->context.base.env, unlink_ask(provider, at));
    }
    bool makes = makes_tables(provider);
    if (makes && !provider->load.busy) {
        wake_at(provider, now);
    }
    if (provider->asks == NULL && !makes) {
        return;
    }
    if (provider->credit_us > now) {
        wake_at(provider, provider->credit_us);
    } else {
        wake_at(provider, full_count > 0 ? now + RETRY_US : now);
    }
}
