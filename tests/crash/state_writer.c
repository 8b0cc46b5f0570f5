/* SPDX-License-Identifier: MIT */
/*
 * The process that dies with a state of lockstep-kv: it opens one in RocksDB, checks that it holds
 * the history up to exactly the applied index it names (P12), says "open <index>", goes on with the
 * history, and says "ack <index>" whenever the state calls more of it durable: from there on the
 * group's log may be pruned, so losing it would lose it for good. At times it takes in a snapshot.
 *
 *     state_writer <directory> <seed> [hold]     hold: only open and close
 */
#include "store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYS        300u
#define VALUE_BYTES 400u
#define BATCHES_MAX 3000000u

/* The model: which write each key holds, 0: none. */
struct model {
    uint64_t seed;
    ls_index applied;
    uint64_t held[KEYS];
    uint64_t count;
};

static const char *directory;
static uint64_t said;

static void give_up(const char *what, uint64_t index)
{
    (void)fprintf(stderr, "state_writer: at index %" PRIu64 ": %s\n", index, what);
    exit(3);
}

static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static struct ls_span key_of(unsigned key)
{
    static char text[16];
    return (struct ls_span){text, (size_t)snprintf(text, sizeof text, "key:%u", key)};
}

static struct ls_span value_of(uint64_t write)
{
    static char text[VALUE_BYTES];
    size_t bytes = mix(write) % VALUE_BYTES;
    for (size_t i = 0; i < bytes; i++) {
        text[i] = (char)(write + i * 7);
    }
    return (struct ls_span){text, bytes};
}

static void must(enum ls_status status, const char *what, uint64_t index)
{
    if (status != LS_OK) {
        give_up(what, index);
    }
}

/* The next batch, to the model and, unless NULL, to the store. */
static void batch(struct model *model, struct kv_store *store)
{
    ls_index index = ++model->applied;
    uint64_t random = mix(model->seed ^ mix(index));
    if (random % 23 == 0) {
        (void)memset(model->held, 0, sizeof model->held);
        model->count = 0;
        if (store != NULL) {
            must(store->clear(store->self), "clear", index);
        }
    }
    for (uint64_t i = 0; i < 1 + random % 7; i++) {
        uint64_t choice = mix(random + i + 1);
        unsigned key = (unsigned)(choice % KEYS);
        uint64_t write = index * 8 + i;
        bool held = model->held[key] != 0;
        if (choice / KEYS % 4 == 0) {
            model->count -= held ? 1 : 0;
            model->held[key] = 0;
            if (store != NULL &&
                store->remove(store->self, key_of(key)) != (held ? LS_OK : LS_ERR_NOT_FOUND)) {
                give_up("remove", index);
            }
        } else {
            model->count += held ? 0 : 1;
            model->held[key] = write;
            if (store != NULL) {
                must(store->put(store->self, key_of(key), value_of(write)), "put", index);
            }
        }
    }
}

static void count_key(void *arg, struct ls_span key)
{
    (void)key;
    ++*(uint64_t *)arg;
}

static void verify(const struct model *model, struct kv_store *store)
{
    for (unsigned key = 0; key < KEYS; key++) {
        struct ls_span found;
        enum ls_status status = store->get(store->self, key_of(key), &found);
        if (model->held[key] == 0 ? status != LS_ERR_NOT_FOUND : status != LS_OK) {
            give_up(ls_status_text(status), model->applied);
        }
        struct ls_span expected = value_of(model->held[key]);
        if (status == LS_OK && (found.bytes != expected.bytes ||
                                memcmp(found.data, expected.data, found.bytes) != 0)) {
            give_up("a key holds another value", model->applied);
        }
    }
    uint64_t seen = 0;
    uint64_t next = 0;
    do {
        must(store->scan(store->self, next, &next, 64, count_key, &seen), "scan", model->applied);
    } while (next != 0);
    if (seen != model->count || store->count(store->self) != model->count) {
        give_up("another number of keys", model->applied);
    }
}

