/* SPDX-License-Identifier: MIT */
/* Control records: every form round-trips, and every other size is refused. */
#include "control.h"
#include "test.h"

static struct ls__control sample(enum ls__control_kind kind)
{
    struct ls__control control = {.kind = kind, .channel = 0x01020304, .stamp = 0x1122334455667788};
    (void)memset(control.peer.bytes, 0x21, 32);
    (void)memset(control.session, 0x22, 32);
    (void)memset(control.hello.group.bytes, 0x23, 32);
    (void)memcpy(control.hello.name, "orders", 7);
    (void)memcpy(control.hello.member, "a", 2);
    (void)memcpy(control.hello.signature, "kv\0/1", 5);
    control.hello.signature_bytes = 5;
    return control;
}

TEST(control, every_kind_round_trips_and_no_part_of_it_decodes)
{
    for (int kind = LS__CONTROL_OPEN; kind <= LS__CONTROL_BIND; kind++) {
        const struct ls__control in = sample((enum ls__control_kind)kind);
        struct ls__control out;
        uint8_t bytes[LS__CONTROL_BYTES_MAX + 1] = {0};
        size_t size = ls__control_encode(&in, bytes);
        assert_true(size <= LS__CONTROL_BYTES_MAX);
        assert_null(ls__control_decode((struct ls_span){bytes, size}, &out));
        assert_int_equal(out.kind, kind);
        for (size_t part = 0; part <= size + 1; part++) {
            const char *reason = ls__control_decode((struct ls_span){bytes, part}, &out);
            assert_true((reason == NULL) == (part == size));
        }
    }
}

TEST(control, open_carries_the_hello)
{
    const struct ls__control in = sample(LS__CONTROL_OPEN);
    struct ls__control out;
    uint8_t bytes[LS__CONTROL_BYTES_MAX];
    size_t size = ls__control_encode(&in, bytes);
    assert_null(ls__control_decode((struct ls_span){bytes, size}, &out));
    assert_int_equal(out.channel, in.channel);
    assert_memory_equal(&out.hello, &in.hello, sizeof in.hello);
}

TEST(control, message_borrows_its_bytes)
{
    uint8_t bytes[LS__MESSAGE_HEAD + 3] = {0, 0, 0, 0, 0, 'x', 'y', 'z'};
    struct ls__control out;
    ls__message_head(0x0a0b0c0d, bytes);
    assert_null(ls__control_decode((struct ls_span){bytes, sizeof bytes}, &out));
    assert_int_equal(out.channel, 0x0a0b0c0d);
    assert_ptr_equal(out.message.data, bytes + LS__MESSAGE_HEAD);
    assert_int_equal(out.message.bytes, 3);
    assert_null(ls__control_decode((struct ls_span){bytes, LS__MESSAGE_HEAD}, &out));
    assert_int_equal(out.message.bytes, 0);
    assert_non_null(ls__control_decode((struct ls_span){bytes, LS__MESSAGE_HEAD - 1}, &out));
    assert_non_null(ls__control_decode(
        (struct ls_span){bytes, LS__MESSAGE_HEAD + (size_t)LS_MESSAGE_BYTES_MAX + 1}, &out));
}

TEST(control, unknown_kinds_and_nobody_are_refused)
{
    struct ls__control out, formed = sample(LS__CONTROL_FORMED);
    uint8_t bytes[LS__CONTROL_BYTES_MAX] = {0};
    assert_non_null(ls__control_decode((struct ls_span){bytes, 5}, &out));
    bytes[0] = LS__CONTROL_BIND + 1;
    assert_non_null(ls__control_decode((struct ls_span){bytes, 33}, &out));
    (void)memset(&formed.peer, 0, sizeof formed.peer);
    size_t size = ls__control_encode(&formed, bytes);
    assert_non_null(ls__control_decode((struct ls_span){bytes, size}, &out));
}

TEST(control, hello_texts_have_bounds)
{
    struct ls_bond_hello hello = sample(LS__CONTROL_OPEN).hello;
    assert_null(ls__bond_hello_invalid(&hello));
    hello.member[0] = '\0';
    assert_null(ls__bond_hello_invalid(&hello));
    hello.name[0] = '\n';
    assert_non_null(ls__bond_hello_invalid(&hello));
    hello.name[0] = '\0';
    assert_non_null(ls__bond_hello_invalid(&hello));
    (void)memset(hello.name, 'n', sizeof hello.name);
    assert_non_null(ls__bond_hello_invalid(&hello));
    hello.name[LS_NAME_BYTES - 1] = '\0';
    assert_null(ls__bond_hello_invalid(&hello));
    hello.signature_bytes = LS_SIGNATURE_BYTES_MAX + 1;
    assert_non_null(ls__bond_hello_invalid(&hello));
}

TEST(control, hello_on_the_wire_cannot_smuggle_a_terminator)
{
    const struct ls__control in = sample(LS__CONTROL_OPEN);
    struct ls__control out;
    uint8_t bytes[LS__CONTROL_BYTES_MAX];
    size_t size = ls__control_encode(&in, bytes);
    bytes[38 + 2] = '\0'; /* inside of the name */
    assert_non_null(ls__control_decode((struct ls_span){bytes, size}, &out));
    size = ls__control_encode(&in, bytes);
    bytes[37] = LS_NAME_BYTES; /* a name one byte too long */
    assert_non_null(ls__control_decode((struct ls_span){bytes, size}, &out));
}
