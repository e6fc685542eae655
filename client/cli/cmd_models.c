/* trireme models: registered models, their versions and aliases. */
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/text.h"

struct models_args {
    bool json;
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
    /* a card is JSON, with --json or without */
    TRY(cli_print_json(value_get(reply, "model"), err));
out:
    return st;
}

static enum status models(struct cli *cli, struct err *err) {
    static const char *const titles[] = {"model", "versions", "newest", "aliases"};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct models_args args = {.json = false};
    struct operands operands;
    struct value *reply = NULL;
    TRY(cli_parse(cli, &args, &operands, err));
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

static const struct option_row rows[] = {
    OPTION_ROW_FLAG(struct models_args, json, "json", 'j', "print JSON (one version always is)"),
    OPTION_END};

const struct command command_models = {
    .name = "models",
    .help = {.usage = "trireme models [NAME[@ALIAS]] [--json]",
             .summary = "list registered models, or show one version with its papers"},
    .options = rows,
    .most = 1,
    .run = models};
