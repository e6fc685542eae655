/* The state behind coordinator.h. Private to the core's files:
 *
 *     coordinator.c  life, dispatch, step       sweeps.c    submit, cancel, resume
 *     events*.c      apply: the only writers    trials.c    what groups say about trials
 *                    of sweeps and trials       groups.c    who is here
 *     schedule.c     who gets what              snapshot.c  status, digest, check
 *
 * D marks what is durable (rebuilt from events), V what is volatile. */
#ifndef COORDINATOR_STATE_STATE_H
#define COORDINATOR_STATE_STATE_H

#include "coordinator/core/coordinator.h"
#include "coordinator/search/searcher.h"

#define SWEEP_ARENA_MAX  ((size_t)32 << 20)
#define TRIAL_RUNS_MAX   64
#define TRIAL_REASON_MAX 2000

enum trial_state {
    TRIAL_QUEUED,
    TRIAL_ASSIGNED,
    TRIAL_RUNNING,
    TRIAL_COMPLETED, /* this and all behind it are final */
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

struct trial {
    struct sweep_state *sweep;
    int64_t number;                /* D from 1 */
    enum trial_state state;        /* D */
    int64_t epoch;                 /* D of the last lease */
    int64_t attempt, restarts;     /* D */
    char run[ULID_TEXT];           /* D of the last attempt; "" before the first */
    char group[ULID_TEXT];         /* D of the last lease */
    int64_t done_epoch;            /* D the last lease that ended by trial.done: answered again */
    int64_t step;                  /* D */
    double units;                  /* D */
    char *metrics;                 /* D JSON; NULL: none */
    char *reason;                  /* D */
    char digest[DIGEST_HEX];       /* D "" where there is none */
    bool ranked;                   /* D */
    double metric;                 /* D as reported, where ranked */
    struct search_verdict verdict; /* V the answer to the last report */
    bool boundary;                 /* V what that report was */
    bool cancel;                   /* D somebody asked for its end */
    char run_state[16];            /* D what the tracker was told last */
    char last_state[16];           /* D the same of the attempt before */
    int64_t ended_sequence;        /* D event of the last end */
    char (*runs)[ULID_TEXT];       /* D earlier attempts, oldest first, the last TRIAL_RUNS_MAX */
    size_t run_count;              /* D */
    int64_t deadline_ns;           /* V restored lease or cancel: until when; 0: none */
    int64_t assigned_ns;           /* V when the last trial.assign went out */
    struct trial *next, *before;   /* V list of leased trials */
};

struct sweep_state {
    char id[ULID_TEXT];
    struct arena arena;          /* config, spec */
    struct value *config;        /* D */
    const char *base;            /* D */
    struct sweep *spec;          /* D */
    int64_t slots_per_trial;     /* D may differ from spec's after a resume */
    int64_t max_slots;           /* D */
    enum sweep_state_kind state; /* D */
    char *reason;                /* D */
    bool cancel;                 /* D asked for; cancelled when the last lease is over */
    int64_t sequence;            /* D of the last event */
    int64_t order;               /* V submission order */
    uint64_t key;                /* of run ids: from the sweep's id */
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
    int64_t submissions;
    bool stopping;
};

/* ---- shared helpers ---- */

enum status out_push(struct outbox *out, enum outgoing_kind kind, const char *to, int64_t sequence,
                     struct value *message, struct err *err) MUST_USE;
enum status set_text(char **slot, const char *text, struct err *err) MUST_USE; /* NULL clears */
const char *trial_state_name(enum trial_state s);
const char *sweep_state_name(enum sweep_state_kind s);
struct sweep_state *find_sweep(const struct coordinator *c, const char *id);
struct trial *find_trial(const struct sweep_state *s, int64_t number);
struct group *find_group(const struct coordinator *c, const char *id);
static inline bool trial_leased(const struct trial *t) {
    return t->state == TRIAL_ASSIGNED || t->state == TRIAL_RUNNING;
}
static inline bool trial_final(const struct trial *t) {
    return t->state >= TRIAL_COMPLETED;
}
struct value *lease_of(struct arena *a, const struct trial *t);

/* ---- events.c ---- */

/* {"event": name}; the caller adds the rest. */
struct value *event_new(struct arena *a, const char *name);
/* Stamps, applies, and puts the event into the outbox, followed by the posts that tell the tracker
 * what changed. */
enum status event_emit(struct coordinator *c, const char *sweep, struct value *event,
                       struct moment now, struct outbox *out, struct err *err) MUST_USE;
enum status event_apply(struct coordinator *c, const char *sweep, const struct value *event,
                        struct err *err) MUST_USE;
void sweep_state_destroy(struct sweep_state *s);

/* ---- trials.c ---- */
enum status handle_started(struct coordinator *c, const struct value *r, struct moment now,
                           struct outbox *out, struct err *err) MUST_USE;
enum status handle_report(struct coordinator *c, const struct value *r, struct moment now,
                          struct outbox *out, struct value **reply, struct err *err) MUST_USE;
enum status handle_done(struct coordinator *c, const struct value *r, struct moment now,
                        struct outbox *out, struct err *err) MUST_USE;
/* Ends the lease of `t`: state is failed (counts as a restart) or preempted (does not). */
enum status end_lease(struct coordinator *c, struct trial *t, const char *state, const char *code,
                      const char *reason, struct moment now, struct outbox *out,
                      struct err *err) MUST_USE;
/* The trial that a lease names, if the lease stands and `group` holds it; CONFLICT otherwise. */
enum status check_lease(const struct coordinator *c, const char *group, const struct value *lease,
                        struct trial **out, struct err *err) MUST_USE;
enum status send_cancel(const struct trial *t, const char *state, struct outbox *out,
                        struct err *err) MUST_USE;

/* ---- groups.c ---- */
enum status handle_hello(struct coordinator *c, const struct value *r, struct moment now,
                         struct outbox *out, struct value **reply, struct err *err) MUST_USE;
enum status handle_beat(struct coordinator *c, const struct value *r, struct moment now,
                        struct outbox *out, struct err *err) MUST_USE;
enum status handle_bye(struct coordinator *c, const struct value *r, struct moment now,
                       struct outbox *out, struct err *err) MUST_USE;
enum status expire_leases(struct coordinator *c, struct moment now, struct outbox *out,
                          struct err *err) MUST_USE;
void group_freed(struct group *g, struct moment now); /* its trial is over */
void remove_group(struct coordinator *c, struct group *g);

/* ---- sweeps.c ---- */
enum status handle_submit(struct coordinator *c, const struct value *r, struct moment now,
                          struct outbox *out, struct err *err) MUST_USE;
enum status handle_cancel(struct coordinator *c, const struct value *r, struct moment now,
                          struct outbox *out, struct err *err) MUST_USE;
enum status handle_resume(struct coordinator *c, const struct value *r, struct moment now,
                          struct outbox *out, struct err *err) MUST_USE;

/* ---- schedule.c ---- */
enum status assign_trials(struct coordinator *c, struct moment now, struct outbox *out,
                          struct err *err) MUST_USE;
enum status send_assign(const struct trial *t, struct outbox *out, struct err *err) MUST_USE;
/* Whether the sweep has a trial to give; its number in *trial. */
bool next_trial(const struct sweep_state *s, int64_t *trial);
enum status dismiss_groups(struct coordinator *c, struct moment now, struct outbox *out,
                           struct err *err) MUST_USE;

/* ---- snapshot.c ---- */
struct value *sweep_status(struct arena *a, const struct coordinator *c,
                           const struct sweep_state *s);
struct value *coordinator_status(struct arena *a, const struct coordinator *c, struct moment now);

#endif
