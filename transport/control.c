/* SPDX-License-Identifier: MIT */
/* Control records: a bounded form each, every length checked against the bytes left. */
#include "control.h"

#include <string.h>

#include "bytes.h"

void ls__message_head(uint32_t channel, uint8_t head[LS__MESSAGE_HEAD])
{
    head[0] = LS__CONTROL_MESSAGE;
    ls__put32(head + 1, channel);
}

static size_t text_put(uint8_t *out, const void *text, size_t bytes)
{
    out[0] = (uint8_t)bytes;
    (void)memcpy(out + 1, text, bytes);
    return 1 + bytes;
}

static size_t open_encode(const struct ls__control *control, uint8_t *out)
{
    const struct ls_bond_hello *hello = &control->hello;
    LS_ASSERT(ls__bond_hello_invalid(hello) == NULL);
    ls__put32(out + 1, control->channel);
    (void)memcpy(out + 5, hello->group.bytes, 32);
    size_t at = 37;
    at += text_put(out + at, hello->name, strlen(hello->name));
    at += text_put(out + at, hello->member, strlen(hello->member));
    at += text_put(out + at, hello->signature, hello->signature_bytes);
    return at;
}

size_t ls__control_encode(const struct ls__control *control, uint8_t out[LS__CONTROL_BYTES_MAX])
{
    out[0] = (uint8_t)control->kind;
    switch (control->kind) {
    case LS__CONTROL_OPEN:
        return open_encode(control, out);
    case LS__CONTROL_ACCEPT:
        ls__put32(out + 1, control->channel);
        return 5;
    case LS__CONTROL_CLOSE:
        (void)memcpy(out + 1, control->hello.group.bytes, 32);
        return 33;
    case LS__CONTROL_FORMED:
    case LS__CONTROL_UNFORMED:
        ls__put32(out + 1, control->channel);
        (void)memcpy(out + 5, control->peer.bytes, 32);
        return 37;
    case LS__CONTROL_PING:
    case LS__CONTROL_PONG:
        ls__put64(out + 1, control->stamp);
        return 9;
    case LS__CONTROL_BIND:
        (void)memcpy(out + 1, control->session, 32);
        return 33;
    case LS__CONTROL_MESSAGE:
        break;
    }
    LS_ASSERT(control->kind != LS__CONTROL_MESSAGE);
    return 0;
}

/* Takes one text of at most `max` bytes; NULL: it is not whole or too long. */
static const uint8_t *text_get(struct ls_span *left, size_t max, size_t *bytes)
{
    const uint8_t *at = left->data;
    if (left->bytes < 1 || at[0] > max || left->bytes - 1 < at[0]) {
        return NULL;
    }
    *bytes = at[0];
    left->data = at + 1 + at[0];
    left->bytes -= 1 + (size_t)at[0];
    return at + 1;
}

static const char *open_decode(struct ls_span body, struct ls__control *out)
{
    static const char malformed[] = "a bond hello that is not whole";
    const uint8_t *at = body.data;
    struct ls_bond_hello *hello = &out->hello;
    if (body.bytes < 36) {
        return malformed;
    }
    out->channel = ls__get32(at);
    (void)memset(hello, 0, sizeof *hello);
    (void)memcpy(hello->group.bytes, at + 4, 32);
    struct ls_span left = {at + 36, body.bytes - 36};
    size_t bytes = 0;
    const uint8_t *text = text_get(&left, LS_NAME_BYTES - 1, &bytes);
    if (text == NULL || memchr(text, 0, bytes) != NULL) {
        return malformed;
    }
    (void)memcpy(hello->name, text, bytes);
    text = text_get(&left, LS_NAME_BYTES - 1, &bytes);
    if (text == NULL || memchr(text, 0, bytes) != NULL) {
        return malformed;
    }
    (void)memcpy(hello->member, text, bytes);
    text = text_get(&left, LS_SIGNATURE_BYTES_MAX, &bytes);
    if (text == NULL || left.bytes != 0) {
        return malformed;
    }
    (void)memcpy(hello->signature, text, bytes);
    hello->signature_bytes = (uint32_t)bytes;
    return ls__bond_hello_invalid(hello);
}

const char *ls__control_decode(struct ls_span record, struct ls__control *out)
{
    static const char size[] = "a control record of the wrong size";
    const uint8_t *at = record.data;
    if (record.bytes == 0) {
        return size;
    }
    const struct ls_span body = {at + 1, record.bytes - 1};
    out->kind = (enum ls__control_kind)at[0];
    switch (at[0]) {
    case LS__CONTROL_MESSAGE:
        if (body.bytes < 4 || body.bytes - 4 > LS_MESSAGE_BYTES_MAX) {
            return "a message of impossible size";
        }
        out->channel = ls__get32(at + 1);
        out->message = (struct ls_span){at + LS__MESSAGE_HEAD, body.bytes - 4};
        return NULL;
    case LS__CONTROL_OPEN:
        return open_decode(body, out);
    case LS__CONTROL_ACCEPT:
        out->channel = body.bytes == 4 ? ls__get32(at + 1) : 0;
        return body.bytes == 4 ? NULL : size;
    case LS__CONTROL_CLOSE:
        if (body.bytes != 32) {
            return size;
        }
        (void)memcpy(out->hello.group.bytes, at + 1, 32);
        return NULL;
    case LS__CONTROL_FORMED:
    case LS__CONTROL_UNFORMED:
        if (body.bytes != 36) {
            return size;
        }
        out->channel = ls__get32(at + 1);
        (void)memcpy(out->peer.bytes, at + 5, 32);
        return ls_peer_id_is_zero(&out->peer) ? "a bond formed with nobody" : NULL;
    case LS__CONTROL_PING:
    case LS__CONTROL_PONG:
        out->stamp = body.bytes == 8 ? ls__get64(at + 1) : 0;
        return body.bytes == 8 ? NULL : size;
    case LS__CONTROL_BIND:
        if (body.bytes != 32) {
            return size;
        }
        (void)memcpy(out->session, at + 1, 32);
        return NULL;
    default:
        return "a record of unknown kind";
    }
}

static const char *text_invalid(const char *text, size_t capacity)
{
    if (memchr(text, '\0', capacity) == NULL) {
        return "a name that is not terminated";
    }
    for (size_t i = 0; text[i] != '\0'; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return "a name with control characters";
        }
    }
    return NULL;
}

const char *ls__bond_hello_invalid(const struct ls_bond_hello *hello)
{
    const char *reason = text_invalid(hello->name, sizeof hello->name);
    if (reason == NULL) {
        reason = text_invalid(hello->member, sizeof hello->member);
    }
    if (reason == NULL && hello->name[0] == '\0') {
        reason = "a group without a name";
    }
    if (reason == NULL && hello->signature_bytes > LS_SIGNATURE_BYTES_MAX) {
        reason = "a machine signature over its limit";
    }
    return reason;
}
