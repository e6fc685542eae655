/* Private to apply*.c: what each event does, and the steps of which they consist. */
#ifndef COORDINATOR_STATE_APPLY_PRIVATE_H
#define COORDINATOR_STATE_APPLY_PRIVATE_H

#include "coordinator/state/state.h"

/* An event on its way into the state. */
struct apply {
    struct coordinator *c;
    const char *id;            /* the sweep's */
    struct sweep_state *sweep; /* NULL: sweep.submitted makes it */
    struct trial *trial;       /* NULL: none, or trial.assigned makes it */
    const struct value *event;
};

/* ---- apply_sweep.c ---- */
enum status apply_sweep_submitted(struct apply *x, struct err *err) MUST_USE;
enum status apply_sweep_cancelled(struct apply *x, struct err *err) MUST_USE;
enum status apply_sweep_failed(struct apply *x, struct err *err) MUST_USE;
enum status apply_sweep_paused(struct apply *x, struct err *err) MUST_USE;
enum status apply_sweep_resumed(struct apply *x, struct err *err) MUST_USE;

/* ---- apply_trial.c ---- */
enum status apply_trial_assigned(struct apply *x, struct err *err) MUST_USE;
enum status apply_trial_started(struct apply *x, struct err *err) MUST_USE;
enum status apply_trial_reported(struct apply *x, struct err *err) MUST_USE;
enum status apply_trial_verdict(struct apply *x, struct err *err) MUST_USE;
enum status apply_trial_ended(struct apply *x, struct err *err) MUST_USE;
enum status apply_trial_cancelled(struct apply *x, struct err *err) MUST_USE;

/* ---- apply_steps.c ---- */

/* CORRUPT, with the number and name of the event. */
enum status apply_corrupt(const struct apply *x, const char *why, struct err *err);

/* The list of leased trials. */
void apply_begin_lease(struct coordinator *c, struct trial *t);
void apply_end_lease(struct coordinator *c, struct trial *t);

/* The sweep's queue. Enqueuing leaves the lease to the caller. */
enum status apply_enqueue(struct trial *t, struct err *err) MUST_USE;
void apply_dequeue(struct trial *t);
void apply_cancel_queue(struct sweep_state *s); /* all that are queued become cancelled */

/* Final: counted, ranked, told to the searcher. */
void apply_finish(struct trial *t, enum trial_state state);

#endif
