/* SPDX-License-Identifier: MIT */
/* See picture.h. */
#include "picture.h"

#include "kv_limits.h"

static const char prefix = 'k';

struct ls_span kv_picture_key(struct kv_buffer *buffer, struct ls_span key)
{
    kv_buffer_reset(buffer, SIZE_MAX);
    kv_buffer_append(buffer, &prefix, KV_PICTURE_PREFIX_BYTES);
    kv_buffer_append(buffer, key.data, key.bytes);
    return buffer->failed ? (struct ls_span){NULL, 0} : kv_buffer_span(buffer);
}

bool kv_picture_key_read(struct ls_span item_key, struct ls_span *key)
{
    const char *data = item_key.data;
    if (item_key.bytes < KV_PICTURE_PREFIX_BYTES || data[0] != prefix) {
        return false;
    }
    *key =
        (struct ls_span){data + KV_PICTURE_PREFIX_BYTES, item_key.bytes - KV_PICTURE_PREFIX_BYTES};
    return true;
}

bool kv_picture_item_read(const struct ls_item *item, struct ls_span *key)
{
    return kv_picture_key_read(item->key, key) && key->bytes <= KV_KEY_BYTES_MAX &&
           item->value.bytes <= UINT32_MAX;
}
