/* The subcommands of `trireme`. A new one is a file cmd_<name>.c that defines command_<name>, and a
 * line in the list below; --help, the dispatcher and shell completion follow. */
#ifndef CLIENT_CLI_COMMANDS_H
#define CLIENT_CLI_COMMANDS_H

#include "client/cli/cli.h"

/* In the order of `trireme --help`. */
#define COMMANDS(X)                                                                                \
    X(run)                                                                                         \
    X(submit)                                                                                      \
    X(preview)                                                                                     \
    X(ls)                                                                                          \
    X(show)                                                                                        \
    X(metrics)                                                                                     \
    X(compare)                                                                                     \
    X(artifacts)                                                                                   \
    X(artifact)                                                                                    \
    X(replay)                                                                                      \
    X(resume)                                                                                      \
    X(cancel)                                                                                      \
    X(status)                                                                                      \
    X(export)                                                                                      \
    X(promote)                                                                                     \
    X(seal)                                                                                        \
    X(models)                                                                                      \
    X(audit)                                                                                       \
    X(keygen)                                                                                      \
    X(tracker)                                                                                     \
    X(coordinator)                                                                                 \
    X(worker)                                                                                      \
    X(keys)                                                                                        \
    X(wire)                                                                                        \
    X(completion)                                                                                  \
    X(version)

#define X(name) extern const struct command command_##name;
COMMANDS(X)
#undef X

#endif
