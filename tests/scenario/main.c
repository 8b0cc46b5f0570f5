/* SPDX-License-Identifier: MIT */
/*
 * scenario FILE.txt: runs a script, then compares the trace with FILE.golden beside it. With
 * LS_REWRITE_GOLDEN=1 in the environment the golden file is written instead.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "script.h"

static void failed(struct realm *realm, const char *reason)
{
    script_fail(realm->failed_arg, "invariant broken: %s", reason);
}

static void run_line(struct script *script, char *line)
{
    line[strcspn(line, "#\n")] = '\0';
    (void)snprintf(script->text, sizeof script->text, "> %s", line);
    script->count = 0;
    for (char *word = strtok(line, " \t"); word != NULL; word = strtok(NULL, " \t")) {
        if (script->count == SCRIPT_WORDS_MAX) {
            script_fail(script, "more than %u words", SCRIPT_WORDS_MAX);
        }
        script->words[script->count++] = word;
    }
    if (script->count > 0) {
        if (strcmp(script->words[0], "expect") != 0) {
            realm_note(script->realm, script->text);
        }
        script_command(script);
    }
}

static void run_file(struct script *script, FILE *file)
{
    char line[SCRIPT_LINE_BYTES];
    while (fgets(line, sizeof line, file) != NULL) {
        script->line++;
        if (strchr(line, '\n') == NULL && strlen(line) == sizeof line - 1) {
            script_fail(script, "line longer than %u bytes", SCRIPT_LINE_BYTES);
        }
        run_line(script, line);
    }
}

static void golden_path(const char *script, char *out, size_t capacity)
{
    const char *end = strrchr(script, '.');
    int length = end == NULL ? (int)strlen(script) : (int)(end - script);
    (void)snprintf(out, capacity, "%.*s.golden", length, script);
}

static int write_golden(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        (void)fprintf(stderr, "cannot write %s\n", path);
        return 1;
    }
    return 0;
}

static const char *line_end(const char *text)
{
    const char *end = strchr(text, '\n');
    return end == NULL ? text + strlen(text) : end;
}

/* Says which line differs first, with both versions. */
static int compare_golden(const char *path, FILE *file, const char *trace)
{
    char line[SCRIPT_LINE_BYTES * 2];
    for (int number = 1; *trace != '\0' || !feof(file); number++) {
        const char *end = line_end(trace);
        bool more = fgets(line, sizeof line, file) != NULL;
        line[more ? strcspn(line, "\n") : 0] = '\0';
        if (!more && *trace == '\0') {
            break;
        }
        if (!more || strlen(line) != (size_t)(end - trace) ||
            strncmp(line, trace, (size_t)(end - trace)) != 0) {
            (void)fprintf(stderr,
                          "%s:%d: the trace differs (LS_REWRITE_GOLDEN=1 rewrites it)\n"
                          "  golden: %s\n  now:    %.*s\n",
                          path, number, more ? line : "(end)", (int)(end - trace), trace);
            return 1;
        }
        trace = *end == '\n' ? end + 1 : end;
    }
    return 0;
}

static int check_golden(const char *script, const char *trace)
{
    char path[4096];
    golden_path(script, path, sizeof path);
    const char *rewrite = getenv("LS_REWRITE_GOLDEN");
    if (rewrite != NULL && strcmp(rewrite, "1") == 0) {
        return write_golden(path, trace);
    }
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        (void)fprintf(stderr, "%s is missing: run once with LS_REWRITE_GOLDEN=1\n", path);
        return 1;
    }
    int result = compare_golden(path, file, trace);
    (void)fclose(file);
    return result;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "--trace") != 0)) {
        (void)fprintf(stderr, "usage: scenario FILE.txt [--trace]\n");
        return 2;
    }
    FILE *file = fopen(argv[1], "r");
    struct script *script = calloc(1, sizeof *script);
    if (file == NULL || script == NULL) {
        (void)fprintf(stderr, "cannot read %s\n", argv[1]);
        free(script);
        return 2;
    }
    script->file = argv[1];
    script->realm = realm_open(1);
    script->realm->failed = failed;
    script->realm->failed_arg = script;
    script->realm->tell = argc == 3;
    run_file(script, file);
    (void)fclose(file);
    int result = check_golden(argv[1], script->realm->trace == NULL ? "" : script->realm->trace);
    realm_close(script->realm);
    free(script);
    return result;
}
