/* trireme version: versions of Trireme and its libraries, and what this machine offers. */
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "client/cli/commands.h"
#include "core/launch.h"
#include "core/version.h"

#define NO_GPU 3 /* exit code: one was needed */

struct version_args {
    bool json, need_gpu;
};

static void cpu_name(char *out, size_t size) {
    char line[512];
    (void)snprintf(out, size, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            (void)snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
            break;
        }
    }
    if (f != NULL)
        (void)fclose(f);
}

/* What the worker beside us finds; where it cannot be asked, why. */
static void ask_devices(struct cli *cli, bool need_gpu, struct value *out) {
    struct arena *a = &cli->arena;
    struct value *answer = NULL;
    char worker[PATH_TEXT_MAX];
    struct err err;
    enum status st = path_join(worker, cli->bindir, "trireme-worker", &err);
    if (st == STATUS_OK)
        st = launch_devices(worker, need_gpu, a, &answer, &err);
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

static bool usable_gpu(const struct value *gpus) {
    for (size_t i = 0; i < gpus->count; i++)
        if (value_get(gpus->items[i], "gpu") != NULL)
            return true;
    return false;
}

static void print_gpus(const struct value *gpus) {
    for (size_t i = 0; i < gpus->count; i++) {
        const struct value *g = gpus->items[i];
        const char *name = value_get_string(g, "gpu", NULL);
        (void)printf("gpu %-5lld ", (long long)value_get_int(g, "index", 0));
        if (name != NULL)
            (void)printf("%s, %.1f GiB, %s\n", name,
                         (double)value_get_int(g, "memory", 0) / 1073741824.0,
                         value_get_string(g, "isa", ""));
        else
            (void)printf("%s\n", value_get_string(g, "error", "did not say what it is in time"));
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
            (void)printf("%-9s %lld\n", key, (long long)m->integer);
        else
            (void)printf("%-9s %s%s\n", strcmp(key, "no_gpu") == 0 ? "gpu" : key,
                         strcmp(key, "no_gpu") == 0 ? "none: " : "", m->string);
    }
}

static enum status version(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct version_args args = {.json = false};
    struct operands operands;
    struct utsname os;
    char cpu[256];
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    cpu_name(cpu, sizeof cpu);
    (void)uname(&os);
    struct value *v = value_map(a);
    value_set_string(a, v, "version", TRIREME_VERSION);
    value_set_string(a, v, "build", trireme_build_id);
    value_set_int(a, v, "wire", WIRE_VERSION);
    value_set_string(a, v, "compiler", __VERSION__);
    value_set_string(a, v, "system", arena_printf(a, "%s %s", os.sysname, os.release));
    value_set_string(a, v, "cpu", cpu);
    value_set_int(a, v, "cores", sysconf(_SC_NPROCESSORS_ONLN));
    ask_devices(cli, args.need_gpu, v);
    if (args.need_gpu && !usable_gpu(value_get(v, "gpus")))
        cli->exit_code = NO_GPU;
    value_set_string(a, v, "home", cli->home);
    if (args.json)
        TRY(cli_print_json(v, err));
    else
        print_version(v);
out:
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_FLAG(struct version_args, json, "json", 'j', "print JSON"),
    OPTION_ROW_FLAG(struct version_args, need_gpu, "need-gpu", 0,
                    "a GPU is expected: up to three minutes, and exit code 3 without one"),
    OPTION_END};

const struct command command_version = {
    .name = "version",
    .help = {.usage = "trireme version [--json] [--need-gpu]",
             .summary = "show versions of Trireme and its libraries, and what this machine offers"},
    .options = rows,
    .run = version};
