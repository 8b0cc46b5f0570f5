/* SPDX-License-Identifier: MIT */
/* The command line: every flag, and one sentence for each way to get it wrong. */
#include "options.h"

#include <stdio.h>

#include "test.h"

#define REQUIRED                                                                                   \
    "--name", "a", "--members", "a=127.0.0.1:7101,b=127.0.0.1:7102", "--group-key", "key",         \
        "--data", "data", "--redis", "127.0.0.1:6401"

static bool parse(struct kv_options *options, const char *const *given,
                  char why[LS_ERROR_TEXT_BYTES])
{
    static char texts[32][512];
    char *argv[33] = {NULL};
    int argc = 0;
    why[0] = '\0';
    argv[argc++] = texts[0];
    for (; given[argc - 1] != NULL; argc++) {
        (void)snprintf(texts[argc], sizeof texts[0], "%s", given[argc - 1]);
        argv[argc] = texts[argc];
    }
    return kv_options_parse(options, argc, argv, why);
}

TEST(options, reads_a_whole_command_line)
{
    static const char *const given[] = {"--name=b",
                                        "--members",
                                        "a=h1:1,b=[::1]:2,c=h3:65535/observer",
                                        "--group-key",
                                        "key",
                                        "--data",
                                        "d",
                                        "--redis",
                                        "[::1]:6401",
                                        "--state",
                                        "memory",
                                        "--election-ms",
                                        "1000",
                                        "--heartbeat-ms",
                                        "100",
                                        "--log-level",
                                        "debug",
                                        "--log-file",
                                        "f",
                                        "--bulk-rate",
                                        "32M",
                                        "--clients-max",
                                        "7",
                                        NULL};
    struct kv_options options;
    char why[LS_ERROR_TEXT_BYTES];
    if (!parse(&options, given, why)) {
        fail_msg("%s", why);
    }
    assert_string_equal(options.name, "b");
    assert_string_equal(options.address, "[::1]:2");
    assert_int_equal(options.founders_count, 3);
    assert_string_equal(options.founders[2].name, "c");
    assert_string_equal(options.founders[2].address, "h3:65535");
    assert_int_equal(options.founders[0].role, LS_MEMBER_VOTER);
    assert_int_equal(options.founders[2].role, LS_MEMBER_OBSERVER);
    assert_true(options.state_in_memory);
    assert_int_equal(options.election_ms, 1000);
    assert_int_equal(options.heartbeat_ms, 100);
    assert_int_equal(options.log_level, LS_TRACE_DEBUG);
    assert_int_equal(options.bulk_bytes_per_s, 32u << 20);
    assert_int_equal(options.clients_max, 7);
}

TEST(options, have_defaults)
{
    static const char *const given[] = {REQUIRED, NULL};
    struct kv_options options;
    char why[LS_ERROR_TEXT_BYTES];
    assert_true(parse(&options, given, why));
    assert_false(options.state_in_memory);
    assert_int_equal(options.election_ms, 300);
    assert_int_equal(options.heartbeat_ms, 60);
    assert_int_equal(options.bulk_bytes_per_s, 0);
    assert_int_equal(options.log_level, LS_TRACE_INFO);
}

TEST(options, help_and_version_need_nothing_else)
{
    static const char *const help[] = {"--help", NULL};
    static const char *const version[] = {"--version", NULL};
    static const char *const keygen[] = {"keygen", "file", NULL};
    struct kv_options options;
    char why[LS_ERROR_TEXT_BYTES];
    assert_true(parse(&options, help, why) && options.help);
    assert_true(parse(&options, version, why) && options.version);
    assert_true(parse(&options, keygen, why));
    assert_string_equal(options.keygen, "file");
}

TEST(options, keygen_takes_no_flag_for_the_name_of_a_file)
{
    static const char *const help[] = {"keygen", "--help", NULL};
    static const char *const flag[] = {"keygen", "--force", NULL};
    struct kv_options options;
    char why[LS_ERROR_TEXT_BYTES];
    assert_true(parse(&options, help, why) && options.help);
    assert_null(options.keygen);
    assert_false(parse(&options, flag, why));
    assert_string_equal(why, "keygen: expected one FILE to write the key to");
}

