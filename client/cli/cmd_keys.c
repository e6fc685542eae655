/* trireme keys: the reference of the sweep file (docs/SWEEP.md), or the paths that --set takes. */
#include "client/cli/commands.h"
#include "core/buf.h"
#include "spec/reference.h"

struct keys_args {
    bool paths;
};

static enum status keys(struct cli *cli, struct err *err) {
    struct keys_args args = {0};
    struct operands operands;
    enum status st = cli_parse(cli, &args, &operands, err);
    if (st != STATUS_OK || operands.help)
        return st;
    struct buf text = BUF_INIT((size_t)1 << 20);
    if (args.paths)
        spec_keys(&text);
    else
        spec_reference(&text);
    st = buf_status(&text, "the keys of the sweep file", err);
    if (st == STATUS_OK)
        (void)fwrite(text.data, 1, text.len, stdout);
    buf_release(&text);
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_FLAG(struct keys_args, paths, "paths", '\0',
                    "print only the paths that --set takes, one per line"),
    OPTION_END};

const struct command command_keys = {
    .name = "keys",
    .help = {.usage = "trireme keys [--paths]",
             .summary = "print every key of a sweep file (docs/SWEEP.md)"},
    .options = rows,
    .run = keys};
