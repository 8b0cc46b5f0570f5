/* SPDX-License-Identifier: MIT */
/*
 * A state sync of your own. The machine's state is one append-only file, so what a member lacks is
 * the end of it. That comes in ranges of bytes, into the file itself, behind the end that counts:
 * the leader tells the checksum of a range, the others send its bytes. Then a snapshot without
 * chunks is published: the end that counts moves, and the log begins after it. A range that is
 * there already, from an earlier attempt, is not fetched again.
 *
 *     session                     provider
 *       ASK index            ->     is ahead of that:
 *                            <-     OFFER term, index, configuration, length
 *       SUM offset, length   ->
 *                            <-     SUMMED offset, length, checksum (or nothing: it has less)
 *       FETCH offset, length ->
 *                            <-     FETCHED offset, length, bytes (or nothing)
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

enum { ASK = 1, OFFER = 2, SUM = 3, SUMMED = 4, FETCH = 5, FETCHED = 6 };

struct message {
    uint64_t kind, term, index, configuration, offset, length;
};

/* peer  NULL: all. What does not arrive is asked for again. */
static void tell(const struct ls_sync_context *context, const struct ls_peer_id *peer,
                 const struct message *head, struct ls_span rest)
{
    static uint8_t bytes[sizeof *head + RANGE]; /* there is one thread */
    const struct ls_span message = {bytes, sizeof *head + rest.bytes};
    memcpy(bytes, head, sizeof *head);
    if (rest.bytes > 0) {
        memcpy(bytes + sizeof *head, rest.data, rest.bytes);
    }
    (void)(peer != NULL ? context->send_to(context->self, peer, message)
                        : context->broadcast(context->self, message, NULL, NULL));
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

static bool read_range(const struct file *file, const struct message *range, uint8_t *out,
                       struct ls_hash *sum)
{
    const struct ls_span bytes = {out, range->length};
    if (pread(file->data, out, range->length, (off_t)range->offset) != (ssize_t)range->length) {
        return false;
    }
    ls_env_default()->hash(NULL, &bytes, 1, sum->bytes);
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

static void offer(struct provider *provider, const struct ls_peer_id *to, ls_index index)
{
    const struct ls_sync_context *base = &provider->context.base;
    struct ls_sync_frozen here; /* where this file stands in the log */
    if (provider->context.freeze(base->self, &here) != LS_OK) {
        return;
    }
    if (here.anchor.index > index) {
        const struct message head = {.kind = OFFER,
                                     .term = here.anchor.term,
                                     .index = here.anchor.index,
                                     .configuration = here.configuration_index,
                                     .length = provider->file->here.length};
        uint64_t now = base->now_us(base->self);
        bool first = now >= provider->until_us;
        provider->offered = first ? here.anchor.index : provider->offered;
        provider->until_us = now + LEASE_US;
        tell(base, to, &head, here.configuration);
    }
    provider->context.thaw(base->self, here.id);
}

static enum ls_sync_verdict provider_receive(void *self, const struct ls_peer_id *from,
                                             struct ls_span message)
{
    static uint8_t bytes[RANGE];
    struct provider *provider = self;
    uint64_t length = provider->file->here.length;
    struct message head;
    struct ls_span rest;
    struct ls_hash sum;
    if (!hear(message, &head, &rest) || rest.bytes > 0) {
        return LS_SYNC_INVALID;
    }
    if (head.kind == ASK) {
        offer(provider, from, head.index);
        return LS_SYNC_OK;
    }
    if ((head.kind != SUM && head.kind != FETCH) || head.length == 0 || head.length > RANGE) {
        return LS_SYNC_INVALID;
    }
    if (length >= head.length && length - head.length >= head.offset &&
        read_range(provider->file, &head, bytes, &sum)) {
        rest = head.kind == SUM ? (struct ls_span){&sum, sizeof sum}
                                : (struct ls_span){bytes, head.length};
    }
    head.kind++;
    tell(&provider->context.base, from, &head, rest);
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
    const char *failed;       /* why */
    struct ls_snapshot offer; /* without chunks; its configuration is in: */
    uint8_t configuration[LS_CONFIGURATION_BYTES_MAX];
    uint64_t from, length; /* where the file ended, and will */
    struct message asked;  /* SUM or FETCH, of the range that is under way */
    struct ls_hash sum;
    struct ls_peer_id of;
    size_t turn, tries, peers; /* ranges so far; of this one; who could be asked */
    uint64_t again_us;         /* when to ask, or ask again */
};

/* For a checksum the leader comes first, for bytes last. Checksums and bytes of all peers are tried
 * with each other until two agree. */
static void ask(struct session *session, uint64_t now)
{
    const struct ls_sync_context *base = &session->context.base;
    struct ls_sync_bond bonds[LS_MEMBERS_MAX + 1], swap;
    size_t count = base->bonds(base->self, bonds, LS_MEMBERS_MAX);
    size_t others = count;
    for (size_t i = 0; i < others; i++) {
        if (bonds[i].leader) {
            others = count - 1;
            swap = bonds[others];
            bonds[others] = bonds[i];
            bonds[i] = swap;
        }
    }
    session->peers = count;
    session->again_us = now + (count > 0 ? TIMEOUT_US : PAUSE_US * 50);
    if (count == 0) {
        return;
    }
    size_t at = session->tries % count;
    if (session->asked.kind == SUM) {
        at = count - 1 - session->tries / count % count;
    } else if (at < others) {
        at = (session->turn + at) % others;
    }
    session->of = bonds[at].peer;
    tell(base, &session->of, &session->asked, (struct ls_span){NULL, 0});
}

/* This peer did not help: the next one. */
static void try_next(struct session *session, uint64_t pause_us)
{
    const struct ls_sync_context *base = &session->context.base;
    size_t peers = session->peers + (session->peers == 0);
    session->tries =
        session->asked.kind == SUM ? (session->tries / peers + 1) * peers : session->tries + 1;
    session->asked.kind = session->tries % peers == 0 ? SUM : FETCH;
    session->of = (struct ls_peer_id){{0}};
    session->again_us = base->now_us(base->self) + pause_us;
}

/* The range after this one; all are there: publish. */
static void next_range(struct session *session)
{
    const struct ls_sync_context *base = &session->context.base;
    uint64_t at = session->asked.offset + session->asked.length;
    uint64_t left = session->length - at;
    session->turn++;
    session->tries = 0;
    session->again_us = 0;
    session->asked =
        (struct message){.kind = SUM, .offset = at, .length = left < RANGE ? left : RANGE};
    if (left == 0) {
        session->step = BEGINNING;
        session->offer.root = ls_snapshot_root(base->env, &session->offer, NULL);
        (void)session->context.begin(base->self, &session->offer, NULL);
    }
}

static enum ls_session_state session_poll(void *self, struct ls_cursor *at, const char **reason)
{
    static const struct ls_span nothing = {NULL, 0};
    struct session *session = self;
    const struct ls_sync_context *base = &session->context.base;
    uint64_t now = base->now_us(base->self);
    *at = session->offer.anchor;
    *reason = session->failed;
    if (session->step == INSTALLED || session->failed != NULL) {
        return session->failed == NULL ? LS_SESSION_DONE : LS_SESSION_FAILED;
    }
    if (session->step == SELECTING && now >= session->again_us) {
        const struct message head = {.kind = ASK, .index = base->committed(base->self).index};
        tell(base, NULL, &head, nothing);
        session->again_us = now + TIMEOUT_US;
    } else if (session->step == FETCHING && now >= session->again_us) {
        if (session->peers > 0 && !ls_peer_id_is_zero(&session->of)) {
            try_next(session, 0); /* it did not answer */
        }
        ask(session, now);
    }
    base->wake_at(base->self, session->step <= FETCHING ? session->again_us : UINT64_MAX);
    return LS_SESSION_PENDING;
}

/* The leader's word counts, if there is one. */
static enum ls_sync_verdict take_offer(struct session *session, const struct ls_peer_id *from,
                                       const struct message *offer, struct ls_span configuration)
{
    const struct ls_sync_context *base = &session->context.base;
    struct ls_peer_id leader;
    if (session->context.leader(base->self, &leader) && !ls_peer_id_equal(&leader, from)) {
        return LS_SYNC_IGNORE;
    }
    if (offer->length < session->from || configuration.bytes == 0 ||
        configuration.bytes > sizeof session->configuration) {
        return LS_SYNC_INVALID;
    }
    if (session->step != SELECTING || offer->index <= base->committed(base->self).index) {
        return LS_SYNC_IGNORE;
    }
    if (offer->index > session->target) { /* not known to be committed: soon */
        session->again_us = base->now_us(base->self) + PAUSE_US;
        return LS_SYNC_IGNORE;
    }
    memcpy(session->configuration, configuration.data, configuration.bytes);
    session->offer =
        (struct ls_snapshot){.anchor = {offer->term, offer->index},
                             .configuration_index = offer->configuration,
                             .configuration = {session->configuration, configuration.bytes}};
    session->length = offer->length;
    session->step = FETCHING;
    session->asked = (struct message){.offset = session->from};
    next_range(session);
    return LS_SYNC_OK;
}

static enum ls_sync_verdict take_range(struct session *session, struct ls_span answer)
{
    static uint8_t bytes[RANGE];
    const struct ls_env *env = session->context.base.env;
    const struct message *asked = &session->asked;
    struct file *file = session->file;
    struct ls_hash sum;
    if (answer.bytes == 0) {
        try_next(session, PAUSE_US);
        return LS_SYNC_OK;
    }
    if (asked->kind == SUM && answer.bytes == sizeof sum) {
        memcpy(&session->sum, answer.data, sizeof sum);
        session->asked.kind = FETCH;
        session->of = (struct ls_peer_id){{0}};
        session->again_us = 0;
        if (read_range(file, asked, bytes, &sum) && ls_hash_equal(&sum, &session->sum)) {
            next_range(session);
        }
        return LS_SYNC_OK;
    }
    env->hash(env->self, &answer, 1, sum.bytes);
    if (asked->kind == SUM || answer.bytes != asked->length ||
        !ls_hash_equal(&sum, &session->sum)) {
        try_next(session, PAUSE_US);
        return LS_SYNC_INVALID;
    }
    if (pwrite(file->data, answer.data, answer.bytes, (off_t)asked->offset) !=
        (ssize_t)answer.bytes) {
        session->failed = "the file cannot be written";
        return LS_SYNC_OK;
    }
    file->fetched += answer.bytes;
    next_range(session);
    return LS_SYNC_OK;
}

static enum ls_sync_verdict session_receive(void *self, const struct ls_peer_id *from,
                                            struct ls_span message)
{
    struct session *session = self;
    struct message head;
    struct ls_span rest;
    if (!hear(message, &head, &rest)) {
        return LS_SYNC_INVALID;
    }
    if (head.kind == OFFER) {
        return take_offer(session, from, &head, rest);
    }
    if (head.kind != SUMMED && head.kind != FETCHED) {
        return LS_SYNC_INVALID;
    }
    if (session->step != FETCHING || head.kind != session->asked.kind + 1 ||
        head.offset != session->asked.offset || head.length != session->asked.length ||
        !ls_peer_id_equal(from, &session->of)) {
        return LS_SYNC_IGNORE; /* late */
    }
    return take_range(session, rest);
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
    if (session->step == SELECTING || session->peers == 0) {
        out->phase = LS_SYNC_WAITING;
        out->reason = "no peer offers its file";
        return;
    }
    out->phase = session->step == FETCHING ? LS_SYNC_FETCHING : LS_SYNC_INSTALLING;
    out->items = session->turn;
    out->bytes = session->asked.offset - session->from;
    out->bytes_total = session->length - session->from;
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
    session->from = session->file->here.length;
    *out = (struct ls_sync_session){.size = sizeof *out,
                                    .self = session,
                                    .poll = session_poll,
                                    .receive = session_receive,
                                    .target = session_target,
                                    .effect = session_effect,
                                    .progress = session_progress,
                                    .destroy = free};
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
