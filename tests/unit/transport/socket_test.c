/* SPDX-License-Identifier: MIT */
/* Addresses as users write them. */
#include "socket.h"
#include "test.h"

TEST(address, splits_host_and_port)
{
    static const char *const good[][3] = {{"127.0.0.1:7101", "127.0.0.1", "7101"},
                                          {"[::1]:1", "::1", "1"},
                                          {"node-a.example:65535", "node-a.example", "65535"},
                                          {"::1:80", "::1", "80"}};
    char host[LS__HOST_BYTES], port[8];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_null(ls__address_split(good[i][0], host, port));
        assert_string_equal(host, good[i][1]);
        assert_string_equal(port, good[i][2]);
    }
}

TEST(address, says_what_was_expected)
{
    static const char *const bad[] = {"",        "host",    ":1",       "host:",  "host:0",
                                      "host:-1", "host:1x", "h:100000", "h:65536"};
    char host[LS__HOST_BYTES], port[8], longest[LS_ADDRESS_BYTES + 8];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_non_null(strstr(ls__address_split(bad[i], host, port), "expected"));
    }
    (void)memset(longest, 'a', sizeof longest);
    (void)memcpy(longest + LS_ADDRESS_BYTES - 2, ":1", 3);
    assert_non_null(ls__address_split(longest, host, port));
    (void)memcpy(longest + LS_ADDRESS_BYTES - 3, ":1", 3);
    assert_null(ls__address_split(longest, host, port));
}

TEST(address, resolves_numbers_without_asking_and_prints_them_back)
{
    static const char *const texts[] = {"127.0.0.1:7101", "[::1]:7101"};
    struct ls__address address;
    char text[LS_ADDRESS_BYTES];
    for (size_t i = 0; i < 2; i++) {
        assert_null(ls__address_resolve(texts[i], true, &address));
        ls__address_text(&address, text);
        assert_string_equal(text, texts[i]);
    }
    assert_non_null(ls__address_resolve("localhost:1", true, &address));
    assert_null(ls__address_resolve("localhost:1", false, &address));
}
