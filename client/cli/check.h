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

/* A sweep file and what was read from it. Trials that come from elsewhere have no file. */
struct check_file {
    const char *path;         /* as the user named it */
    char base[PATH_TEXT_MAX]; /* its directory: where relative paths start */
    struct sweep *sweep;
};

/* Reads it, with the command line's overrides (key=value). */
enum status check_load(struct cli *cli, const char *path, const struct option_list *sets,
                       struct check_file *out, struct err *err) MUST_USE;

/* The first `count` trials: {planned, trials: [{trial, hyperparameters, config}]}. Fewer where the
 * searcher has to wait for results. */
enum status check_trials(struct cli *cli, const struct check_file *file, int64_t count,
                         struct value **out, struct err *err) MUST_USE;

/* A trial to be planned. */
struct check_trial {
    const struct value *config;
    const char *file;      /* the sweep file that its nodes' places are in; NULL: none */
    int64_t ranks;         /* slots_per_trial; 0: one */
    int64_t slots_per_gpu; /* ranks that share a GPU; 0: one */
    int64_t assume_gpu;    /* GiB of a GPU that need not be here; 0: what is here */
    int timeout_ms;        /* 0: no limit */
    const char *device;    /* out, after a refusal: what it was planned on; NULL: not known */
    struct value *plan;    /* out: what the worker says about model, data and device */
};

/* The first of the `listed` trials (check_trials), its nodes with their places in the file. NOT_FOUND
 * where none is listed. */
enum status check_first(struct cli *cli, const struct check_file *file, const struct value *listed,
                        struct check_trial *out, struct err *err) MUST_USE;

/* Plans it. A refusal has the worker's status, and a message that begins with the place of the key at
 * fault, where that is known. TIMEOUT: not in time. INTERNAL: the worker did not say why. */
enum status check_plan(struct cli *cli, struct check_trial *trial, struct err *err) MUST_USE;

/* Says on standard error what the plan warns of: what is allowed and seldom meant. */
void check_warn(struct cli *cli, const struct check_trial *trial);

/* Plans it before a sweep starts, and warns. `here`: worker groups will run on this machine; otherwise they may
 * run elsewhere, and what this machine lacks (a worker, a GPU) refuses nothing. Whatever could not
 * be checked is said on standard error. */
enum status check_before(struct cli *cli, const struct check_trial *trial, bool here,
                         struct err *err) MUST_USE;

#endif
