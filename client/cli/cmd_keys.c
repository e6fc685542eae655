/* trireme keys: the reference of the sweep file (docs/SWEEP.md), or the paths that --set takes: of any file,
 * and with a FILE those of its list elements and names, too. */
#include <string.h>

#include "client/cli/commands.h"
#include "core/buf.h"
#include "core/yaml.h"
#include "spec/reference.h"

#define FILE_BYTES_MAX ((size_t)64 << 20)

struct keys_args {
    bool paths;
};

/* ---- paths of a file ---- */

/* Where we are in the file; printed is what the table of keys does not know. */
struct walk {
    struct buf path;
    const char *known; /* a line for each */
    struct buf *out;
};

static bool is_known(const struct walk *w) {
    const char *path = buf_text(&w->path);
    size_t len = strlen(path);
    for (const char *at = w->known; (at = strstr(at, path)) != NULL; at += len)
        if ((at == w->known || at[-1] == '\n') && at[len] == '\n')
            return true;
    return false;
}

static void walk_value(struct walk *w, const struct value *v);

/* A name that --set could not tell from a path, or the shell from two words, is passed over. */
static void walk_into(struct walk *w, const char *name, const struct value *v) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t before = w->path.len;
    if (*name == '\0' || strspn(name, plain) != strlen(name))
        return;
    buf_addf(&w->path, "%s%s", before > 0 ? "." : "", name);
    if (!is_known(w))
        buf_addf(w->out, "%s\n", buf_text(&w->path));
    walk_value(w, v);
    w->path.len = before;
}

static void walk_value(struct walk *w, const struct value *v) {
    char index[24];
    for (size_t i = 0; v->kind == VALUE_MAP && i < v->count; i++)
        walk_into(w, v->members[i].key, v->members[i].value);
    for (size_t i = 0; v->kind == VALUE_LIST && i < v->count; i++) {
        (void)snprintf(index, sizeof index, "%zu", i);
        walk_into(w, index, v->items[i]);
    }
}

static enum status add_paths_of(struct cli *cli, const char *file, struct buf *out,
                                struct err *err) {
    enum status st = STATUS_OK;
    struct buf text = BUF_INIT(FILE_BYTES_MAX);
    struct walk w = {.path = BUF_INIT(1 << 20), .out = out};
    struct value *root = NULL;
    w.known = arena_strdup(&cli->arena, buf_text(out));
    if (w.known == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory");
    TRY(path_read(file, &text, err));
    TRY(yaml_parse(&cli->arena, buf_text(&text), text.len, file, &root, err));
    if (root != NULL)
        walk_value(&w, root);
out:
    buf_release(&w.path);
    buf_release(&text);
    return st;
}

/* ---- the command ---- */

static enum status keys(struct cli *cli, struct err *err) {
    struct keys_args args = {0};
    struct operands operands;
    enum status st = cli_parse(cli, &args, &operands, err);
    if (st != STATUS_OK || operands.help)
        return st;
    if (operands.count > 0 && !args.paths)
        return err_set(err, STATUS_INVALID, "FILE is for --paths: trireme keys --paths %.200s",
                       operands.items[0]);
    struct buf text = BUF_INIT((size_t)16 << 20);
    if (args.paths)
        spec_keys(&text);
    else
        spec_reference(&text);
    if (operands.count > 0)
        TRY(add_paths_of(cli, operands.items[0], &text, err));
    TRY(buf_status(&text, "the keys of the sweep file", err));
    (void)fwrite(text.data, 1, text.len, stdout);
out:
    buf_release(&text);
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_FLAG(struct keys_args, paths, "paths", '\0',
                    "print only the paths that --set takes, one per line; with FILE also those of "
                    "its list elements and names"),
    OPTION_END};

const struct command command_keys = {
    .name = "keys",
    .help = {.usage = "trireme keys [--paths [FILE]]",
             .summary = "print every key of a sweep file (docs/SWEEP.md)"},
    .options = rows,
    .kind = OPERANDS_SWEEP_FILE,
    .most = 1,
    .run = keys};
