/* SPDX-License-Identifier: MIT */
/* The handshake without sockets: who is let in, and what tampering does. */
#include "handshake.h"
#include "test.h"

struct side {
    struct ls_identity *identity;
    struct ls__handshake handshake;
    ls__stream push, pull;
    uint8_t proof[LS__PROOF_BYTES];
};

static void side_open(struct side *side, uint8_t key_byte, const char *name, bool dialer)
{
    uint8_t key[LS_KEY_BYTES] = {1, 2, 3};
    const struct ls_incarnation incarnation = {{(uint8_t)name[0]}};
    key[31] = key_byte;
    (void)memset(side, 0, sizeof *side);
    assert_ok(ls_identity_founder(key, name, &side->identity, NULL));
    ls__handshake_begin(&side->handshake, ls_env_default(), side->identity, &incarnation, dialer,
                        dialer ? LS_LANE_BULK : LS_LANE_CONSENSUS);
}

/* 1, 2, 3, ... */
static void count_up(void *self, void *out, size_t bytes)
{
    uint8_t *next = self, *at = out;
    for (size_t i = 0; i < bytes; i++) {
        at[i] = ++*next;
    }
}

static void side_close(struct side *side)
{
    ls_identity_close(side->identity);
}

/* The hellos as they pass; NULL: both accept. */
static const char *greet(struct side *dialer, struct side *acceptor)
{
    const char *reason = ls__handshake_hello(&acceptor->handshake, dialer->handshake.mine);
    return reason != NULL ? reason
                          : ls__handshake_hello(&dialer->handshake, acceptor->handshake.mine);
}

static const char *prove(struct side *from, struct side *to)
{
    ls__handshake_prove(&from->handshake, &from->push, from->proof);
    return ls__handshake_verify(&to->handshake, &to->pull, from->proof);
}

TEST(handshake, both_sides_learn_peer_lane_and_incarnation)
{
    struct side a, b;
    side_open(&a, 9, "a", true);
    side_open(&b, 9, "b", false);
    assert_null(greet(&a, &b));
    assert_null(prove(&a, &b));
    assert_null(prove(&b, &a));
    const struct ls_peer_id id_a = ls_identity_id(a.identity), id_b = ls_identity_id(b.identity);
    assert_true(ls_peer_id_equal(&a.handshake.peer, &id_b));
    assert_true(ls_peer_id_equal(&b.handshake.peer, &id_a));
    assert_int_equal(a.handshake.incarnation.bytes[0], 'b');
    assert_int_equal(b.handshake.incarnation.bytes[0], 'a');
    assert_int_equal(b.handshake.lane, LS_LANE_BULK);
    assert_int_equal(a.handshake.version, LS__PROTOCOL_VERSION_MAX);
    assert_memory_equal(a.handshake.transcript, b.handshake.transcript, 32);
    assert_memory_not_equal(a.proof, b.proof, sizeof a.proof);
    side_close(&a);
    side_close(&b);
}

TEST(handshake, draws_all_its_entropy_from_the_env)
{
    uint8_t proofs[2][LS__PROOF_BYTES];
    for (size_t round = 0; round < 2; round++) {
        struct side a, b;
        uint8_t drawn = 0;
        struct ls_env env = *ls_env_default();
        const struct ls_incarnation incarnation = {{1}};
        env.self = &drawn;
        env.entropy = count_up;
        side_open(&a, 9, "a", true);
        side_open(&b, 9, "b", false);
        ls__handshake_begin(&a.handshake, &env, a.identity, &incarnation, true, LS_LANE_BULK);
        ls__handshake_begin(&b.handshake, &env, b.identity, &incarnation, false, LS_LANE_BULK);
        assert_null(greet(&a, &b));
        assert_null(prove(&a, &b));
        (void)memcpy(proofs[round], a.proof, sizeof a.proof);
        side_close(&a);
        side_close(&b);
    }
    assert_memory_equal(proofs[0], proofs[1], sizeof proofs[0]);
}

/* A2 */
TEST(handshake, another_network_key_is_refused_by_both)
{
    struct side a, b;
    side_open(&a, 9, "a", true);
    side_open(&b, 8, "b", false);
    assert_null(greet(&a, &b)); /* nothing of the key is in a hello */
    assert_non_null(strstr(prove(&a, &b), "network key"));
    assert_non_null(strstr(prove(&b, &a), "network key"));
    side_close(&a);
    side_close(&b);
}

TEST(handshake, holder_of_the_key_cannot_claim_another_id)
{
    struct side a, b;
    side_open(&a, 9, "a", true);
    side_open(&b, 9, "b", false);
    const struct ls_peer_id other = ls_identity_founder_id(a.identity, "c");
    (void)memcpy(a.handshake.mine + LS__HELLO_BYTES - 32, other.bytes, 32);
    assert_null(greet(&a, &b));
    assert_non_null(strstr(prove(&a, &b), "key pair"));
    side_close(&a);
    side_close(&b);
}

