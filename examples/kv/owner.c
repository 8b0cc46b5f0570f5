/* SPDX-License-Identifier: MIT */
/*
 * The note of the owner. The library keeps a member with the directory of another from counting
 * (its incarnation is not the recorded one), but says so late and in other words; a person who
 * mixed up two directories or two keys wants to hear it at the start.
 */
#include "owner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "crash.h"

enum { NOTE_BYTES = 256, HEX_BYTES = 65 };

static void network_hex(const struct ls_identity *identity, char out[HEX_BYTES])
{
    struct ls_network_id network = ls_identity_network(identity);
    for (size_t i = 0; i < sizeof network.bytes; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", network.bytes[i]);
    }
}

static bool note_sync(const char *path, const char *note)
{
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (descriptor < 0) {
        return false;
    }
    size_t bytes = strlen(note);
    bool written = write(descriptor, note, bytes) == (ssize_t)bytes && fsync(descriptor) == 0;
    int reason = errno;
    (void)close(descriptor);
    errno = reason;
    return written;
}

static enum ls_status note_write(const char *directory, const char *path, const char *note,
                                 struct ls_error *error)
{
    char fresh[PATH_MAX + 8];
    (void)snprintf(fresh, sizeof fresh, "%s.new", path);
    bool written = note_sync(fresh, note);
    KV_CRASH("note.written");
    written = written && rename(fresh, path) == 0;
    if (written) {
        KV_CRASH("note.renamed");
        int parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        written = parent >= 0 && fsync(parent) == 0;
        int reason = errno;
        if (parent >= 0) {
            (void)close(parent);
        }
        errno = reason;
        KV_CRASH("note.synced");
    }
    return written ? LS_OK : ls_error_set(error, LS_ERR_IO, "write %s: %s", path, strerror(errno));
}

/* Whether what was found is a note; then its parts. */
static bool note_read(const char *note, char member[LS_NAME_BYTES], char network[HEX_BYTES])
{
    LS_STATIC_ASSERT(LS_NAME_BYTES == 64 && HEX_BYTES == 65, "the widths below");
    int end = 0;
    return sscanf(note, "lockstep-kv 1\nmember %63[^\n]\nnetwork %64[0-9a-f]\n%n", member, network,
                  &end) == 2 &&
           end > 0 && note[end] == '\0' && strlen(network) == HEX_BYTES - 1;
}

enum ls_status kv_owner_check(const char *directory, const char *member,
                              const struct ls_identity *identity, struct ls_error *error)
{
    char path[PATH_MAX];
    char note[NOTE_BYTES], found[NOTE_BYTES];
    char network[HEX_BYTES], owner[LS_NAME_BYTES], owner_network[HEX_BYTES];
    int length = snprintf(path, sizeof path, "%s/member", directory);
    if (length < 0 || length >= PATH_MAX) {
        return ls_error_set(error, LS_ERR_INVALID, "%s: the path is too long", directory);
    }
    network_hex(identity, network);
    (void)snprintf(note, sizeof note, "lockstep-kv 1\nmember %s\nnetwork %s\n", member, network);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return errno == ENOENT
                   ? note_write(directory, path, note, error)
                   : ls_error_set(error, LS_ERR_IO, "open %s: %s", path, strerror(errno));
    }
    size_t bytes = fread(found, 1, sizeof found - 1, file);
    bool failed = ferror(file) != 0;
    (void)fclose(file);
    found[bytes] = '\0';
    if (failed) {
        return ls_error_set(error, LS_ERR_IO, "read %s failed", path);
    }
    if (!note_read(found, owner, owner_network)) {
        return ls_error_set(error, LS_ERR_CORRUPT,
                            "%s: it is not the note of a lockstep-kv whose directory this is",
                            path);
    }
    if (strcmp(owner, member) != 0) {
        return ls_error_set(error, LS_ERR_MISMATCH,
                            "data %s: it belongs to member %s, not to %s: expected %s's own "
                            "directory, or an empty one",
                            directory, owner, member, member);
    }
    if (strcmp(owner_network, network) != 0) {
        return ls_error_set(error, LS_ERR_MISMATCH,
                            "data %s: it was made with another --group-key: expected that key, or "
                            "an empty directory",
                            directory);
    }
    return LS_OK;
}
