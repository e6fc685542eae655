/* Searchers: which point is tried next, and whether a trial goes on. Deterministic: the same calls
 * in the same order give the same answers, so that feeding stored events rebuilds a searcher too.
 *
 *     create ─▶ ready? ─▶ next (trial 1, 2, …)      report (at a boundary) ─▶ verdict
 *                 ▲                                  exited (a trial is final)
 *                 └───────────────────────────────────┘
 *
 * A searcher sees trials, not attempts: it hears nothing of retries. It is asked for a point or a
 * verdict once. From then on the log's answer counts, even where a later version of the searcher
 * would give another. One thread. */
#ifndef COORDINATOR_SEARCH_SEARCHER_H
#define COORDINATOR_SEARCH_SEARCHER_H

#include "spec/sweep.h"

struct searcher; /* each kind's own */

enum search_ready {
    SEARCH_READY, /* next will give a trial */
    SEARCH_WAIT,  /* not before a report or an exit */
    SEARCH_DONE,  /* no more trials */
};

struct search_verdict {
    bool stop;
    double until;       /* units of the next boundary */
    const char *reason; /* static: the rule that decided */
};

struct search_exit {
    int64_t trial;
    bool ranked;   /* it has a finite metric */
    double metric; /* smaller is better: with the sign turned where it is not */
    double units;
};

struct searcher_class {
    const char *name;
    /* `sweep` outlives the searcher. NOMEM only. */
    enum status (*create)(const struct sweep *sweep, struct searcher **out, struct err *err);
    void (*destroy)(struct searcher *s);
    enum search_ready (*ready)(const struct searcher *s);
    /* Gives the next trial's number. Call it when ready; a restore calls it for every trial of the
     * log, whatever ready says. */
    int64_t (*next)(struct searcher *s);
    /* The point of a trial that next has given; NULL when the arena is exhausted. */
    struct value *(*point)(struct searcher *s, struct arena *a, int64_t trial);
    double (*until)(const struct searcher *s, int64_t trial); /* the first boundary */
    struct search_verdict (*report)(struct searcher *s, int64_t trial, double units, double metric);
    void (*exited)(struct searcher *s, const struct search_exit *exit);
    double (*progress)(const struct searcher *s); /* 0 to 1 */
    int64_t (*planned)(const struct searcher *s); /* trials in all, as far as it is known */
};

#endif
