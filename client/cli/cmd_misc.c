/* trireme status, keygen, version, wire, completion. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "core/launch.h"
#include "core/version.h"
#include "wire/message.h"

struct misc_args {
    bool json;
    const char *role, *name, *out;
};

#define JSON_ROW                                                                                   \
    { "json", 'j', OPTION_FLAG, NULL, "as JSON", 0, 0, offsetof(struct misc_args, json) }

/* ---- status ---- */

static void print_groups(struct cli *cli, const struct value *groups) {
    static const char *const titles[] = {"group", "host",  "ranks", "device",
                                         "state", "trial", "run"};
    struct arena *a = &cli->arena;
    struct table *t = table_new(a, titles, 7);
    for (size_t i = 0; groups != NULL && i < groups->count; i++) {
        const struct value *g = groups->items[i];
        int64_t trial = value_get_int(g, "trial", 0);
        const char *cells[] = {value_get_string(g, "group", ""),
                               value_get_string(g, "host", ""),
                               arena_printf(a, "%lld", (long long)value_get_int(g, "ranks", 0)),
                               value_get_string(g, "device", ""),
                               value_get_string(g, "state", ""),
                               trial > 0 ? arena_printf(a, "%lld", (long long)trial) : "-",
                               value_get_string(g, "run", "-")};
        table_row(t, cells);
    }
    table_print(t, stdout, cli->colour_out);
}

