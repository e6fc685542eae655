/* The progress of a sweep on standard error: on a terminal a picture that is drawn again, elsewhere a line
 * now and then. */
#ifndef CLIENT_CLI_PROGRESS_H
#define CLIENT_CLI_PROGRESS_H

#include "client/cli/cli.h"

struct progress {
    bool terminal, colour;
    int rows;           /* of the picture that is on the screen */
    int64_t started_ns; /* monotonic */
    int64_t plain_ns;   /* when the last plain line was printed */
    int64_t finished;   /* trials, in that line */
    double units_first; /* done when we began to look; negative: not known yet */
};

void progress_begin(struct progress *p, const struct cli *cli);

/* `status`: the "sweep" map of sweep.status. */
void progress_show(struct progress *p, const struct value *status);

/* Takes the picture off the screen. */
void progress_end(struct progress *p);

/* Time left at the speed so far: "-" where nothing is known. `done` of 0 to 1. */
const char *progress_eta(struct arena *a, int64_t elapsed_ns, double done);

#endif
