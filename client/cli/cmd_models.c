/* trireme models, audit, export, promote: what left the tracker for serving, and who sent it. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/process.h"

struct models_args {
    bool json;
    int64_t limit;
};

static enum status one_model(struct cli *cli, const char *operand, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *reply = NULL, *request = message_request(a, "model.get", NULL);
    const char *at = strchr(operand, '@');
    value_set_string(a, request, "name",
                     at != NULL ? arena_copy(a, operand, (size_t)(at - operand)) : operand);
    value_set_string(a, request, "alias", at != NULL ? at + 1 : NULL);
    TRY(cli_ask(cli, request, &reply, err));
    /* a card is JSON with --json or without */
    TRY(cli_print_json(value_get(reply, "model"), err));
out:
    return st;
}

enum status cmd_models(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {
        {"json", 'j', OPTION_FLAG, NULL, "as JSON", 0, 0, offsetof(struct models_args, json)},
        OPTION_END};
    static const struct command_help help = {"trireme models [NAME[@alias]] [--json]",
                                             "registered models, or one version with its papers",
                                             NULL};
    static const char *const titles[] = {"model", "versions", "newest", "aliases"};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct models_args args = {.json = false};
    struct operands operands;
    struct value *reply = NULL;
    TRY(cli_parse(rows, &help, 0, 1, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    if (operands.count > 0) {
        st = one_model(cli, operands.items[0], err);
        goto out;
    }
    TRY(cli_ask(cli, message_request(a, "model.list", NULL), &reply, err));
    const struct value *models = value_get(reply, "models");
    if (args.json) {
        TRY(cli_print_json(models, err));
        goto out;
    }
    struct table *t = table_new(a, titles, 4);
    for (size_t i = 0; models != NULL && i < models->count; i++) {
        const struct value *m = models->items[i], *aliases = value_get(m, "aliases");
        struct buf b = BUF_INIT(4096);
        for (size_t k = 0; aliases != NULL && k < aliases->count; k++)
            buf_addf(&b, "%s%s→%lld", k > 0 ? " " : "", aliases->members[k].key,
                     (long long)aliases->members[k].value->integer);
        const char *cells[] = {value_get_string(m, "name", ""),
                               arena_printf(a, "%lld", (long long)value_get_int(m, "versions", 0)),
                               arena_printf(a, "%lld", (long long)value_get_int(m, "newest", 0)),
                               buf_text(&b)};
        table_row(t, cells);
        buf_release(&b);
    }
    table_print(t, stdout, cli->colour_out);
out:
    return st;
}

/* ---- audit ---- */

/* The record's digest over its canonical JSON without "digest", as docs/WIRE.md says. */
static enum status record_digest(struct arena *a, const struct value *record, char out[DIGEST_HEX],
                                 struct err *err) {
    enum status st = STATUS_OK;
    struct digest d;
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    struct value *copy = value_copy(a, record);
    value_remove(copy, "digest");
    TRY(json_dump(copy, JSON_CANONICAL, &text, err));
    hash_bytes(text.data, text.len, &d);
    hash_hex(&d, out);
out:
    buf_release(&text);
    return st;
}

static enum status check_chain(struct cli *cli, const struct value *records, const char **previous,
                               struct err *err) {
    enum status st = STATUS_OK;
    for (size_t i = 0; i < records->count; i++) {
        const struct value *r = records->items[i];
        char digest[DIGEST_HEX];
        TRY(record_digest(&cli->arena, r, digest, err));
        if (strcmp(value_get_string(r, "digest", ""), digest) != 0 ||
            (*previous != NULL && strcmp(value_get_string(r, "previous", ""), *previous) != 0)) {
            st = err_set(err, STATUS_CORRUPT, "the audit chain breaks at record %lld",
                         (long long)value_get_int(r, "sequence", 0));
            goto out;
        }
        *previous = value_get_string(r, "digest", "");
    }
out:
    return st;
}

enum status cmd_audit(struct cli *cli, int argc, char **argv, struct err *err) {
    static const struct option_row rows[] = {
        {"json", 'j', OPTION_FLAG, NULL, "as JSON", 0, 0, offsetof(struct models_args, json)},
        OPTION_END};
    static const struct command_help help = {
        "trireme audit [--json]",
        "who promoted what, when and why, oldest first; checks the hash chain", NULL};
    static const char *const titles[] = {"#", "when", "who", "action", "subject", "digest"};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct models_args args = {.json = false};
    struct operands operands;
    struct value *all = value_list(a);
    const char *previous = NULL;
    TRY(cli_parse(rows, &help, 0, 0, argc, argv, &args, &operands, err));
    if (operands.help)
        goto out;
    for (int64_t after = 0;;) {
        struct value *reply = NULL, *request = message_request(a, "audit.list", NULL);
        value_set_int(a, request, "after", after);
        value_set_int(a, request, "limit", 1000);
        TRY(cli_ask(cli, request, &reply, err));
        const struct value *records = value_get(reply, "records");
        if (records == NULL || records->count == 0)
            break;
        TRY(check_chain(cli, records, &previous, err));
        for (size_t i = 0; i < records->count; i++)
            value_push(a, all, records->items[i]);
        after = value_get_int(records->items[records->count - 1], "sequence", after);
    }
    if (args.json) {
        TRY(cli_print_json(all, err));
        goto out;
    }
    struct table *t = table_new(a, titles, 6);
    for (size_t i = 0; i < all->count; i++) {
        const struct value *r = all->items[i];
        const char *cells[] = {arena_printf(a, "%lld", (long long)value_get_int(r, "sequence", 0)),
                               text_time(a, value_get_int(r, "time_ns", 0)),
                               value_get_string(r, "actor", ""),
                               value_get_string(r, "action", ""),
                               value_get_string(r, "subject", ""),
                               arena_printf(a, "%.12s", value_get_string(r, "digest", ""))};
        table_row(t, cells);
    }
    table_print(t, stdout, cli->colour_out);
    printf("%zu records, chain intact\n", all->count);
out:
    return st;
}

/* ---- export and promote: done by trireme-export, beside a tracker that we may have to start ----
 */

static enum status through_export(struct cli *cli, const char *verb, int argc, char **argv,
                                  struct err *err) {
    enum status st = STATUS_OK;
    char program[PATH_TEXT_MAX], endpoint[PATH_TEXT_MAX];
    bool ended = false, help = false;
    int code = 0, n = 0;
    pid_t pid = 0;
    const char **args = arena_array(&cli->arena, (size_t)argc + 5, sizeof *args);
    if (args == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    TRY(path_join(program, cli->bindir, "trireme-export", err));
    TRY(path_endpoint(cli->home, "tracker", endpoint, err));
    args[n++] = program;
    if (verb != NULL)
        args[n++] = verb;
    for (int i = 1; i < argc; i++) {
        help = help || strcmp(argv[i], "--help") == 0;
        args[n++] = argv[i];
    }
    if (!help) {
        TRY(cli_tracker(cli, err));
        args[n++] = "--tracker";
        args[n++] = endpoint;
    }
    struct process_spec spec = {.argv = args, .die_with_parent = true};
    TRY(process_start(&spec, &pid, err));
    while (!ended) {
        TRY(process_poll(pid, &ended, &code, err));
        if (!ended)
            poll(NULL, 0, 5);
    }
    cli->exit_code = code;
out:
    return st;
}

enum status cmd_export(struct cli *cli, int argc, char **argv, struct err *err) {
    return through_export(cli, NULL, argc, argv, err);
}

enum status cmd_promote(struct cli *cli, int argc, char **argv, struct err *err) {
    return through_export(cli, "promote", argc, argv, err);
}