enum status cmd_status(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {JSON_ROW, OPTION_END};
    static const struct command_help help = {
        "trireme status [--json]", "groups and sweeps of the coordinator that runs", NULL};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct misc_args args = {.json = false};
    struct operands operands;
    struct session_reply reply = {.header = NULL};
    TRY(cli_parse(rows, &help, 0, 0, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    TRY(cli_coordinator(cli, false, err));
    TRY(session_call(
        cli->coordinator, a,
        &(struct session_ask){.request = message_request(a, "coordinator.status", NULL),
                              .timeout_ms = CLI_TIMEOUT_MS},
        &reply, err));
    if (args.json) {
        TRY(cli_print_json(reply.header, err));
        goto out;
    }
    const struct value *sweeps = value_get(reply.header, "sweeps");
    for (size_t i = 0; sweeps != NULL && i < sweeps->count; i++) {
        const struct value *s = sweeps->items[i];
        printf("%s  %s  %s  %lld/%lld trials, %lld running\n", value_get_string(s, "sweep", ""),
               value_get_string(s, "name", ""), value_get_string(s, "state", ""),
               (long long)value_get_int(s, "finished", 0),
               (long long)value_get_int(s, "planned", 0),
               (long long)value_get_int(s, "running", 0));
    }
    print_groups(cli, value_get(reply.header, "groups"));
out:
    session_reply_release(&reply);
    return st;
}

/* ---- keygen ---- */

enum status cmd_keygen(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {
        {"name", 'n', OPTION_STRING, "NAME", "whose key it is (default: you)", 0, 0,
         offsetof(struct misc_args, name)},
        {"role", 'r', OPTION_STRING, "viewer|submitter|admin",
         "what it may do (default: submitter)", 0, 0, offsetof(struct misc_args, role)},
        {"out", 'o', OPTION_STRING, "DIR",
         "where NAME.secret and NAME.public go (default: $TRIREME_HOME/keys)", 0, 0,
         offsetof(struct misc_args, out)},
        OPTION_END};
    static const struct command_help help = {
        "trireme keygen [--name NAME] [--role ROLE] [-o DIR]",
        "make a CURVE key pair for TCP endpoints",
        "NAME.secret (mode 0600: public and secret key, one a line) stays with its owner; "
        "NAME.public goes\n"
        "into the directory that the server was given as --allowed."};
    enum status st = STATUS_OK;
    struct misc_args args = {.role = "submitter", .name = getenv("USER")};
    struct operands operands;
    char public_key[41], secret_key[41], dir[PATH_TEXT_MAX], path[PATH_TEXT_MAX], file[256],
        text[256];
    TRY(cli_parse(rows, &help, 0, 0, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    args.name = args.name != NULL ? args.name : "me";
    if (strcmp(args.role, "viewer") != 0 && strcmp(args.role, "submitter") != 0 &&
        strcmp(args.role, "admin") != 0) {
        st = err_set(err, STATUS_INVALID, "--role must be viewer, submitter or admin, not '%.40s'",
                     args.role);
        goto out;
    }
    if (strchr(args.name, '/') != NULL || strlen(args.name) > 100 || args.name[0] == '\0') {
        st = err_set(err, STATUS_INVALID, "--name must be 1 to 100 characters without '/'");
        goto out;
    }
    if (args.out != NULL)
        snprintf(dir, sizeof dir, "%s", args.out);
    else
        TRY(path_join(dir, cli->home, "keys", err));
    TRY(path_mkdirs(dir, 0700, err));
    TRY(net_keygen(public_key, secret_key, err));
    snprintf(file, sizeof file, "%s.secret", args.name);
    TRY(path_join(path, dir, file, err));
    if (access(path, F_OK) == 0) {
        st = err_set(err, STATUS_EXISTS,
                     "%s is there already; remove it first or choose another --name", path);
        goto out;
    }
    snprintf(text, sizeof text, "%s\n%s\n", public_key, secret_key);
    TRY(path_write(path, text, strlen(text), 0600, err));
    fprintf(stderr, "secret: %s\n", path);
    snprintf(file, sizeof file, "%s.public", args.name);
    TRY(path_join(path, dir, file, err));
    snprintf(text, sizeof text, "%s %s %s\n", public_key, args.role, args.name);
    TRY(path_write(path, text, strlen(text), 0644, err));
    fprintf(stderr, "public: %s\n", path);
    printf("%s\n", public_key);
out:
    return st;
}

/* ---- version ---- */

static void cpu_name(char *out, size_t size) {
    char line[512];
    snprintf(out, size, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
            break;
        }
    }
    if (f != NULL)
        fclose(f);
}

/* What the worker beside us finds; where it cannot be asked, why. */
static void ask_devices(struct cli *cli, struct value *out) {
    struct arena *a = &cli->arena;
    struct value *answer = NULL;
    char worker[PATH_TEXT_MAX];
    struct err err;
    enum status st = path_join(worker, cli->bindir, "trireme-worker", &err);
    if (st == STATUS_OK)
        st = launch_devices(worker, a, &answer, &err);
    const struct value *cpu = value_get(answer, "cpu");
    struct value *gpus = value_get(answer, "gpus"), *libraries = value_get(answer, "libraries");
    if (cpu != NULL)
        value_set_string(a, out, "isa", value_get_string(cpu, "isa", ""));
    value_set(a, out, "gpus", gpus != NULL ? gpus : value_list(a));
    if (gpus == NULL || gpus->count == 0)
        value_set_string(a, out, "no_gpu",
                         st == STATUS_OK ? value_get_string(answer, "no_gpu", "") : err.text);
    if (libraries == NULL)
        libraries = value_map(a);
    if (cpu != NULL)
        value_set_string(a, libraries, "onednn", value_get_string(cpu, "onednn", ""));
    value_set(a, out, "libraries", libraries);
}

static void print_gpus(const struct value *gpus) {
    for (size_t i = 0; i < gpus->count; i++) {
        const struct value *g = gpus->items[i];
        const char *name = value_get_string(g, "gpu", NULL);
        printf("gpu %-5lld ", (long long)value_get_int(g, "index", 0));
        if (name != NULL)
            printf("%s, %.1f GiB, %s\n", name, (double)value_get_int(g, "memory", 0) / 1073741824.0,
                   value_get_string(g, "isa", ""));
        else
            printf("%s\n", value_get_string(g, "error", "did not say what it is in time"));
    }
}

static void print_version(const struct value *v) {
    for (size_t i = 0; i < v->count; i++) {
        const char *key = v->members[i].key;
        const struct value *m = v->members[i].value;
        if (strcmp(key, "gpus") == 0)
            print_gpus(m);
        else if (m->kind == VALUE_MAP)
            print_version(m);
        else if (m->kind == VALUE_INT)
            printf("%-9s %lld\n", key, (long long)m->integer);
        else
            printf("%-9s %s%s\n", strcmp(key, "no_gpu") == 0 ? "gpu" : key,
                   strcmp(key, "no_gpu") == 0 ? "none: " : "", m->string);
    }
}

enum status cmd_version(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {JSON_ROW, OPTION_END};
    static const struct command_help help = {"trireme version [--json]",
                                             "versions, and what this machine offers", NULL};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct misc_args args = {.json = false};
    struct operands operands;
    struct utsname os;
    char cpu[256];
    TRY(cli_parse(rows, &help, 0, 0, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    cpu_name(cpu, sizeof cpu);
    uname(&os);
    struct value *v = value_map(a);
    value_set_string(a, v, "version", TRIREME_VERSION);
    value_set_string(a, v, "build", trireme_build_id);
    value_set_int(a, v, "wire", WIRE_VERSION);
    value_set_string(a, v, "compiler", __VERSION__);
    value_set_string(a, v, "system", arena_printf(a, "%s %s", os.sysname, os.release));
    value_set_string(a, v, "cpu", cpu);
    value_set_int(a, v, "cores", sysconf(_SC_NPROCESSORS_ONLN));
    ask_devices(cli, v);
    value_set_string(a, v, "home", cli->home);
    if (args.json)
        TRY(cli_print_json(v, err));
    else
        print_version(v);
out:
    return st;
}

/* ---- wire ---- */

enum status cmd_wire(struct cli *cli, int argc, char **argv, struct err *err) {
    (void)cli;
    (void)argc;
    (void)argv;
    struct buf text = BUF_INIT((size_t)4 << 20);
    message_write_reference(&text);
    enum status st = buf_status(&text, "the reference of the wire", err);
    if (st == STATUS_OK)
        fwrite(text.data, 1, text.len, stdout);
    buf_release(&text);
    return st;
}

/* ---- completion ---- */

static const char completion_head[] =
    "# bash completion for trireme; written by `trireme completion bash`.\n"
    "_trireme() {\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} cmd=${COMP_WORDS[1]}\n"
    "    local commands='";
static const char completion_tail[] =
    "'\n"
    "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
    "        COMPREPLY=($(compgen -W \"$commands --help --version\" -- \"$cur\"))\n"
    "        return\n"
    "    fi\n"
    "    if [[ $cur == -* ]]; then\n"
    "        COMPREPLY=($(compgen -W \"$(\"${COMP_WORDS[0]}\" \"$cmd\" --help 2>/dev/null |\n"
    "            grep -oE -- '--[a-z][a-z-]*' | sort -u)\" -- \"$cur\"))\n"
    "        return\n"
    "    fi\n"
    "    # A value: the words that the help has for that option, as in --device auto|cpu|cuda.\n"
    "    local prev=${COMP_WORDS[COMP_CWORD-1]} words\n"
    "    if [[ $prev == --* ]]; then\n"
    "        words=$(\"${COMP_WORDS[0]}\" \"$cmd\" --help 2>/dev/null |\n"
    "            sed -nE \"s/^ .*$prev ([a-z0-9]+([|][a-z0-9]+)+) .*/\\1/p\")\n"
    "        if [ -n \"$words\" ]; then\n"
    "            COMPREPLY=($(compgen -W \"${words//|/ }\" -- \"$cur\"))\n"
    "            return\n"
    "        fi\n"
    "    fi\n"
    "    case $cmd in\n"
    "    run|submit|preview) COMPREPLY=($(compgen -f -X '!*.y*ml' -- \"$cur\") $(compgen -d -- "
    "\"$cur\")) ;;\n"
    "    show|metrics|compare|replay|export|promote)\n"
    "        COMPREPLY=($(compgen -W \"$(\"${COMP_WORDS[0]}\" ls --runs --ids 2>/dev/null)\" -- "
    "\"$cur\")) ;;\n"
    "    ls|resume|cancel)\n"
    "        COMPREPLY=($(compgen -W \"$(\"${COMP_WORDS[0]}\" ls --ids 2>/dev/null)\" -- "
    "\"$cur\")) ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _trireme trireme\n";

enum status cmd_completion(struct cli *cli, int argc, char **argv, struct err *err) {
    (void)cli;
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        printf(
            "usage: trireme completion bash\n\nUse it with: source <(trireme completion bash)\n");
        return STATUS_OK;
    }
    if (argc != 2 || strcmp(argv[1], "bash") != 0)
        return err_set(err, STATUS_INVALID, "completion knows one shell: trireme completion bash");
    fputs(completion_head, stdout);
    for (const struct command *c = command_table; c->name != NULL; c++)
        printf("%s%s", c == command_table ? "" : " ", c->name);
    fputs(completion_tail, stdout);
    return STATUS_OK;
}
