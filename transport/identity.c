/* SPDX-License-Identifier: MIT */
/*
 * Identities: the network key, Ed25519 key pairs, and the files they are kept in. Secrets live in
 * guarded sodium memory, are wiped on close and never leave this file.
 *
 * Identity file: "LSIDENT1" | seed[32] | public key[32], where the public key vouches for the seed.
 */
#define _GNU_SOURCE /* mkostemp */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lockstep/env.h>
#include <lockstep/identity.h>

#include "secrets.h"

#define FILE_MAGIC  "LSIDENT1"
#define MAGIC_BYTES 8u
#define SEED_BYTES  crypto_sign_SEEDBYTES
#define FILE_BYTES  (MAGIC_BYTES + SEED_BYTES + crypto_sign_PUBLICKEYBYTES)

LS_STATIC_ASSERT(crypto_sign_PUBLICKEYBYTES == sizeof(struct ls_peer_id), "a peer id is a key");
LS_STATIC_ASSERT(crypto_generichash_BYTES == sizeof(struct ls_network_id), "an id is a hash");

/* Ids that were asked for, the newest in place of the oldest: to make a pair takes some 50 us, and
 * all groups of a node ask for the same few. Nothing in it is secret. */
struct founders {
    pthread_mutex_t lock;
    size_t made;
    struct {
        char name[LS_NAME_BYTES];
        struct ls_peer_id id;
    } known[LS_MEMBERS_MAX];
};

/* In sodium memory. */
struct ls_identity {
    uint8_t key[LS_KEY_BYTES];
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
    struct ls_peer_id id;
    struct ls_network_id network;
    struct founders memo;
    struct founders *founders; /* memo, also of an identity that is const */
};

/* Writes all of `bytes`; false: errno tells. */
static bool write_whole(int descriptor, const uint8_t *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t written = write(descriptor, data, bytes);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return false;
        }
        data += written;
        bytes -= (size_t)written;
    }
    return fsync(descriptor) == 0;
}

/* Reads until `capacity` bytes or the end of the file; -1: errno tells. */
static ssize_t read_whole(int descriptor, uint8_t *out, size_t capacity)
{
    size_t have = 0;
    while (have < capacity) {
        ssize_t got = read(descriptor, out + have, capacity - have);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -1;
        }
        if (got == 0) {
            break;
        }
        have += (size_t)got;
    }
    return (ssize_t)have;
}

enum ls_status ls_key_generate(const char *path, struct ls_error *error)
{
    const struct ls_env *env = ls_env_default();
    int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (descriptor < 0) {
        return ls_error_set(error, LS_ERR_IO, "key file %s: %s", path, strerror(errno));
    }
    uint8_t key[LS_KEY_BYTES];
    env->entropy(env->self, key, sizeof key);
    bool written = write_whole(descriptor, key, sizeof key);
    int reason = errno;
    sodium_memzero(key, sizeof key);
    if (close(descriptor) != 0 && written) {
        written = false;
        reason = errno;
    }
    if (!written) {
        (void)unlink(path);
        return ls_error_set(error, LS_ERR_IO, "key file %s: %s", path, strerror(reason));
    }
    return LS_OK;
}

/* NULL, or why these bytes cannot be a network key: no random key ever has equal bytes only. */
static const char *key_invalid(const uint8_t key[LS_KEY_BYTES])
{
    uint8_t difference = 0;
    for (size_t i = 1; i < LS_KEY_BYTES; i++) {
        difference |= (uint8_t)(key[i] ^ key[0]);
    }
    return difference == 0 ? "all 32 bytes are equal, which is no random key" : NULL;
}

enum ls_status ls_key_read(const char *path, uint8_t key[LS_KEY_BYTES], struct ls_error *error)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return ls_error_set(error, LS_ERR_IO, "key file %s: %s", path, strerror(errno));
    }
    uint8_t bytes[LS_KEY_BYTES + 1];
    ssize_t got = read_whole(descriptor, bytes, sizeof bytes);
    int reason = errno;
    struct stat info = {0};
    (void)fstat(descriptor, &info);
    (void)close(descriptor);
    enum ls_status status = LS_OK;
    if (got < 0) {
        status = ls_error_set(error, LS_ERR_IO, "key file %s: %s", path, strerror(reason));
    } else if (got != LS_KEY_BYTES) {
        long long found = info.st_size > got ? (long long)info.st_size : (long long)got;
        status =
            ls_error_set(error, LS_ERR_INVALID,
                         "key file %s: %lld bytes, expected exactly 32 random ones", path, found);
    } else if (key_invalid(bytes) != NULL) {
        status = ls_error_set(error, LS_ERR_INVALID, "key file %s: %s", path, key_invalid(bytes));
    } else {
        (void)memcpy(key, bytes, LS_KEY_BYTES);
    }
    sodium_memzero(bytes, sizeof bytes);
    return status;
}

