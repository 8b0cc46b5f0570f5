/* SPDX-License-Identifier: MIT */
/* main of every unit test program, and the fresh things tests need. */
#define _XOPEN_SOURCE 700
#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

static struct test_case *first_test;
static struct test_case **last_test = &first_test;

struct directory {
    struct directory *next;
    char path[64];
};
static struct directory *directories;

void test_register(struct test_case *test)
{
    *last_test = test;
    last_test = &test->next;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static void remove_directories(void)
{
    while (directories != NULL) {
        struct directory *directory = directories;
        directories = directory->next;
        (void)nftw(directory->path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        free(directory);
    }
}

static const char *fresh_directory(const char *below)
{
    struct directory *directory = calloc(1, sizeof *directory);
    assert_non_null(directory);
    (void)snprintf(directory->path, sizeof directory->path, "%s/lockstep-test-XXXXXX", below);
    assert_non_null(mkdtemp(directory->path));
    if (directories == NULL) {
        (void)atexit(remove_directories);
    }
    directory->next = directories;
    directories = directory;
    return directory->path;
}

const char *test_directory(void)
{
    return fresh_directory("/tmp");
}

const char *test_memory_directory(void)
{
    return fresh_directory(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
}

uint64_t test_seed(void)
{
    uint64_t seed = 1;
    const char *given = getenv("LS_TEST_SEED");
    if (given != NULL && strcmp(given, "random") == 0) {
        assert_int_equal(getrandom(&seed, sizeof seed, 0), sizeof seed);
    } else if (given != NULL) {
        seed = strtoull(given, NULL, 0);
    }
    printf("seed: LS_TEST_SEED=%" PRIu64 "\n", seed);
    (void)fflush(stdout);
    return seed;
}

uint16_t test_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(descriptor >= 0);
    assert_int_equal(bind(descriptor, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(descriptor, (struct sockaddr *)&address, &length), 0);
    (void)close(descriptor);
    return ntohs(address.sin_port);
}

/* A program that only needs the fresh things has a main of its own. */
__attribute__((weak)) int main(int argc, char **argv)
{
    struct CMUnitTest tests[1024];
    size_t count = 0;
    for (struct test_case *test = first_test; test != NULL; test = test->next) {
        if (argc > 1 && strstr(test->name, argv[1]) == NULL) {
            continue;
        }
        if (count == sizeof tests / sizeof tests[0]) {
            (void)fprintf(stderr, "more than %zu tests in one program\n", count);
            return 1;
        }
        tests[count++] = (struct CMUnitTest){.name = test->name, .test_func = test->run};
    }
    if (count == 0) {
        (void)fprintf(stderr, "no test matches\n");
        return 1;
    }
    return _cmocka_run_group_tests(argv[0], tests, count, NULL, NULL);
}
