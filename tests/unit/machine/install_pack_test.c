/* SPDX-License-Identifier: MIT */
/*
 * Files of chunks (pack.h) when memory is refused or a read fails: what is there stays there. A
 * mark that was taken for a torn one would be removed, and with it what finishes an install.
 */
#include "test.h"

#include "pack.h"

#define CHUNKS 70u

static const struct ls_group_id group = {{3, 1}};
static const struct ls_incarnation incarnation = {{4, 1}};

/* ---- an allocator and a vault that fail once ------------------------------------------------- */

static uint64_t allocations, refuse_at, reads, fail_at;

static void *refusing(void *self, void *block, size_t bytes)
{
    if (bytes > 0 && ++allocations == refuse_at) {
        return NULL;
    }
    const struct ls_env *env = ls_env_default();
    (void)self;
    return env->allocate(env->self, block, bytes);
}

static struct ls_vault real;

static enum ls_status failing_read(void *self, const struct ls_group_id *id,
                                   enum ls_vault_file file, uint64_t offset, void *out,
                                   size_t bytes, size_t *got)
{
    *got = 0;
    return ++reads == fail_at ? LS_ERR_IO : real.read(self, id, file, offset, out, bytes, got);
}

struct place {
    struct ls_vault_medium *medium;
    struct ls_vault vault;
    struct ls_env env;
    enum ls_vault_file file;
};

static void open_place(struct place *place, enum ls_vault_file file)
{
    allocations = refuse_at = reads = fail_at = 0;
    place->file = file;
    place->env = *ls_env_default();
    place->env.allocate = refusing;
    assert_ok(ls_vault_medium_open(NULL, &place->medium));
    ls_vault_memory_open_on(place->medium, &place->vault);
    real = place->vault;
    place->vault.read = failing_read;
}

static enum ls_status open_pack(struct place *place, struct ls__pack *pack)
{
    return ls__pack_open(pack, &place->env, &place->vault, &group, &incarnation, place->file);
}

/* A table, chunks, and a table that has them. */
static void fill(struct place *place)
{
    struct ls__pack pack;
    struct ls_hash hashes[CHUNKS];
    char bytes[CHUNKS][24];
    uint8_t configuration[40] = {1, 2, 3};
    assert_ok(open_pack(place, &pack));
    for (size_t i = 0; i < CHUNKS; i++) {
        (void)memset(bytes[i], 'a', sizeof bytes[i]);
        bytes[i][3] = (char)i;
        hashes[i] = ls_chunk_hash(&place->env, (struct ls_span){bytes[i], sizeof bytes[i]});
    }
    struct ls_snapshot snapshot = {
        .anchor = {3, 700}, .configuration = {configuration, sizeof configuration}, .chunks = 1};
    assert_ok(ls__pack_table(&pack, &snapshot, hashes));
    for (size_t i = 0; i < CHUNKS; i++) {
        assert_ok(
            ls__pack_chunk(&pack, &hashes[i], (struct ls_span){bytes[i], sizeof bytes[i]}, true));
    }
    snapshot.anchor.index = 900;
    snapshot.chunks = CHUNKS;
    assert_ok(ls__pack_table(&pack, &snapshot, hashes));
    ls__pack_close(&pack);
}

static void is_whole(const struct ls__pack *pack)
{
    assert_true(pack->whole);
    assert_int_equal(pack->snapshot.anchor.index, 900);
    assert_int_equal(pack->snapshot.chunks, CHUNKS);
    for (uint32_t i = 0; i < CHUNKS; i++) {
        assert_true(ls__pack_has(pack, i));
    }
}

