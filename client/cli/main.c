/* trireme: finds the command, runs it, turns its status into an exit code. */
#include <stdio.h>
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/room.h"
#include "client/cli/text.h"
#include "core/output.h"
#include "core/process.h"
#include "core/schema.h"
#include "core/version.h"

static const struct command *const table[] = {
#define X(name) &command_##name,
    COMMANDS(X)
#undef X
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

static void print_help(FILE *to) {
    (void)fprintf(
        to, "usage: trireme COMMAND [options]\n\n"
            "Hyperparameter sweeps on data-parallel worker groups; every run repeatable to the "
            "bit.\n\n");
    for (size_t i = 0; i < TABLE_COUNT; i++)
        (void)fprintf(to, "  %-12s %s\n", table[i]->name, table[i]->help.summary);
    (void)fprintf(
        to,
        "\n`trireme COMMAND --help` says more. State lives in $TRIREME_HOME\n"
        "(default: ~/.local/state/trireme). Begin with: trireme run configs/digits-quick.yaml\n");
}

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < TABLE_COUNT; i++)
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    return NULL;
}

static enum status unknown_command(const char *name, struct err *err) {
    char names[512] = "", near[64];
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        size_t used = strlen(names);
        (void)snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? "|" : "",
                       table[i]->name);
    }
    if (schema_nearest(names, name, near) != NULL)
        return err_set(err, STATUS_INVALID, "unknown command '%.40s'; did you mean '%s'?", name,
                       near);
    return err_set(err, STATUS_INVALID, "unknown command '%.40s'; see trireme --help", name);
}

static enum status dispatch(struct cli *cli, int argc, char **argv, struct err *err) {
    enum status st = STATUS_OK;
    const struct command *c = find_command(argv[1]);
    if (c == NULL)
        return unknown_command(argv[1], err);
    cli->command = c;
    cli->argc = argc - 1;
    cli->argv = argv + 1;
    TRY(cli_open(cli, err));
    if (c->acts)
        TRY(output_ready(err));
    st = c->run != NULL ? room_blame(cli, c->run(cli, err), err) : cli_exec(cli, c->program, err);
out:
    return st;
}

/* A script that only sees the code would do it again. */
static void say_unwritten(const char *done, const struct err *why) {
    (void)fputs("trireme: ", stderr);
    text_print_safe(done, stderr);
    (void)fprintf(stderr, "%s%s\n", done[0] != '\0' ? ", but: " : "", why->text);
}

/* Standard output is the last thing that can fail; what failed before it keeps its code. */
static int finish(struct cli *cli, enum status st, struct err *err) {
    if (st != STATUS_OK && err->text[0] != '\0') {
        (void)fputs("trireme: ", stderr);
        text_print_safe(err->text, stderr);
        (void)fputs("\n", stderr);
        cli_print_refusal(cli, st, err);
    }
    int code = cli->exit_code >= 0 ? cli->exit_code : status_exit_code(st);
    cli_close(cli);
    struct err unwritten = {.status = STATUS_OK};
    enum status written = output_finish(&unwritten);
    if (written != STATUS_OK)
        say_unwritten(cli->done, &unwritten);
    return written != STATUS_OK && code == 0 ? status_exit_code(written) : code;
}

int main(int argc, char **argv) {
    process_guard_stdio();
    struct cli cli = {.exit_code = -1};
    struct err err = {.status = STATUS_OK};
    enum status st = STATUS_OK;
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(argc < 2 ? stderr : stdout);
        cli.exit_code = argc < 2 ? status_exit_code(STATUS_INVALID) : 0;
    } else if (strcmp(argv[1], "--version") == 0) {
        (void)printf("trireme %s\n", TRIREME_VERSION);
    } else {
        st = dispatch(&cli, argc, argv, &err);
    }
    return finish(&cli, st, &err);
}