static void open_state(struct model *model, struct kv_store *store)
{
    struct ls_group_id group;
    struct ls_incarnation incarnation;
    struct ls_error error = {LS_OK, ""};
    ls_index applied = 0;
    (void)memset(&group, 1, sizeof group);
    (void)memset(&incarnation, 2, sizeof incarnation);
    must(kv_store_rocksdb_open(directory, store), "no memory", 0);
    if (store->open(store->self, &group, &incarnation, &applied, &error) != LS_OK) {
        give_up(error.text, 0);
    }
    *model = (struct model){.seed = model->seed};
    while (model->applied < applied) {
        batch(model, NULL);
    }
    verify(model, store);
}

/* As main.c does: the name of the directory is durable before anything is in it. */
static void make_directory(void)
{
    char parent[256];
    int length = snprintf(parent, sizeof parent, "%s", directory);
    char *slash = strrchr(parent, '/');
    if (length >= (int)sizeof parent || slash == NULL) {
        give_up("the directory has no parent, or too long a name", 0);
        return;
    }
    *slash = '\0';
    int above = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)mkdir(directory, 0700);
    if (above < 0 || fsync(above) != 0) {
        give_up("the directory cannot be made", 0);
    }
    (void)close(above);
}

static void say(const char *word, uint64_t index)
{
    char line[48];
    int length = snprintf(line, sizeof line, "%s %" PRIu64 "\n", word, index);
    said = index;
    if (write(STDOUT_FILENO, line, (size_t)length) != length) {
        _exit(0);
    }
}

static bool carry(void *arg, const struct ls_item *item)
{
    struct kv_store *store = arg;
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = store->restore_item(store->self, item);
    }
    must(status, "restore", 0);
    return true;
}

/* A snapshot of what the group went through meanwhile takes the place of the state. */
static void jump(struct model *model, struct kv_store *store)
{
    struct kv_store other;
    struct model ahead = {.seed = model->seed};
    struct ls_frozen frozen;
    ls_index last = model->applied + 1 + mix(model->applied) % 40;
    must(kv_store_memory_open(&other), "no memory", last);
    while (ahead.applied < last) {
        batch(&ahead, &other);
    }
    const struct ls_cursor anchor = {1, last};
    must(other.freeze(other.self, &frozen), "freeze", last);
    must(store->restore(store->self, anchor), "begin to restore", last);
    must(other.iterate(other.self, &frozen, (struct ls_span){NULL, 0}, carry, store), "iterate",
         last);
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = store->publish(store->self, anchor);
    }
    must(status, "publish", last);
    other.thaw(other.self, &frozen);
    other.close(other.self);
    *model = ahead;
    verify(model, store);
    if (store->durable(store->self) != last) {
        give_up("what was published is not durable", last);
    }
    say("ack", last);
}

static void run(struct model *model, struct kv_store *store)
{
    while (model->applied < BATCHES_MAX) {
        enum ls_status status = store->begin(store->self);
        if (status == LS_ERR_BUSY) {
            (void)store->durable(store->self);
            continue;
        }
        must(status, "begin", model->applied);
        batch(model, store);
        must(store->commit(store->self, model->applied), "commit", model->applied);
        if (store->trouble(store->self) != NULL) {
            give_up(store->trouble(store->self), model->applied);
        }
        if (store->durable(store->self) > said) {
            say("ack", store->durable(store->self));
        }
        if (mix(model->seed - model->applied) % 43 == 0) {
            jump(model, store);
        }
        if (mix(model->seed + model->applied) % 61 == 0) {
            /* what was not written yet is written at the close: a layer without a clear, too */
            ls_index all = model->applied;
            store->close(store->self);
            open_state(model, store);
            if (model->applied != all) {
                give_up("the close lost a part", all);
            }
            say("ack", all);
        }
    }
}

int main(int argc, char **argv)
{
    struct kv_store store;
    if (argc < 3) {
        return 2;
    }
    directory = argv[1];
    struct model model = {.seed = strtoull(argv[2], NULL, 0)};
    make_directory();
    open_state(&model, &store);
    say("open", model.applied);
    if (argc == 3) {
        run(&model, &store);
    }
    store.close(store.self);
    return 0;
}
