/* trireme completion: a bash function made from the table of commands. */
#include <string.h>

#include "client/cli/commands.h"

static const struct command *const table[] = {
#define X(name) &command_##name,
    COMMANDS(X)
#undef X
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

/* Options and their words come from --help; ids from `trireme ls`. */
static const char head[] =
    "# bash completion for trireme; written by `trireme completion bash`.\n"
    "_trireme() {\n"
    "    local trireme=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} cmd=${COMP_WORDS[1]}\n"
    "    local prev=${COMP_WORDS[COMP_CWORD-1]} words\n";
static const char options[] =
    "    if [[ $cur == -* ]]; then\n"
    "        words=$(\"$trireme\" \"$cmd\" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*' | "
    "sort -u)\n"
    "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
    "        return\n"
    "    fi\n"
    "    # --set=KEY: bash parts it at the '='.\n"
    "    [[ $cur == = && $prev == --set ]] && cur= && prev=--set\n"
    "    [[ $prev == = && ${COMP_WORDS[COMP_CWORD-2]} == --set ]] && prev=--set\n"
    "    # A key of the sweep file, its value to follow.\n"
    "    if [[ ( $prev == --set || $prev == -s && $cmd != ls ) && $cur != *=* ]]; then\n"
    "        # Elements of lists as far as the sweep file on the line has them.\n"
    "        local word file=\n"
    "        for word in \"${COMP_WORDS[@]:2}\"; do\n"
    "            [[ $word == *.y*ml && -f $word ]] && file=$word\n"
    "        done\n"
    "        words=$(\"$trireme\" keys --paths ${file:+\"$file\"} 2>/dev/null ||\n"
    "            \"$trireme\" keys --paths 2>/dev/null)\n"
    "        compopt -o nospace 2>/dev/null\n"
    "        COMPREPLY=($(compgen -S = -W \"$words\" -- \"$cur\"))\n"
    "        return\n"
    "    fi\n"
    "    # A value: the words that the help has for that option, as in --device auto|cpu|cuda.\n"
    "    if [[ $prev == --* ]]; then\n"
    "        words=$(\"$trireme\" \"$cmd\" --help 2>/dev/null |\n"
    "            sed -nE \"s/^ .*$prev ([a-z0-9]+([|][a-z0-9]+)+) .*/\\1/p\")\n"
    "        if [ -n \"$words\" ]; then\n"
    "            COMPREPLY=($(compgen -W \"${words//|/ }\" -- \"$cur\"))\n"
    "            return\n"
    "        fi\n"
    "    fi\n";

/* Words from a command's answer. Names with spaces are left out: they would be offered in pieces. */
#define NAMES_OF(command, key)                                                                     \
    "$(\"$trireme\" " command " --json 2>/dev/null | sed -nE 's/^ *\"" key                         \
    "\": \"([^\" \\]+)\",?$/\\1/p')"
#define RUNS               "$(\"$trireme\" ls --runs --ids 2>/dev/null)"
#define SWEEPS             "$(\"$trireme\" ls --ids 2>/dev/null) " NAMES_OF("ls", "name")
#define MODELS             NAMES_OF("models", "name")
#define METRICS            NAMES_OF("show \"${COMP_WORDS[2]}\"", "key")
#define PATHS              NAMES_OF("artifacts \"${COMP_WORDS[2]}\"", "path")
#define OFFER(words)       "COMPREPLY=($(compgen -W \"" words "\" -- \"$cur\"))"
#define OFFER_FIRST(words) "[ \"$COMP_CWORD\" = 2 ] && " OFFER(words) " || "

/* What the operands of each kind of command are completed by. */
static const char *const operands[] = {
    [OPERANDS_OTHER] = NULL,
    [OPERANDS_SWEEP_FILE] =
        "COMPREPLY=($(compgen -f -X '!*.y*ml' -- \"$cur\") $(compgen -d -- \"$cur\"))",
    [OPERANDS_RUN] = OFFER(RUNS),
    [OPERANDS_RUN_THEN_METRICS] = OFFER_FIRST(RUNS) OFFER(METRICS),
    [OPERANDS_RUN_THEN_PATH] = OFFER_FIRST(RUNS) OFFER(PATHS),
    [OPERANDS_RUN_THEN_MODEL] = OFFER_FIRST(RUNS) OFFER(MODELS),
    [OPERANDS_RUN_OR_SWEEP] = OFFER(RUNS " " SWEEPS),
    [OPERANDS_RUN_OR_MODEL] = OFFER(RUNS " " MODELS),
    [OPERANDS_SWEEP] = OFFER(SWEEPS),
    [OPERANDS_MODEL] = OFFER(MODELS),
};
#define KINDS (sizeof operands / sizeof operands[0])

/* "run|submit|preview" */
static void print_names(enum command_operands kind) {
    const char *joint = "";
    for (size_t i = 0; i < TABLE_COUNT; i++)
        if (table[i]->kind == kind) {
            (void)printf("%s%s", joint, table[i]->name);
            joint = "|";
        }
}

static void print_script(void) {
    (void)fputs(head, stdout);
    (void)fputs("    if [ \"$COMP_CWORD\" = 1 ]; then\n        words='", stdout);
    for (size_t i = 0; i < TABLE_COUNT; i++)
        (void)printf("%s ", table[i]->name);
    (void)fputs("--help --version'\n"
                "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                "        return\n"
                "    fi\n",
                stdout);
    (void)fputs(options, stdout);
    (void)fputs("    case $cmd in\n", stdout);
    for (size_t k = 0; k < KINDS; k++)
        if (operands[k] != NULL) {
            (void)fputs("    ", stdout);
            print_names((enum command_operands)k);
            (void)printf(") %s ;;\n", operands[k]);
        }
    (void)fputs("    esac\n"
                "}\n"
                "complete -F _trireme trireme\n",
                stdout);
}

static enum status completion(struct cli *cli, struct err *err) {
    struct operands given;
    enum status st = cli_parse(cli, NULL, &given, err);
    if (st != STATUS_OK || given.help)
        return st;
    if (strcmp(given.items[0], "bash") != 0)
        return err_set(err, STATUS_INVALID, "only bash is supported: trireme completion bash");
    print_script();
    return STATUS_OK;
}

static const struct option_row rows[] = {OPTION_END};

const struct command command_completion = {
    .name = "completion",
    .help = {.usage = "trireme completion bash",
             .summary = "print shell completion: source <(trireme completion bash)"},
    .options = rows,
    .least = 1,
    .most = 1,
    .run = completion};