/* Opens it with failure number 1, 2, ... until there is none; each time all is left. */
static void fails_once(enum ls_vault_file file, uint64_t *number, uint64_t *counted,
                       enum ls_status expected)
{
    struct place place;
    open_place(&place, file);
    fill(&place);
    uint64_t changes = ls_vault_medium_changes(place.medium);
    uint64_t faults = 0;
    for (bool met = true; met; faults += met) {
        struct ls__pack pack;
        *counted = 0;
        *number = faults + 1;
        enum ls_status status = open_pack(&place, &pack);
        met = *counted >= *number;
        *number = 0;
        assert_int_equal(status, met ? expected : LS_OK);
        if (!met) {
            is_whole(&pack);
            ls__pack_close(&pack);
        }
    }
    assert_true(faults > 3);
    assert_int_equal(ls_vault_medium_changes(place.medium), changes);
    struct ls__pack pack;
    assert_ok(open_pack(&place, &pack));
    is_whole(&pack);
    ls__pack_close(&pack);
    ls_vault_medium_close(place.medium);
}

TEST(mark, that_does_not_fit_memory_is_not_taken_for_a_torn_one)
{
    fails_once(LS_VAULT_MARK, &refuse_at, &allocations, LS_ERR_NO_MEMORY);
}

TEST(mark, that_cannot_be_read_is_not_taken_for_a_torn_one)
{
    fails_once(LS_VAULT_MARK, &fail_at, &reads, LS_ERR_IO);
}

TEST(file, that_does_not_fit_memory_is_not_taken_for_a_damaged_one)
{
    fails_once(LS_VAULT_SNAPSHOT, &refuse_at, &allocations, LS_ERR_NO_MEMORY);
}

TEST(file, that_cannot_be_read_is_not_taken_for_a_damaged_one)
{
    fails_once(LS_VAULT_SNAPSHOT, &fail_at, &reads, LS_ERR_IO);
}

TEST(mark, that_is_torn_anywhere_is_none)
{
    struct place place;
    open_place(&place, LS_VAULT_MARK);
    uint8_t configuration[8] = {0};
    const struct ls_snapshot snapshot = {.anchor = {3, 900},
                                         .configuration = {configuration, sizeof configuration}};
    struct ls__pack pack;
    assert_ok(open_pack(&place, &pack));
    assert_ok(ls__pack_table(&pack, &snapshot, NULL));
    uint64_t end = pack.end;
    ls__pack_close(&pack);
    for (uint64_t bytes = end; bytes > 0; bytes--) {
        assert_ok(open_pack(&place, &pack));
        assert_true(pack.whole && pack.snapshot.anchor.index == 900);
        ls__pack_close(&pack);
        assert_ok(real.truncate(real.self, &group, LS_VAULT_MARK, bytes - 1));
        assert_ok(open_pack(&place, &pack));
        assert_false(pack.whole);
        assert_ok(ls__pack_table(&pack, &snapshot, NULL));
        ls__pack_close(&pack);
    }
    ls_vault_medium_close(place.medium);
}

/* A file that takes the place of the newest snapshot has to be there for a process that knows
 * nothing of it: heads and tables are not read while it is loaded. */
TEST(file, of_which_a_head_or_the_table_is_damaged_does_not_count_as_fetched)
{
    struct place place;
    open_place(&place, LS_VAULT_STAGED);
    fill(&place);
    struct ls__pack pack;
    assert_ok(open_pack(&place, &pack));
    assert_ok(ls__pack_check(&pack));
    uint64_t chunk = LS__PACK_HEAD_BYTES + 24;
    uint64_t table = pack.end - LS__PACK_HEAD_BYTES - CHUNKS * sizeof(struct ls_hash);
    const uint64_t offsets[] = {table - 7 * chunk + 70, table, pack.end - 1};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        assert_true(ls_vault_medium_flip(place.medium, &group, LS_VAULT_STAGED, offsets[i]));
        assert_int_equal(ls__pack_check(&pack), LS_ERR_CORRUPT);
        assert_true(ls_vault_medium_flip(place.medium, &group, LS_VAULT_STAGED, offsets[i]));
        assert_ok(ls__pack_check(&pack));
    }
    assert_ok(real.remove(real.self, &group, LS_VAULT_STAGED));
    assert_int_equal(ls__pack_check(&pack), LS_ERR_CORRUPT);
    ls__pack_close(&pack);
    ls_vault_medium_close(place.medium);
}
