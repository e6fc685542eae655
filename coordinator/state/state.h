/* The coordinator's state: sweeps, their trials, and the worker groups that are here.
 *
 *     coordinator ─┬─ sweeps, by priority ── trials, by number ─┐
 *                  ├─ groups, by id ────────── trial ───────────┤ a lease: this trial, this group
 *                  └─ leased ── trial ── trial ── …  ───────────┘
 *
 * D marks what is durable: only apply.c changes it, and the events of the log rebuild it. V marks
 * what is volatile: gone with the process, and rebuilt by what groups say.
 *
 * The log has the last word. A trial's hyperparameters, the verdicts at its boundaries and the
 * sweep's configuration are kept as they were logged. A searcher is asked only once, before the
 * event is written: code that would decide otherwise today changes nothing that was decided.
 *
 * Pure data: nothing here reads a clock, sends a message or opens a file. */
#ifndef COORDINATOR_STATE_STATE_H
#define COORDINATOR_STATE_STATE_H

#include "coordinator/search/searcher.h"
#include "coordinator/state/options.h"
#include "core/hash.h"
#include "core/ulid.h"

#define STATE_ARENA_MAX  ((size_t)32 << 20) /* a sweep's configuration and what is parsed from it */
#define STATE_RUNS_MAX   64                 /* earlier attempts that are remembered of a trial */
#define STATE_BESTS_MAX  64 /* improvements that are remembered of a trial, the last ones */
#define STATE_REASON_MAX 2000

enum trial_state {
    TRIAL_QUEUED,
    TRIAL_ASSIGNED,
    TRIAL_RUNNING,
    TRIAL_COMPLETED, /* this one and all that follow are final */
    TRIAL_STOPPED,
    TRIAL_FAILED,
    TRIAL_CANCELLED,
};

enum sweep_state_kind {
    SWEEP_ACTIVE,
    SWEEP_PAUSED,
    SWEEP_COMPLETED,
    SWEEP_FAILED,
    SWEEP_CANCELLED
};

struct sweep_state;

/* An evaluation that was better than all before it. */
struct trial_best {
    int64_t step;
    double metric;
};

struct trial {
    struct sweep_state *sweep;
    int64_t number;            /* D from 1 */
    enum trial_state state;    /* D */
    int64_t epoch;             /* D of the last lease */
    int64_t attempt, restarts; /* D */
    char run[ULID_TEXT];       /* D of the last attempt; "" before the first */
    char group[ULID_TEXT];     /* D of the last lease */
    int64_t done_epoch;        /* D the last lease that ended by trial.done: answered again */
    char *point;               /* D JSON: the hyperparameters, as logged */
    int64_t step;              /* D */
    double units;              /* D */
    char *metrics;             /* D JSON; NULL: none */
    char *reason;              /* D */
    char digest[DIGEST_HEX];   /* D of the weights; "" where there is none */
    bool ranked;               /* D */
    double metric;             /* D as reported, where ranked: the best or the last, by metric_of */
    struct trial_best *bests;  /* D worst first; best.h */
    size_t best_count;         /* D */
    bool reported;             /* D since the last lease began; then `verdict` answers a report */
    struct search_verdict verdict; /* D the answer to the last report; its reason is `rule` */
    char *rule;                    /* D */
    double until;                  /* D the next boundary, by the last verdict to go on; 0: none */
    bool cancel;                   /* D somebody asked for its end */
    char run_state[16];            /* D what the tracker was told last */
    char last_state[16];           /* D the same of the attempt before */
    bool last_done;                /* D whether that one said itself how it ended */
    int64_t ended_sequence;        /* D event of the last end */
    char (*runs)[ULID_TEXT];       /* D earlier attempts, oldest first, the last STATE_RUNS_MAX */
    size_t run_count;              /* D */
    int64_t deadline_ns;           /* V when a restored or cancelled lease is over; 0: never */
    int64_t assigned_ns;           /* V when the last trial.assign went out */
    struct trial *next, *before;   /* V list of leased trials */
};

