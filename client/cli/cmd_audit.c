/* trireme audit: who promoted what, and whether the chain of records is whole. */
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/text.h"
#include "core/hash.h"
#include "core/json.h"

struct audit_args {
    struct cli_place place;
    bool json;
};

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

static enum status audit(struct cli *cli, struct err *err) {
    static const char *const titles[] = {"#",       "when",  "who",     "action", "subject",
                                         "version", "alias", "comment", "digest"};
    enum status st = STATUS_OK;
    struct arena *a = &cli->arena;
    struct audit_args args = {.json = false};
    struct operands operands;
    struct value *all = value_list(a);
    const char *previous = NULL;
    TRY(cli_parse(cli, &args, &operands, err));
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
    struct table *t = table_new(a, titles, sizeof titles / sizeof *titles);
    for (size_t i = 0; i < all->count; i++) {
        const struct value *r = all->items[i], *details = value_get(r, "details");
        const char *cells[] = {arena_printf(a, "%lld", (long long)value_get_int(r, "sequence", 0)),
                               text_time(a, value_get_int(r, "time_ns", 0)),
                               value_get_string(r, "actor", ""),
                               value_get_string(r, "action", ""),
                               value_get_string(r, "subject", ""),
                               text_scalar(a, value_get(details, "version")),
                               text_scalar(a, value_get(details, "alias")),
                               text_scalar(a, value_get(details, "comment")),
                               arena_printf(a, "%.12s", value_get_string(r, "digest", ""))};
        table_row(t, cells);
    }
    table_print(t, stdout, cli->colour_out);
    (void)printf("%zu record%s, chain intact\n", all->count, all->count == 1 ? "" : "s");
out:
    return st;
}

static const struct option_row rows[] = {
    CLI_TRACKER_ROWS(struct audit_args, place),
    OPTION_ROW_FLAG(struct audit_args, json, "json", 'j', "print the records as a JSON list"),
    OPTION_END};

const struct command command_audit = {
    .name = "audit",
    .help = {.usage = "trireme audit [--json]",
             .summary = "show who promoted what, when and why; check the hash chain",
             .details = "Oldest first. Exit codes: 0 the chain is intact; 6 it is broken; others "
                        "as in README.md."},
    .options = rows,
    .run = audit};
