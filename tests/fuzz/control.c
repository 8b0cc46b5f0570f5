/* SPDX-License-Identifier: MIT */
/*
 * Control records of a link: one that decodes encodes again to the same bytes, so that two nodes
 * cannot understand the same record in two ways.
 */
#include "fuzz.h"

#include "control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ls__control control = {.kind = LS__CONTROL_MESSAGE};
    uint8_t again[LS__CONTROL_BYTES_MAX];
    if (ls__control_decode((struct ls_span){data, size}, &control) != NULL) {
        return 0;
    }
    if (control.kind == LS__CONTROL_MESSAGE) {
        const uint8_t *message = control.message.data;
        LS_ASSERT(message == data + LS__MESSAGE_HEAD);
        LS_ASSERT(control.message.bytes == size - LS__MESSAGE_HEAD);
        ls__message_head(control.channel, again);
        LS_ASSERT(memcmp(again, data, LS__MESSAGE_HEAD) == 0);
        return 0;
    }
    LS_ASSERT(ls__control_encode(&control, again) == size);
    LS_ASSERT(memcmp(again, data, size) == 0);
    return 0;
}
