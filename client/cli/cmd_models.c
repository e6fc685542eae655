/* trireme models: registered models, their versions and aliases. */
#include <stdlib.h>
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/text.h"
#include "core/name.h"
#include "core/output.h"
#include "core/user.h"

struct models_args {
    struct cli_place place;
    bool json;
    const char *actor, *comment;
};

/* "12" is a version, as in `export NAME@12`; 0: it is none. */
static int64_t version_of(const char *text) {
    size_t len = strlen(text);
    return len > 0 && len < 10 && strspn(text, "0123456789") == len ? strtoll(text, NULL, 10) : 0;
}

static enum status one_model(struct cli *cli, const char *operand, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct value *reply = NULL, *request = message_request(a, "model.get", NULL);
    const char *at = strrchr(operand, '@');
    value_set_string(a, request, "name",
                     at != NULL ? arena_copy(a, operand, (size_t)(at - operand)) : operand);
    if (at != NULL && version_of(at + 1) > 0)
        value_set_int(a, request, "version", version_of(at + 1));
    else if (at != NULL)
        value_set_string(a, request, "alias", at + 1);
    TRY(cli_ask(cli, request, &reply, err));
    /* a card is JSON, with --json or without */
    TRY(cli_print_json(value_get(reply, "model"), err));
out:
    return st;
}

/* alias NAME@ALIAS VERSION: to a version that is there already, so that a promotion can be undone. */
static enum status move_alias(struct cli *cli, const struct operands *operands,
                              const struct models_args *args, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    const char *target = operands->items[1], *at = strchr(target, '@');
    int64_t version = version_of(operands->items[2]);
    struct value *reply = NULL, *request = message_request(a, "model.alias", NULL);
    if (at == NULL || at == target || version_of(at + 1) > 0)
        return err_set(err, STATUS_INVALID, "'%.100s' must be NAME@ALIAS; usage: %s", target,
                       cli->command->help.usage);
    TRY(name_check("alias", at + 1, strlen(at + 1), err));
    if (version == 0)
        return err_set(err, STATUS_INVALID, "'%.40s' is not a version; versions count from 1",
                       operands->items[2]);
    value_set_string(a, request, "name", arena_copy(a, target, (size_t)(at - target)));
    value_set_string(a, request, "alias", at + 1);
    value_set_int(a, request, "version", version);
    value_set_string(a, request, "actor", args->actor != NULL ? args->actor : user_name());
    value_set_string(a, request, "comment", args->comment);
    TRY(output_ready(err));
    TRY(cli_ask(cli, request, &reply, err));
    (void)snprintf(cli->done, sizeof cli->done, "%s version %lld is now @%s",
                   value_get_string(reply, "name", ""), (long long)version, at + 1);
    if (args->json) {
        value_set_string(a, reply, "alias", at + 1);
        (void)value_remove(reply, "id");
        (void)value_remove(reply, "ok");
        TRY(cli_print_json(reply, err));
    } else {
        (void)printf("%s\n", text_safe(a, cli->done));
    }
out:
    return st;
}

static enum status models(struct cli *cli, struct err *err) {
    static const char *const titles[] = {"model", "versions", "newest", "aliases"};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct models_args args = {.json = false};
    bool alias;
    struct operands operands;
    struct value *reply = NULL;
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    alias = operands.count == 3 && strcmp(operands.items[0], "alias") == 0;
    if (operands.count > 1 && !alias)
        return err_set(err, STATUS_INVALID, "unexpected operand '%.80s'; usage: %s",
                       operands.items[1], cli->command->help.usage);
    if (!alias && (args.actor != NULL || args.comment != NULL))
        return err_set(err, STATUS_INVALID, "--actor and --comment go with `models alias`");
    if (alias) {
        st = move_alias(cli, &operands, &args, err);
        goto out;
    }
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
    OPTION_ROW_STRING(struct models_args, actor, "actor", 0, "WHO",
                      "alias: for the audit log (default: your user name)"),
    OPTION_ROW_STRING(struct models_args, comment, "comment", 'm', "TEXT",
                      "alias: why, for the audit log (default: none)"),
    CLI_TRACKER_ROWS(struct models_args, place),
    OPTION_ROW_FLAG(struct models_args, json, "json", 'j', "print JSON (one version always is)"),
    OPTION_END};

static const char details[] =
    "NAME is the newest version, NAME@3 its version 3, NAME@live the one that the alias points "
    "to.\n"
    "`models alias NAME@ALIAS VERSION` moves an alias, to an earlier version too: the way back\n"
    "after a promotion. The audit log records it.";

const struct command command_models = {
    .name = "models",
    .help = {.usage = "trireme models [NAME[@ALIAS|@VERSION]] | alias NAME@ALIAS VERSION [--json]",
             .summary = "list registered models, show one version's papers, move an alias",
             .details = details},
    .options = rows,
    .kind = OPERANDS_MODEL,
    .most = 3,
    .run = models};
