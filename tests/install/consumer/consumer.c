/* SPDX-License-Identifier: MIT */
/*
 * A program outside the tree, with nothing but the installed headers and library: a group of one
 * member, whose machine counts its commands.
 */
#include <lockstep/lockstep.h>
#include <lockstep/transport.h>
#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static enum ls_status result = LS_ERR_UNKNOWN;
static unsigned char reply;
static int done;

static unsigned char count;
static struct ls_group *group;

static struct ls_span signature(void *self)
{
    (void)self;
    return (struct ls_span){"consumer/1", 10};
}

static enum ls_status apply(void *self, const struct ls_command *command,
                            struct ls_replies *replies)
{
    (void)self;
    (void)command;
    count++;
    return ls_reply_set(replies, 0, &count, sizeof count);
}

static enum ls_status query(void *self, struct ls_span question, struct ls_replies *replies)
{
    (void)self;
    (void)question;
    return ls_reply_set(replies, 0, &count, sizeof count);
}

static void finish(enum ls_status status)
{
    (void)pthread_mutex_lock(&lock);
    result = status;
    done = 1;
    (void)pthread_cond_signal(&ended);
    (void)pthread_mutex_unlock(&lock);
}

static void executed(void *arg, const struct ls_outcome *outcome)
{
    (void)arg;
    if (outcome->status == LS_OK && outcome->count == 1 && outcome->replies[0].bytes == 1) {
        reply = *(const unsigned char *)outcome->replies[0].data;
    }
    finish(outcome->status);
}

static void begin(void *arg)
{
    struct ls_founder self = {"only", NULL, LS_MEMBER_VOTER};
    struct ls_span command = {"hello", 5};
    struct ls_group_options options;
    struct ls_error error = {LS_OK, ""};
    enum ls_status status;

    ls_group_options_init(&options);
    options.name = "consumers";
    options.member = "only";
    options.founders = &self;
    options.founders_count = 1;
    options.machine = (struct ls_machine){
        .size = sizeof options.machine, .signature = signature, .apply = apply, .query = query};
    status = ls_group_join(arg, &options, &group, &error);
    if (status == LS_OK) {
        status = ls_group_execute(group, command, NULL, executed, NULL);
    }
    if (status != LS_OK) {
        (void)fprintf(stderr, "%s: %s\n", ls_status_text(status), error.text);
        finish(status);
    }
}

int main(void)
{
    static const unsigned char key[LS_KEY_BYTES] = {1, 2, 3};
    struct ls_loopback *hub = NULL;
    struct ls_identity *identity = NULL;
    struct ls_node *node = NULL;
    struct ls_error error = {LS_OK, ""};
    struct ls_node_options options;
    struct ls_storage_memory_options memory = {.size = sizeof memory};

    ls_node_options_init(&options);
    if (ls_loopback_open(ls_env_default(), &hub) != LS_OK ||
        ls_identity_founder(key, "only", &identity, &error) != LS_OK ||
        ls_loopback_endpoint(hub, identity, &options.transport, &error) != LS_OK ||
        ls_storage_memory_open(&memory, &options.storage, &error) != LS_OK) {
        (void)fprintf(stderr, "parts: %s\n", error.text);
        return 1;
    }
    options.identity = identity;
    if (ls_node_open(&options, &node, &error) != LS_OK ||
        ls_node_post(node, begin, node) != LS_OK) {
        (void)fprintf(stderr, "node: %s\n", error.text);
        return 1;
    }
    (void)pthread_mutex_lock(&lock);
    while (!done) {
        (void)pthread_cond_wait(&ended, &lock);
    }
    (void)pthread_mutex_unlock(&lock);
    ls_node_close(node, NULL, NULL);
    ls_identity_close(identity);
    ls_loopback_close(hub);
    printf("lockstep %s: %s, reply %u\n", ls_version(), ls_status_text(result), reply);
    return result == LS_OK && reply == 1 ? 0 : 1;
}
