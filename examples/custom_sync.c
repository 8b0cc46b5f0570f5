/* SPDX-License-Identifier: MIT */
/*
 * A state sync of your own. The machine's state is one append-only file, so what a member lacks is
 * the end of it. That comes in ranges of bytes, into the file itself, behind the end that counts:
 * the leader offers its length and the checksum of each range, the others send the bytes. Then a
 * snapshot without chunks is published: the end that counts moves, and the log begins after it.
 *
 *     session                     provider
 *       ASK index, offset    ->     is ahead of that index
 *                            <-     OFFER term, index, offset, length, configuration, checksums
 *       FETCH offset, length ->
 *                            <-     FETCHED offset, length, bytes (or nothing: it has less)
 *
 * The program shows it: three members in one process, of which one is away while the log is pruned.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include <lockstep/lockstep.h>
#include <lockstep/storage_memory.h>

/* ---- the machine: a file that commands are appended to ---- */

struct end {
    uint64_t applied, length; /* what the file holds beyond that does not count */
    struct ls_incarnation incarnation;
};

struct file {
    int folder, data;
    bool broken;      /* a write failed: no later one can be trusted */
    struct end here;  /* durable */
    struct end next;  /* what publish makes of it */
    uint64_t fetched; /* bytes, ever */
};

static struct ls_span signature(void *self)
{
    (void)self;
    return (struct ls_span){"file/1", 6};
}