struct sweep_state {
    char id[ULID_TEXT];
    struct arena arena;          /* config, spec */
    struct value *config;        /* D */
    int64_t language;            /* D what the config is written in */
    const char *base;            /* D */
    struct sweep *spec;          /* D parsed by the rules of `language` */
    int64_t slots_per_trial;     /* D may differ from spec's after a resume */
    int64_t max_slots;           /* D */
    enum sweep_state_kind state; /* D */
    char *reason;                /* D */
    char *code;                  /* D of a failure: a status; NULL: its event had none */
    bool cancel;                 /* D asked for; cancelled when the last lease is over */
    int64_t sequence;            /* D of the last event */
    uint64_t key;                /* D of run ids: from the sweep's id */
    const struct searcher_class *search;
    struct searcher *searcher; /* D */
    struct trial **trials;     /* D [0, created) */
    int64_t created, trials_cap;
    int64_t *queue; /* D numbers of queued trials, ascending */
    int64_t queued, queue_cap;
    int64_t leased, finished, failed; /* D */
    int64_t best;                     /* D number of the best trial; 0: none */
};

enum group_state { GROUP_IDLE, GROUP_BUSY, GROUP_LEAVING };

struct group { /* all V */
    char id[ULID_TEXT];
    char host[257], device[201], launch[65];
    int64_t ranks, pid, ends_ns;
    enum group_state state;
    struct trial *trial; /* BUSY (or LEAVING with one) */
    int64_t beat_ns, idle_since_ns;
    int64_t step;
    double units, samples_per_s;
};

struct coordinator {
    struct coordinator_options options;
    struct sweep_state **sweeps; /* by priority, then submission */
    size_t sweep_count;
    struct group **groups; /* by id */
    size_t group_count, group_cap;
    struct trial *leased; /* head of the list */
    size_t leased_count;
    bool stopping;
};

static inline bool trial_leased(const struct trial *t) {
    return t->state == TRIAL_ASSIGNED || t->state == TRIAL_RUNNING;
}

static inline bool trial_final(const struct trial *t) {
    return t->state >= TRIAL_COMPLETED;
}

/* NULL when unknown. */
struct sweep_state *state_find_sweep(const struct coordinator *c, const char *id);
struct trial *state_find_trial(const struct sweep_state *s, int64_t number);

/* Whether the sweep has a trial to give: retries first, then the searcher's next. */
bool state_next_trial(const struct sweep_state *s, int64_t *number);

const char *state_trial_name(enum trial_state state);
const char *state_sweep_name(enum sweep_state_kind state);

/* The hyperparameters of a trial, as the log has them. NOMEM. */
enum status state_point(const struct trial *t, struct arena *a, struct value **out,
                        struct err *err) MUST_USE;

/* The configuration of a trial: a function of what the log has. INVALID where none can be made. */
enum status state_trial_config(const struct trial *t, struct arena *a, struct value **out,
                               struct err *err) MUST_USE;

/* Reads a sweep by the rules of the language it was written in. TOO_NEW: a language that this
 * version does not know; INVALID as sweep_parse says. */
enum status state_parse_config(struct arena *a, const struct value *config, int64_t language,
                               struct sweep **out, struct err *err) MUST_USE;

/* Replaces an owned text; NULL clears it. NOMEM. */
enum status state_set_text(char **slot, const char *text, struct err *err) MUST_USE;
enum status state_no_memory(struct err *err);

void state_destroy_sweep(struct sweep_state *s); /* one that is in no list */

/* Takes a sweep out, with its leases. */
void state_forget_sweep(struct coordinator *c, struct sweep_state *s, int64_t mono_ns);

/* ---- group.c ---- */

struct group *group_find(const struct coordinator *c, const char *id); /* NULL when unknown */

/* FULL, NOMEM. */
enum status group_add(struct coordinator *c, const char *id, struct group **out,
                      struct err *err) MUST_USE;
void group_remove(struct coordinator *c, struct group *g);
void group_freed(struct group *g, int64_t mono_ns); /* its trial is over */

/* The trial that is leased to it, whether or not the group is here; NULL: none. */
struct trial *group_trial(const struct coordinator *c, const char *id);

#endif
