/* The trials of a sweep as a table, best first: at the end of `run`, and whenever asked (`show SWEEP`).
 *
 *     rank  trial  run   state      val_error  last   at epoch  lr     act
 *        1      3  01M…  completed  0.125      0.25   30        0.001  relu
 *
 * `val_error` is what the trial is ranked by, its best or its last evaluation as metric_of says; `last` and
 * `at epoch` are there where the trials know their best. Each hyperparameter has a column, as long as
 * there is room; a string that could be read as something else is in quotes. */
#ifndef CLIENT_CLI_RANKING_H
#define CLIENT_CLI_RANKING_H

#include "client/cli/cli.h"

struct ranking {
    const struct value
        *trials;        /* as sweep.status has them; `hyperparameters`, `metric`, `best` … */
    const char *metric; /* its name; NULL: unknown */
    bool larger;        /* is better */
    const struct value
        *order;             /* hyperparameters in the file's order; NULL: as the trials have them */
    double steps_per_epoch; /* 0: unknown, or time is counted in steps */
};

/* From a coordinator's sweep.status. What that does not say (the metric's name, the length of an epoch) is
 * asked of the tracker; without an answer the table goes without. */
void ranking_of_status(struct cli *cli, const struct value *status, struct ranking *out);

/* From the tracker alone: the newest attempt of each trial of a whole sweep id. */
enum status ranking_of_sweep(struct cli *cli, const char *sweep, struct ranking *out,
                             struct err *err) MUST_USE;

/* At most `rows`. Nothing where there are no trials. */
void ranking_print(struct cli *cli, const struct ranking *r, size_t rows, FILE *to);

#endif
