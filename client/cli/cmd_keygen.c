/* trireme keygen: a CURVE key pair for TCP endpoints. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/commands.h"

struct keygen_args {
    const char *role, *name, *out;
};

static enum status keygen(struct cli *cli, struct err *err) {
    enum status st = STATUS_OK;
    struct keygen_args args = {.role = "submitter", .name = getenv("USER")};
    struct operands operands;
    char public_key[41], secret_key[41], dir[PATH_TEXT_MAX], path[PATH_TEXT_MAX], file[256],
        text[256];
    TRY(cli_parse(cli, &args, &operands, err));
    if (operands.help)
        goto out;
    args.name = args.name != NULL ? args.name : "me";
    if (strchr(args.name, '/') != NULL || strlen(args.name) > 100 || args.name[0] == '\0') {
        st = err_set(err, STATUS_INVALID, "--name must be 1 to 100 characters without '/'");
        goto out;
    }
    TRY(message_check_name(args.name, 100, "--name", err));
    if (args.out != NULL)
        (void)snprintf(dir, sizeof dir, "%s", args.out);
    else
        TRY(path_join(dir, cli->home, "keys", err));
    TRY(path_mkdirs(dir, 0700, err));
    TRY(net_keygen(public_key, secret_key, err));
    (void)snprintf(file, sizeof file, "%s.secret", args.name);
    TRY(path_join(path, dir, file, err));
    if (access(path, F_OK) == 0) {
        st = err_set(err, STATUS_EXISTS, "%s already exists; remove it or choose another --name",
                     path);
        goto out;
    }
    (void)snprintf(text, sizeof text, "%s\n%s\n", public_key, secret_key);
    TRY(path_write(path, text, strlen(text), 0600, err));
    (void)fprintf(stderr, "secret: %s\n", path);
    (void)snprintf(file, sizeof file, "%s.public", args.name);
    TRY(path_join(path, dir, file, err));
    (void)snprintf(text, sizeof text, "%s %s %s\n", public_key, args.role, args.name);
    TRY(path_write(path, text, strlen(text), 0644, err));
    (void)fprintf(stderr, "public: %s\n", path);
    (void)printf("%s\n", public_key);
out:
    return st;
}

static const struct option_row rows[] = {
    OPTION_ROW_STRING(struct keygen_args, name, "name", 'n', "NAME",
                      "whose key it is (default: your user name)"),
    OPTION_ROW_CHOICE(struct keygen_args, role, "role", 'r', NET_ROLE_NAMES,
                      "what it may do (default submitter)"),
    OPTION_ROW_STRING(struct keygen_args, out, "out", 'o', "DIR",
                      "where NAME.secret and NAME.public go (default: $TRIREME_HOME/keys)"),
    OPTION_END};

const struct command command_keygen = {
    .name = "keygen",
    .help =
        {.usage = "trireme keygen [--name NAME] [--role ROLE] [-o DIR]",
         .summary = "make a CURVE key pair for TCP endpoints",
         .details =
             "NAME.secret (mode 0600: public and secret key, one per line) stays with its owner; "
             "NAME.public goes\n"
             "into the directory that the server was given as --allowed."},
    .options = rows,
    .acts = true,
    .run = keygen};
