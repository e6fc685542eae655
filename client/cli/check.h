/* What can be known of a sweep before anything starts: its trials, and what the first of them would
 * do. Shared by preview, run, submit and resume, so that all four refuse the same file in the same
 * words.
 *
 *     sweep ──check_trials──▶ trireme-coordinator --preview    the trials, as the searcher lists them
 *     trial ──check_plan────▶ trireme-worker --plan --json     its model, data and device, or why not
 *
 * Both programs are short-lived siblings of this one; nothing is stored. */
#ifndef CLIENT_CLI_CHECK_H
#define CLIENT_CLI_CHECK_H

#include "client/cli/cli.h"
#include "spec/sweep.h"

/* How long a check before a run may take; $TRIREME_CHECK_MS sets another limit. A large data set may
 * need longer to be read: then the sweep starts unchecked, and the user is told. */
#define CHECK_MS 15000

/* The directory that a sweep file's relative paths start from: its own. */
void check_base(const char *file, char out[PATH_TEXT_MAX]);

/* The first `count` trials: {planned, trials: [{trial, hyperparameters, config}]}. Fewer where the
 * searcher has to wait for results. */
enum status check_trials(struct cli *cli, const struct sweep *sweep, const char *base,
                         int64_t count, struct value **out, struct err *err) MUST_USE;

/* The configuration of one of these trials again, its nodes with their places in the sweep file. */
enum status check_config(struct cli *cli, const struct sweep *sweep, const char *base,
                         const struct value *trial, struct value **out, struct err *err) MUST_USE;

/* A trial to be planned. */
struct check_trial {
    const struct value *config;
    const char *file;       /* the sweep file that its nodes' places are in; NULL: none */
    int64_t ranks;          /* slots_per_trial; 0: one */
    int64_t slots_per_gpu;  /* ranks that share a GPU; 0: one */
    int64_t assume_gpu;     /* GiB of a GPU that need not be here; 0: what is here */
    int timeout_ms;         /* 0: no limit */
    const char *device_out; /* after a refusal: what it was planned on; NULL: that is not known */
};

/* Plans it: *out is what the worker says about model, data and device. A refusal has the worker's
 * status, and a message that begins with the place of the key at fault, where that is known.
 * TIMEOUT: not in time. INTERNAL: the worker did not say why. */
enum status check_plan(struct cli *cli, struct check_trial *trial, struct value **out,
                       struct err *err) MUST_USE;

/* Plans it before a sweep starts. `here`: worker groups will run on this machine; otherwise they may
 * run elsewhere, and what this machine lacks (a worker, a GPU) refuses nothing. Whatever could not
 * be checked is said on standard error. */
enum status check_before(struct cli *cli, const struct check_trial *trial, bool here,
                         struct err *err) MUST_USE;

#endif