/* BLAKE2b-256 over parts, with a key or without. */
static void hash_parts(const uint8_t *key, const struct ls_span *parts, size_t count,
                       uint8_t out[32])
{
    crypto_generichash_state state;
    (void)crypto_generichash_init(&state, key, key == NULL ? 0 : LS_KEY_BYTES, 32);
    for (size_t i = 0; i < count; i++) {
        if (parts[i].bytes > 0) {
            (void)crypto_generichash_update(&state, parts[i].data, parts[i].bytes);
        }
    }
    (void)crypto_generichash_final(&state, out, 32);
    sodium_memzero(&state, sizeof state);
}

static void founder_pair(const uint8_t key[LS_KEY_BYTES], const char *name, struct ls_peer_id *id,
                         uint8_t secret[crypto_sign_SECRETKEYBYTES])
{
    static const char label[] = "lockstep founder";
    const struct ls_span parts[] = {{label, sizeof label}, {name, strlen(name)}};
    uint8_t seed[SEED_BYTES];
    hash_parts(key, parts, sizeof parts / sizeof parts[0], seed);
    (void)crypto_sign_seed_keypair(id->bytes, secret, seed);
    sodium_memzero(seed, sizeof seed);
}

static enum ls_status identity_new(const uint8_t key[LS_KEY_BYTES], struct ls_identity **out,
                                   struct ls_error *error)
{
    *out = NULL;
    (void)ls_env_default(); /* libsodium */
    if (key_invalid(key) != NULL) {
        return ls_error_set(error, LS_ERR_INVALID, "network key: %s", key_invalid(key));
    }
    struct ls_identity *identity = sodium_malloc(sizeof *identity);
    if (identity == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "identity: no guarded memory");
    }
    (void)memset(identity, 0, sizeof *identity);
    identity->founders = &identity->memo;
    (void)pthread_mutex_init(&identity->founders->lock, NULL);
    (void)memcpy(identity->key, key, LS_KEY_BYTES);
    const struct ls_span whole = {key, LS_KEY_BYTES};
    hash_parts(NULL, &whole, 1, identity->network.bytes);
    *out = identity;
    return LS_OK;
}

enum ls_status ls_identity_founder(const uint8_t key[LS_KEY_BYTES], const char *name,
                                   struct ls_identity **identity, struct ls_error *error)
{
    *identity = NULL;
    size_t length = strlen(name);
    if (length == 0 || length >= LS_NAME_BYTES) {
        return ls_error_set(error, LS_ERR_INVALID, "founder name of %zu bytes, expected 1 to %d",
                            length, LS_NAME_BYTES - 1);
    }
    enum ls_status status = identity_new(key, identity, error);
    if (status == LS_OK) {
        founder_pair(key, name, &(*identity)->id, (*identity)->secret);
    }
    return status;
}

/* Takes the pair out of a file's bytes; false: they are not ours. */
static bool identity_load(struct ls_identity *identity, const uint8_t bytes[FILE_BYTES])
{
    const uint8_t *seed = bytes + MAGIC_BYTES;
    const uint8_t *id = seed + SEED_BYTES;
    if (memcmp(bytes, FILE_MAGIC, MAGIC_BYTES) != 0) {
        return false;
    }
    (void)crypto_sign_seed_keypair(identity->id.bytes, identity->secret, seed);
    return memcmp(identity->id.bytes, id, sizeof identity->id.bytes) == 0;
}

/* errors LS_ERR_NOT_FOUND (no such file), LS_ERR_IO, LS_ERR_CORRUPT */
static enum ls_status file_read(struct ls_identity *identity, const char *path,
                                struct ls_error *error)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        enum ls_status status = errno == ENOENT ? LS_ERR_NOT_FOUND : LS_ERR_IO;
        return ls_error_set(error, status, "identity file %s: %s", path, strerror(errno));
    }
    uint8_t bytes[FILE_BYTES + 1];
    ssize_t got = read_whole(descriptor, bytes, sizeof bytes);
    int reason = errno;
    (void)close(descriptor);
    enum ls_status status = LS_OK;
    if (got < 0) {
        status = ls_error_set(error, LS_ERR_IO, "identity file %s: %s", path, strerror(reason));
    } else if (got != (ssize_t)FILE_BYTES || !identity_load(identity, bytes)) {
        status = ls_error_set(error, LS_ERR_CORRUPT,
                              "identity file %s: not an identity of Lockstep, or damaged", path);
    }
    sodium_memzero(bytes, sizeof bytes);
    return status;
}

static void directory_sync(const char *path)
{
    char copy[PATH_MAX];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy) {
        return;
    }
    int descriptor = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor >= 0) {
        (void)fsync(descriptor);
        (void)close(descriptor);
    }
}

