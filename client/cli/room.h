/* A home without room on its disk, under a command that waits for a sweep. Said when it holds the sweep up,
 * repeated rarely; when it lasts, the command does not wait for ever. */
#ifndef CLIENT_CLI_ROOM_H
#define CLIENT_CLI_ROOM_H

#include "client/cli/cli.h"

#define ROOM_WAIT_MS 120000 /* TRIREME_ROOM_WAIT_MS says another */

struct room {
    int64_t stuck_ns; /* since when the sweep has waited for room; 0: it does not */
    int64_t said_ns;
    int64_t mark; /* how far the sweep had come */
    bool over;    /* it has waited long enough */
};

/* `status`: the "sweep" map of sweep.status, or NULL where the coordinator does not answer. */
void room_look(struct room *r, const struct cli *cli, const struct value *status);

/* How to go on with a sweep that waits for room: FULL, or CANCELLED where it was interrupted before it had
 * waited long enough. */
enum status room_refuse(const struct room *r, const struct cli *cli, const char *sweep,
                        struct err *err);

/* What failed on a home without room failed because of that: FULL, with the reason in front. Otherwise `st`. */
enum status room_blame(const struct cli *cli, enum status st, struct err *err);

#endif