/* A7 */
TEST(handshake, replayed_dialer_is_refused)
{
    struct side a, b, later;
    side_open(&a, 9, "a", true);
    side_open(&b, 9, "b", false);
    side_open(&later, 9, "b", false);
    assert_null(greet(&a, &b));
    assert_null(prove(&a, &b));
    assert_null(ls__handshake_hello(&later.handshake, a.handshake.mine));
    assert_non_null(ls__handshake_verify(&later.handshake, &later.pull, a.proof));
    side_close(&a);
    side_close(&b);
    side_close(&later);
}

TEST(handshake, replayed_acceptor_is_refused)
{
    struct side a, b, later;
    side_open(&a, 9, "a", true);
    side_open(&b, 9, "b", false);
    side_open(&later, 9, "a", true);
    assert_null(greet(&a, &b));
    assert_null(prove(&b, &a));
    assert_null(ls__handshake_hello(&later.handshake, b.handshake.mine));
    assert_non_null(ls__handshake_verify(&later.handshake, &later.pull, b.proof));
    side_close(&a);
    side_close(&b);
    side_close(&later);
}

TEST(handshake, own_hello_and_own_proof_come_back_in_vain)
{
    struct side a, b;
    side_open(&a, 9, "a", true);
    side_open(&b, 9, "b", false);
    assert_non_null(strstr(ls__handshake_hello(&a.handshake, a.handshake.mine), "itself"));
    side_close(&a);
    side_open(&a, 9, "a", true);
    assert_null(greet(&a, &b));
    ls__handshake_prove(&a.handshake, &a.push, a.proof);
    assert_non_null(ls__handshake_verify(&a.handshake, &a.pull, a.proof));
    side_close(&a);
    side_close(&b);
}

TEST(handshake, any_flipped_bit_of_a_hello_ends_it)
{
    /* either the hello is refused, or the transcripts differ and no proof holds */
    for (size_t bit = 0; bit < LS__HELLO_BYTES * 8; bit += 7) {
        struct side a, b;
        side_open(&a, 9, "a", true);
        side_open(&b, 9, "b", false);
        uint8_t hello[LS__HELLO_BYTES];
        (void)memcpy(hello, a.handshake.mine, sizeof hello);
        hello[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        const char *reason = ls__handshake_hello(&b.handshake, hello);
        if (reason == NULL) {
            /* a lane bit: the dialer sees an answer for another lane */
            reason = ls__handshake_hello(&a.handshake, b.handshake.mine);
            assert_true(reason != NULL || prove(&a, &b) != NULL);
            assert_true(reason != NULL || prove(&b, &a) != NULL);
        }
        side_close(&a);
        side_close(&b);
    }
}

TEST(handshake, any_flipped_bit_of_a_proof_ends_it)
{
    struct side a, b;
    side_open(&a, 9, "a", true);
    side_open(&b, 9, "b", false);
    assert_null(greet(&a, &b));
    ls__handshake_prove(&a.handshake, &a.push, a.proof);
    for (size_t bit = 0; bit < LS__PROOF_BYTES * 8; bit++) {
        a.proof[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_non_null(ls__handshake_verify(&b.handshake, &b.pull, a.proof));
        a.proof[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    assert_null(ls__handshake_verify(&b.handshake, &b.pull, a.proof));
    side_close(&a);
    side_close(&b);
}

TEST(handshake, versions_without_overlap_are_told)
{
    struct side a, b;
    side_open(&a, 9, "a", true);
    side_open(&b, 9, "b", false);
    a.handshake.mine[8] = LS__PROTOCOL_VERSION_MAX + 1;
    a.handshake.mine[10] = LS__PROTOCOL_VERSION_MAX + 3;
    assert_non_null(strstr(greet(&a, &b), "version"));
    a.handshake.mine[8] = LS__PROTOCOL_VERSION_MAX + 4; /* above its own maximum */
    assert_non_null(strstr(greet(&a, &b), "version"));
    a.handshake.mine[8] = LS__PROTOCOL_VERSION_MAX; /* a newer one that still speaks ours */
    assert_null(greet(&a, &b));
    assert_int_equal(b.handshake.version, LS__PROTOCOL_VERSION_MAX);
    side_close(&a);
    side_close(&b);
}

TEST(handshake, degenerate_ephemeral_key_is_refused)
{
    struct side a, b;
    side_open(&a, 9, "a", true);
    side_open(&b, 9, "b", false);
    (void)memset(a.handshake.mine + 72, 0, 32);
    assert_non_null(strstr(ls__handshake_hello(&b.handshake, a.handshake.mine), "ephemeral"));
    side_close(&a);
    side_close(&b);
}

TEST(handshake, wiping_leaves_no_secret)
{
    static const uint8_t zero[32];
    struct side a, b;
    side_open(&a, 9, "a", true);
    side_open(&b, 9, "b", false);
    assert_null(greet(&a, &b));
    assert_memory_equal(a.handshake.ephemeral, zero, 32); /* gone as soon as it was used */
    assert_memory_not_equal(a.handshake.master, zero, 32);
    ls__handshake_wipe(&a.handshake);
    assert_memory_equal(a.handshake.master, zero, 32);
    side_close(&a);
    side_close(&b);
}