/* The data, then the end that counts it, in one step: after a crash it is the old or the new. */
static enum ls_status move_end(struct file *file, const struct end *end)
{
    int fd = openat(file->folder, "end.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = !file->broken && fd >= 0 && fdatasync(file->data) == 0 &&
              write(fd, end, sizeof *end) == (ssize_t)sizeof *end && fsync(fd) == 0 &&
              renameat(file->folder, "end.new", file->folder, "end") == 0 &&
              fsync(file->folder) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    file->broken = !ok;
    file->here = ok ? *end : file->here;
    return ok ? LS_OK : LS_ERR_IO;
}

static enum ls_status open_file(void *self, const struct ls_group_id *group,
                                const struct ls_incarnation *incarnation, ls_index *applied,
                                struct ls_error *error)
{
    struct file *file = self;
    struct end end = {0, 0, *incarnation};
    int fd = openat(file->folder, "end", O_RDONLY | O_CLOEXEC);
    (void)group; /* the only one of this store */
    file->broken = fd >= 0 && read(fd, &end, sizeof end) != (ssize_t)sizeof end;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (file->broken || !ls_incarnation_equal(&end.incarnation, incarnation)) {
        return ls_error_set(error, LS_ERR_MISMATCH, "the file belongs to another store");
    }
    file->here = end;
    file->data = openat(file->folder, "data", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    *applied = file->here.applied;
    return file->data >= 0 ? LS_OK : ls_error_set(error, LS_ERR_IO, "open the file");
}

static void close_file(void *self)
{
    (void)close(((struct file *)self)->data);
}

static enum ls_status apply(void *self, const struct ls_command *commands, size_t count,
                            struct ls_replies *replies, size_t *applied)
{
    struct file *file = self;
    struct end end = file->here;
    *applied = 0;
    for (size_t i = 0; i < count; i++) {
        const struct ls_span *line = &commands[i].data;
        if (pwrite(file->data, line->data, line->bytes, (off_t)end.length) !=
            (ssize_t)line->bytes) {
            return LS_ERR_IO;
        }
        end.length += line->bytes;
        end.applied = commands[i].cursor.index;
        (void)ls_reply_set(replies, i, &end.length, sizeof end.length);
    }
    *applied = count;
    return move_end(file, &end);
}

static enum ls_status query(void *self, struct ls_span what, struct ls_replies *reply)
{
    const struct file *file = self;
    (void)what;
    return ls_reply_set(reply, 0, &file->here.length, sizeof file->here.length);
}

static ls_index durable_applied(void *self)
{
    return ((struct file *)self)->here.applied;
}

/* What is written does not change any more, so that a picture of the state is its length. */
static enum ls_status freeze(void *self, struct ls_frozen *out)
{
    *out = (struct ls_frozen){.bytes = ((struct file *)self)->here.length};
    return LS_OK;
}

static enum ls_status publish(void *self, struct ls_cursor anchor)
{
    struct file *file = self;
    return anchor.index == file->next.applied ? move_end(file, &file->next) : LS_ERR_INVALID;
}

/* ---- messages: six numbers, as this kind of processor writes them, and bytes ---- */

#ifndef RANGE
#define RANGE (256u << 10) /* bytes */
#endif
#define SUM sizeof(struct ls_hash)

enum { ASK = 1, OFFER = 2, FETCH = 3, FETCHED = 4 };

struct message {
    uint64_t kind, term, index, configuration, offset, length;
};

/* peer  NULL: all. What does not arrive is asked for again. */
static void tell(const struct ls_sync_context *context, const struct ls_peer_id *peer,
                 const struct message *head, struct ls_span rest)
{
    uint8_t *bytes = malloc(sizeof *head + rest.bytes);
    const struct ls_span message = {bytes, sizeof *head + rest.bytes};
    if (bytes == NULL) {
        return;
    }
    memcpy(bytes, head, sizeof *head);
    if (rest.bytes > 0) {
        memcpy(bytes + sizeof *head, rest.data, rest.bytes);
    }
    (void)(peer != NULL ? context->send_to(context->self, peer, message)
                        : context->broadcast(context->self, message, NULL, NULL));
    free(bytes);
}

static bool hear(struct ls_span message, struct message *head, struct ls_span *rest)
{
    if (message.bytes < sizeof *head) {
        return false;
    }
    memcpy(head, message.data, sizeof *head);
    rest->data = (const uint8_t *)message.data + sizeof *head;
    rest->bytes = message.bytes - sizeof *head;
    return true;
}

static uint64_t ranges(uint64_t offset, uint64_t length)
{
    return (length - offset + RANGE - 1) / RANGE;
}

static uint8_t bytes_of_range[RANGE]; /* there is one thread */

/* Reads a range, which may end with the file, and sums it up. */
static bool read_range(const struct file *file, uint64_t offset, uint64_t bytes, uint8_t sum[SUM])
{
    const struct ls_span range = {bytes_of_range, bytes};
    if (pread(file->data, bytes_of_range, bytes, (off_t)offset) != (ssize_t)bytes) {
        return false;
    }
    ls_env_default()->hash(NULL, &range, 1, sum);
    return true;
}

/* ---- the provider: each member tells of its file ---- */

#define LEASE_US 30000000u

struct provider {
    struct ls_provider_context context;
    struct file *file;
    ls_index offered;  /* the log after it is kept */
    uint64_t until_us; /* ... for so long */
};

/* A file of many gigabytes would keep its checksums; this one is summed up when somebody asks. */
static void tell_offer(struct provider *provider, const struct ls_peer_id *to,
                       const struct ls_sync_frozen *here, uint64_t from)
{
    const struct ls_sync_context *base = &provider->context.base;
    const struct message head = {.kind = OFFER,
                                 .term = here->anchor.term,
                                 .index = here->anchor.index,
                                 .configuration = here->configuration_index,
                                 .offset = from,
                                 .length = provider->file->here.length};
    uint64_t count = ranges(from, head.length);
    uint8_t *sums = malloc(count * SUM + here->configuration.bytes);
    bool ok = sums != NULL;
    for (uint64_t i = 0; ok && i < count; i++) {
        uint64_t at = from + i * RANGE;
        uint64_t left = head.length - at;
        ok = read_range(provider->file, at, left < RANGE ? left : RANGE, sums + i * SUM);
    }
    if (ok) {
        memcpy(sums + count * SUM, here->configuration.data, here->configuration.bytes);
        uint64_t now = base->now_us(base->self);
        provider->offered = now < provider->until_us ? provider->offered : head.index;
        provider->until_us = now + LEASE_US;
        tell(base, to, &head, (struct ls_span){sums, count * SUM + here->configuration.bytes});
    }
    free(sums);
}

static enum ls_sync_verdict provider_receive(void *self, const struct ls_peer_id *from,
                                             struct ls_span message)
{
    struct provider *provider = self;
    const struct ls_sync_context *base = &provider->context.base;
    uint64_t length = provider->file->here.length;
    struct message head;
    struct ls_span rest;
    struct ls_sync_frozen here; /* where this file stands in the log */
    uint8_t sum[SUM];
    if (!hear(message, &head, &rest) || rest.bytes > 0) {
        return LS_SYNC_INVALID;
    }
    if (head.kind == ASK) {
        if (head.offset <= length && provider->context.freeze(base->self, &here) == LS_OK) {
            if (here.anchor.index > head.index) {
                tell_offer(provider, from, &here, head.offset);
            }
            provider->context.thaw(base->self, here.id);
        }
        return LS_SYNC_OK;
    }
    if (head.kind != FETCH || head.length == 0 || head.length > RANGE) {
        return LS_SYNC_INVALID;
    }
    if (head.length <= length && head.offset <= length - head.length &&
        read_range(provider->file, head.offset, head.length, sum)) {
        rest = (struct ls_span){bytes_of_range, head.length};
    }
    head.kind = FETCHED;
    tell(base, from, &head, rest);
    return LS_SYNC_OK;
}

static ls_index provider_safe(void *self)
{
    const struct provider *provider = self;
    const struct ls_sync_context *base = &provider->context.base;
    bool leased = base->now_us(base->self) < provider->until_us;
    return leased ? provider->offered : base->committed(base->self).index;
}

static enum ls_status create_provider(void *self, const struct ls_provider_context *context,
                                      struct ls_sync_provider *out)
{
    struct provider *provider = calloc(1, sizeof *provider);
    if (provider == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    provider->context = *context;
    provider->file = self;
    *out = (struct ls_sync_provider){.size = sizeof *out,
                                     .self = provider,
                                     .receive = provider_receive,
                                     .safe_to_prune_prefix = provider_safe,
                                     .destroy = free};
    return LS_OK;
}

/* ---- the session: fetches what this member's file lacks, range after range ---- */

#define TIMEOUT_US 2000000u /* of a question */
#define PAUSE_US   20000u   /* after an answer that did not help */

struct session {
    struct ls_session_context context;
    struct file *file;
    ls_index target; /* known to be committed */
    enum { SELECTING, FETCHING, BEGINNING, PUBLISHING, INSTALLED } step;
    const char *failed;        /* why */
    struct ls_snapshot offer;  /* without chunks */
    uint8_t *sums;             /* of each range, and then the configuration */
    uint64_t from, at, length; /* where the file ended; what is asked for; where it will end */
    size_t turn, tries;        /* ranges so far; questions for this one */
    struct ls_peer_id asked;
    uint64_t again_us; /* when to ask, or ask again */
};

static uint64_t bytes_asked(const struct session *session)
{
    uint64_t left = session->length - session->at;
    return left < RANGE ? left : RANGE;
}

/* The range is there: the next. After the last one: publish. */
static void go_on(struct session *session)
{
    const struct ls_sync_context *base = &session->context.base;
    session->at += bytes_asked(session);
    session->turn++;
    session->tries = 0;
    session->again_us = 0;
    if (session->at == session->length) {
        session->step = BEGINNING;
        session->offer.root = ls_snapshot_root(base->env, &session->offer, NULL);
        (void)session->context.begin(base->self, &session->offer, NULL);
    }
}

/* Asks the followers in turn, the leader when none of them helped. */
static void fetch(struct session *session, uint64_t now)
{
    const struct ls_sync_context *base = &session->context.base;
    const struct message head = {
        .kind = FETCH, .offset = session->at, .length = bytes_asked(session)};
    struct ls_sync_bond bonds[LS_MEMBERS_MAX];
    size_t count = base->bonds(base->self, bonds, LS_MEMBERS_MAX);
    uint8_t sum[SUM];
    if (read_range(session->file, session->at, head.length, sum) &&
        memcmp(sum, session->sums + session->turn * SUM, SUM) == 0) {
        go_on(session); /* it is there from an earlier attempt */
        return;
    }
    session->again_us = now + TIMEOUT_US;
    for (size_t i = 0; i < count; i++) {
        const struct ls_sync_bond *bond = &bonds[(session->turn + session->tries + i) % count];
        if (bond->leader == (session->tries % count == count - 1)) {
            session->asked = bond->peer;
            tell(base, &bond->peer, &head, (struct ls_span){NULL, 0});
            break;
        }
    }
    session->tries++;
}

static enum ls_session_state session_poll(void *self, struct ls_cursor *at, const char **reason)
{
    struct session *session = self;
    const struct ls_sync_context *base = &session->context.base;
    uint64_t now = base->now_us(base->self);
    *at = session->offer.anchor;
    *reason = session->failed;
    if (session->step == INSTALLED || session->failed != NULL) {
        return session->failed == NULL ? LS_SESSION_DONE : LS_SESSION_FAILED;
    }
    if (session->step == SELECTING && now >= session->again_us) {
        const struct message head = {
            .kind = ASK, .index = base->committed(base->self).index, .offset = session->from};
        tell(base, NULL, &head, (struct ls_span){NULL, 0});
        session->again_us = now + TIMEOUT_US;
    } else if (session->step == FETCHING && now >= session->again_us) {
        fetch(session, now);
    }
    if (session->step <= FETCHING) {
        base->wake_at(base->self, session->again_us);
    }
    return LS_SESSION_PENDING;
}

/* The leader's word counts, if there is one. */
static enum ls_sync_verdict take_offer(struct session *session, const struct ls_peer_id *from,
                                       const struct message *offer, struct ls_span rest)
{
    const struct ls_sync_context *base = &session->context.base;
    struct ls_peer_id leader;
    bool led = session->context.leader(base->self, &leader);
    if (offer->offset != session->from || offer->length < offer->offset ||
        ranges(offer->offset, offer->length) >= rest.bytes / SUM) {
        return LS_SYNC_INVALID;
    }
    if (session->step != SELECTING || offer->index <= base->committed(base->self).index ||
        (led && !ls_peer_id_equal(&leader, from))) {
        return LS_SYNC_IGNORE;
    }
    session->sums = offer->index <= session->target ? malloc(rest.bytes) : NULL;
    if (session->sums == NULL) { /* not known to be committed: soon */
        session->again_us = base->now_us(base->self) + PAUSE_US;
        return LS_SYNC_IGNORE;
    }
    memcpy(session->sums, rest.data, rest.bytes);
    uint64_t sums = ranges(offer->offset, offer->length) * SUM;
    session->offer =
        (struct ls_snapshot){.anchor = {offer->term, offer->index},
                             .configuration_index = offer->configuration,
                             .configuration = {session->sums + sums, rest.bytes - sums}};
    session->length = offer->length;
    session->step = FETCHING;
    session->again_us = 0;
    if (session->at == session->length) {
        go_on(session); /* entries without commands: nothing to fetch */
    }
    return LS_SYNC_OK;
}

static enum ls_sync_verdict session_receive(void *self, const struct ls_peer_id *from,
                                            struct ls_span message)
{
    struct session *session = self;
    const struct ls_sync_context *base = &session->context.base;
    struct message head;
    struct ls_span rest;
    uint8_t sum[SUM];
    if (!hear(message, &head, &rest) || (head.kind != OFFER && head.kind != FETCHED)) {
        return LS_SYNC_INVALID;
    }
    if (head.kind == OFFER) {
        return take_offer(session, from, &head, rest);
    }
    if (session->step != FETCHING || head.offset != session->at ||
        head.length != bytes_asked(session) || !ls_peer_id_equal(from, &session->asked)) {
        return LS_SYNC_IGNORE; /* late */
    }
    session->again_us = base->now_us(base->self) + PAUSE_US;
    base->env->hash(base->env->self, &rest, 1, sum);
    if (rest.bytes == 0) {
        return LS_SYNC_OK; /* it does not have it yet: another does */
    }
    if (rest.bytes != head.length || memcmp(sum, session->sums + session->turn * SUM, SUM) != 0) {
        return LS_SYNC_INVALID;
    }
    if (pwrite(session->file->data, rest.data, rest.bytes, (off_t)head.offset) !=
        (ssize_t)rest.bytes) {
        session->failed = "the file cannot be written";
        return LS_SYNC_OK;
    }
    session->file->fetched += rest.bytes;
    go_on(session);
    return LS_SYNC_OK;
}

static void session_target(void *self, ls_index target)
{
    ((struct session *)self)->target = target;
}

static void session_effect(void *self, uint64_t token, enum ls_status status)
{
    struct session *session = self;
    struct file *file = session->file;
    (void)token; /* there is one at a time */
    if (status != LS_OK) {
        session->failed = ls_status_text(status);
    } else if (session->step == BEGINNING) {
        session->step = PUBLISHING;
        file->next = file->here;
        file->next.applied = session->offer.anchor.index;
        file->next.length = session->length;
        (void)session->context.publish(session->context.base.self);
    } else {
        session->step = INSTALLED;
    }
}

static void session_progress(void *self, struct ls_sync_progress *out)
{
    const struct session *session = self;
    struct ls_sync_bond bond;
    const struct ls_sync_context *base = &session->context.base;
    if (session->step == SELECTING || base->bonds(base->self, &bond, 1) == 0) {
        out->phase = LS_SYNC_WAITING;
        out->reason = "no peer offers its file";
        return;
    }
    out->phase = session->step == FETCHING ? LS_SYNC_FETCHING : LS_SYNC_INSTALLING;
    out->items = session->turn;
    out->bytes = session->at - session->from;
    out->bytes_total = session->length - session->from;
}

static void session_destroy(void *self)
{
    free(((struct session *)self)->sums);
    free(self);
}

static enum ls_status create_session(void *self, const struct ls_session_context *context,
                                     const struct ls_sync_gap *gap, struct ls_sync_session *out)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    session->context = *context;
    session->file = self;
    session->target = gap->target;
    session->from = session->at = session->file->here.length;
    *out = (struct ls_sync_session){.size = sizeof *out,
                                    .self = session,
                                    .poll = session_poll,
                                    .receive = session_receive,
                                    .target = session_target,
                                    .effect = session_effect,
                                    .progress = session_progress,
                                    .destroy = session_destroy};
    return LS_OK;
}

static const char *usable(void *self, const struct ls_sync_facts *facts)
{
    (void)self;
    return facts->machine_publishes ? NULL : "there is no vault";
}

static void make_file(struct file *file, struct ls_machine *machine, struct ls_statesync *sync)
{
    *machine = (struct ls_machine){.size = sizeof *machine,
                                   .self = file,
                                   .signature = signature,
                                   .open = open_file,
                                   .apply_batch = apply,
                                   .query = query,
                                   .durable_applied = durable_applied,
                                   .close = close_file,
                                   .freeze = freeze,
                                   .publish = publish};
    *sync = (struct ls_statesync){.size = sizeof *sync,
                                  .self = file,
                                  .name = "file ranges",
                                  .signature = {"file-ranges/1", 13},
                                  .usable = usable,
                                  .create_provider = create_provider,
                                  .create_session = create_session,
                                  .beyond_log = true};
}

/* ---- three members in one process ---- */

#define MEMBERS 3
static const struct ls_founder founders[MEMBERS] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
static struct member {
    struct file file;
    struct ls_storage_medium *disk; /* where its log is while it is away */
    struct ls_vault_medium *vault;
    struct ls_identity *identity;
    struct ls_node *node;
    struct ls_group *group;
} members[MEMBERS];
static struct event_base *base;
static struct ls_loopback *hub;
static bool done; /* what is waited for has happened */

static void check(enum ls_status status, const char *what)
{
    if (status != LS_OK) {
        (void)fprintf(stderr, "%s: %s\n", what, ls_status_text(status));
        exit(EXIT_FAILURE);
    }
}

static void member_open(size_t at)
{
    static const uint8_t key[LS_KEY_BYTES] = "no secret: all is in one process";
    static struct ls_log_replay_options replay = {.size = sizeof replay, .keep_entries = 100};
    struct member *member = &members[at];
    struct ls_statesync syncs[2]; /* log replay for who was away for a short time only */
    struct ls_node_options node;
    struct ls_group_options group;
    ls_node_options_init(&node);
    check(ls_identity_founder(key, founders[at].name, &member->identity, NULL), "identity");
    check(ls_storage_memory_open_on(member->disk, &node.storage, NULL), "storage");
    check(ls_loopback_endpoint(hub, member->identity, &node.transport, NULL), "network");
    ls_vault_memory_open_on(member->vault, &node.vault);
    node.base = base;
    node.identity = member->identity;
    check(ls_node_open(&node, &member->node, NULL), "node");

    ls_group_options_init(&group);
    check(ls_log_replay(&replay, &syncs[0]), "log replay");
    make_file(&member->file, &group.machine, &syncs[1]);
    group.name = "files";
    group.member = founders[at].name;
    group.founders = founders;
    group.founders_count = MEMBERS;
    group.statesyncs = syncs;
    group.statesyncs_count = 2;
    group.prune_entries = 1000;
    group.lag_entries = 100; /* who lags further does not hold the log */
    check(ls_group_join(member->node, &group, &member->group, NULL), "join");
}

static void closed(void *arg)
{
    (void)arg;
    done = true;
}

static void written(void *arg, const struct ls_outcome *outcome)
{
    (void)arg;
    check(outcome->status, "write");
    done = true;
}

static void wait_until_done(void)
{
    while (!done && event_base_loop(base, EVLOOP_ONCE) == 0) {
    }
    done = false;
}

static void member_close(size_t at)
{
    ls_node_close(members[at].node, closed, NULL);
    wait_until_done();
    ls_identity_close(members[at].identity);
}

/* Has so many thousand lines appended. */
static void write_lines(int thousands)
{
    static char line[500];
    static struct ls_span lines[1000];
    for (int n = 0; n < thousands; n++) {
        (void)memset(line, 'a' + n, sizeof line);
        for (size_t i = 0; i < 1000; i++) {
            lines[i] = (struct ls_span){line, sizeof line};
        }
        check(ls_group_execute_many(members[0].group, lines, 1000, NULL, written, NULL), "write");
        wait_until_done();
    }
}

/* Turns the loop until that member has so many bytes; tells what it does. */
static void catch_up(size_t at, uint64_t bytes)
{
    const char *how = NULL;
    while (members[at].file.here.length < bytes) {
        struct ls_group_status status;
        (void)event_base_loop(base, EVLOOP_ONCE);
        ls_group_status(members[at].group, &status);
        if (status.sync.strategy != NULL && status.sync.strategy != how) {
            how = status.sync.strategy;
            printf("%s catches up by %s\n", founders[at].name, status.sync.choice);
        }
    }
}

int main(void)
{
    char folder[] = "/tmp/custom_sync.XXXXXX";
    struct ls_group_status status;
    base = event_base_new();
    check(mkdtemp(folder) != NULL && chdir(folder) == 0 ? LS_OK : LS_ERR_IO, "a folder in /tmp");
    check(ls_loopback_open(NULL, &hub), "network");
    for (size_t i = 0; i < MEMBERS; i++) {
        (void)mkdir(founders[i].name, 0700);
        members[i].file.folder = open(founders[i].name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        check(ls_storage_medium_open(NULL, &members[i].disk), "storage");
        check(ls_vault_medium_open(NULL, &members[i].vault), "vault");
        member_open(i);
    }
    write_lines(2);
    catch_up(2, 1000000);
    member_close(2);
    printf("c goes away with %" PRIu64 " bytes\n", members[2].file.here.length);

    write_lines(6);
    do {
        (void)event_base_loop(base, EVLOOP_ONCE);
        ls_group_status(members[0].group, &status);
    } while (status.log_first < 5000);
    printf("meanwhile a writes 3000000 more, and its log begins at %" PRIu64 "\n",
           status.log_first);

    member_open(2);
    catch_up(2, 4000000);
    printf("c has %" PRIu64 " bytes, of which it fetched %" PRIu64 "\n",
           members[2].file.here.length, members[2].file.fetched);
    for (size_t i = 0; i < MEMBERS; i++) {
        member_close(i);
        (void)unlinkat(members[i].file.folder, "data", 0);
        (void)unlinkat(members[i].file.folder, "end", 0);
        (void)rmdir(founders[i].name);
        (void)close(members[i].file.folder);
        ls_storage_medium_close(members[i].disk);
        ls_vault_medium_close(members[i].vault);
    }
    (void)rmdir(folder);
    ls_loopback_close(hub);
    event_base_free(base);
    return members[2].file.fetched == 3000000 ? EXIT_SUCCESS : EXIT_FAILURE;
}
