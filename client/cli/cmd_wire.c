/* trireme wire: the reference of the ZeroMQ API, docs/WIRE.md. */
#include "client/cli/commands.h"
#include "core/buf.h"
#include "wire/message.h"

static enum status wire(struct cli *cli, struct err *err) {
    struct operands operands;
    enum status st = cli_parse(cli, NULL, &operands, err);
    if (st != STATUS_OK || operands.help)
        return st;
    struct buf text = BUF_INIT((size_t)4 << 20);
    message_write_reference(&text);
    st = buf_status(&text, "the reference of the wire", err);
    if (st == STATUS_OK)
        (void)fwrite(text.data, 1, text.len, stdout);
    buf_release(&text);
    return st;
}

static const struct option_row rows[] = {OPTION_END};

const struct command command_wire = {
    .name = "wire",
    .help = {.usage = "trireme wire",
             .summary = "print the reference of the ZeroMQ API (docs/WIRE.md)"},
    .options = rows,
    .run = wire};