/* The required flags, then two more. */
static void assert_wrong(const char *flag, const char *value, const char *expected)
{
    const char *const given[] = {REQUIRED, flag, value, NULL};
    struct kv_options options;
    char why[LS_ERROR_TEXT_BYTES];
    assert_false(parse(&options, given, why));
    assert_string_equal(why, expected);
}

TEST(options, one_line_says_what_is_wrong_and_what_is_expected)
{
    assert_wrong("--state", "disk", "--state disk: expected rocksdb or memory");
    assert_wrong("--election-ms", "0", "--election-ms 0: expected a number from 20 to 60000");
    assert_wrong("--election-ms", "1s", "--election-ms 1s: expected a number from 20 to 60000");
    assert_wrong("--heartbeat-ms", "150",
                 "--heartbeat-ms 150: expected less than half of --election-ms 300");
    assert_wrong("--log-level", "loud", "--log-level loud: expected error, warn, info or debug");
    assert_wrong("--bulk-rate", "fast",
                 "--bulk-rate fast: expected bytes per second, like 1000000, 512K or 32M");
    assert_wrong("--bulk-rate", "0",
                 "--bulk-rate 0: expected bytes per second, like 1000000, 512K or 32M");
    assert_wrong("--clients-max", "10001",
                 "--clients-max 10001: expected a number from 1 to 10000");
    assert_wrong("--redis", "6401", "--redis 6401: expected host:port");
    assert_wrong("--redis", "127.0.0.1:0", "--redis 127.0.0.1:0: expected host:port");
    assert_wrong("--redis", "0.0.0.0:6401",
                 "--redis 0.0.0.0:6401 is not loopback: expected --redis-password-file FILE, or "
                 "--insecure");
    assert_wrong("--name", "z", "--name z: expected one of the names in --members");
    assert_wrong("--data", "", "--data: expected a value that is not empty");
    assert_wrong("--version=2", NULL, "unknown argument '--version=2': see --help");
    assert_wrong("--colour", "red", "unknown argument '--colour': see --help");
    assert_wrong("extra", NULL, "unknown argument 'extra': see --help");
    assert_wrong("--state", NULL, "--state: expected a value behind it");
}

TEST(options, members_are_checked_one_by_one)
{
    assert_wrong("--members", "a", "--members: 'a' is not name=host:port");
    assert_wrong("--members", "a=x", "--members: address 'x' of a: expected host:port");
    assert_wrong("--members", "a=h:1,a=h:2", "--members: a is named twice");
    assert_wrong("--members", "a=h:1,b=h:1", "--members: a and b have the same address h:1");
    assert_wrong("--members", "a b=h:1",
                 "--members: 'a b' is no name: expected 1 to 63 of A-Z a-z 0-9 . _ -");
    assert_wrong("--members", "a=h:1/voter",
                 "--members: 'voter' behind the address of a: expected observer");
    assert_wrong("--members", "a=h:1/observer", "--members: 0 voters, expected 1 to 15");
}

TEST(options, say_which_required_flag_is_missing)
{
    static const char *const given[] = {"--name", "a", NULL};
    struct kv_options options;
    char why[LS_ERROR_TEXT_BYTES];
    assert_false(parse(&options, given, why));
    assert_string_equal(why, "--members is missing: expected --members "
                             "a=127.0.0.1:7101,b=127.0.0.1:7102,c=127.0.0.1:7103");
}

TEST(options, an_address_beyond_loopback_needs_a_password_or_a_word)
{
    static const char *const password[] = {
        REQUIRED, "--redis", "0.0.0.0:1", "--redis-password-file", "f", NULL};
    static const char *const insecure[] = {REQUIRED, "--redis", "0.0.0.0:1", "--insecure", NULL};
    struct kv_options options;
    char why[LS_ERROR_TEXT_BYTES];
    assert_true(parse(&options, password, why));
    assert_true(parse(&options, insecure, why));
    assert_true(kv_address_is_loopback("127.8.9.1:1"));
    assert_true(kv_address_is_loopback("[::1]:1"));
    assert_true(kv_address_is_loopback("localhost:1"));
    assert_false(kv_address_is_loopback("10.0.0.1:1"));
    assert_false(kv_address_is_loopback("[::]:1"));
}