/* Writes beside the path and links into place: the file is whole or not there. */
static enum ls_status file_create(const char *path, struct ls_error *error)
{
    char beside[PATH_MAX];
    if (snprintf(beside, sizeof beside, "%s.XXXXXX", path) >= (int)sizeof beside) {
        return ls_error_set(error, LS_ERR_IO, "identity file %s: path too long", path);
    }
    int descriptor = mkostemp(beside, O_CLOEXEC); /* 0600 */
    if (descriptor < 0) {
        return ls_error_set(error, LS_ERR_IO, "identity file %s: %s", path, strerror(errno));
    }
    uint8_t bytes[FILE_BYTES];
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
    const struct ls_env *env = ls_env_default();
    (void)memcpy(bytes, FILE_MAGIC, MAGIC_BYTES);
    env->entropy(env->self, bytes + MAGIC_BYTES, SEED_BYTES);
    (void)crypto_sign_seed_keypair(bytes + MAGIC_BYTES + SEED_BYTES, secret, bytes + MAGIC_BYTES);
    bool written = write_whole(descriptor, bytes, sizeof bytes);
    int reason = errno;
    sodium_memzero(bytes, sizeof bytes);
    sodium_memzero(secret, sizeof secret);
    (void)close(descriptor);
    if (written && link(beside, path) != 0 && errno != EEXIST) {
        written = false;
        reason = errno;
    }
    (void)unlink(beside);
    if (!written) {
        return ls_error_set(error, LS_ERR_IO, "identity file %s: %s", path, strerror(reason));
    }
    directory_sync(path);
    return LS_OK;
}

enum ls_status ls_identity_file(const uint8_t key[LS_KEY_BYTES], const char *path,
                                struct ls_identity **identity, struct ls_error *error)
{
    enum ls_status status = identity_new(key, identity, error);
    if (status != LS_OK) {
        return status;
    }
    status = file_read(*identity, path, error);
    if (status == LS_ERR_NOT_FOUND) {
        status = file_create(path, error);
        if (status == LS_OK) {
            status = file_read(*identity, path, error);
        }
    }
    if (status != LS_OK) {
        ls_identity_close(*identity);
        *identity = NULL;
    }
    return status;
}

void ls_identity_close(struct ls_identity *identity)
{
    if (identity != NULL) {
        (void)pthread_mutex_destroy(&identity->founders->lock);
        sodium_free(identity); /* wipes */
    }
}

struct ls_peer_id ls_identity_id(const struct ls_identity *identity)
{
    return identity->id;
}

struct ls_network_id ls_identity_network(const struct ls_identity *identity)
{
    return identity->network;
}

static bool founder_known(struct founders *founders, const char *name, struct ls_peer_id *id)
{
    for (size_t i = 0; i < founders->made && i < LS_MEMBERS_MAX; i++) {
        if (strcmp(founders->known[i].name, name) == 0) {
            *id = founders->known[i].id;
            return true;
        }
    }
    return false;
}

static void founder_keep(struct founders *founders, const char *name, const struct ls_peer_id *id)
{
    size_t bytes = strlen(name) + 1;
    if (bytes <= LS_NAME_BYTES) { /* else no founder can have it */
        size_t at = founders->made++ % LS_MEMBERS_MAX;
        (void)memcpy(founders->known[at].name, name, bytes);
        founders->known[at].id = *id;
    }
}

struct ls_peer_id ls_identity_founder_id(const struct ls_identity *identity, const char *name)
{
    struct founders *founders = identity->founders;
    struct ls_peer_id id;
    (void)pthread_mutex_lock(&founders->lock);
    if (!founder_known(founders, name, &id)) {
        uint8_t secret[crypto_sign_SECRETKEYBYTES];
        founder_pair(identity->key, name, &id, secret);
        sodium_memzero(secret, sizeof secret);
        founder_keep(founders, name, &id);
    }
    (void)pthread_mutex_unlock(&founders->lock);
    return id;
}

struct ls_group_id ls_identity_group_id(const struct ls_identity *identity, const char *name,
                                        struct ls_span machine_signature,
                                        struct ls_span sync_signature)
{
    const struct ls_span fields[] = {{identity->network.bytes, sizeof identity->network.bytes},
                                     {name, strlen(name)},
                                     machine_signature,
                                     sync_signature};
    uint8_t lengths[4][4];
    struct ls_span parts[8];
    for (size_t i = 0; i < 4; i++) {
        for (size_t byte = 0; byte < 4; byte++) {
            lengths[i][byte] = (uint8_t)(fields[i].bytes >> (8 * byte));
        }
        parts[2 * i] = (struct ls_span){lengths[i], sizeof lengths[i]};
        parts[2 * i + 1] = fields[i];
    }
    struct ls_group_id id;
    hash_parts(NULL, parts, 8, id.bytes);
    return id;
}

void ls__identity_sign(const struct ls_identity *identity, struct ls_span message,
                       uint8_t signature[64])
{
    (void)crypto_sign_detached(signature, NULL, message.data, message.bytes, identity->secret);
}

void ls__identity_keyed_hash(const struct ls_identity *identity, const struct ls_span *parts,
                             size_t count, uint8_t out[32])
{
    hash_parts(identity->key, parts, count, out);
}
