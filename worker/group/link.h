/* Rank 0's link to the coordinator and the tracker: hello, beats, the lease, notices, and the
 * waiting that a group does. Nothing here is collective, and the other ranks have no link.
 *
 *     hello ─▶ idle ─assign▶ leased ─done▶ idle …        notices set flags: cancel, drop, leave
 *        ▲                     │
 *        └── reconnect: hello{lease} ──▶ keep? or drop the trial and write nothing more about it
 *
 * A coordinator that is silent for LINK_SILENCE_MS ends an idle group; one that trains goes on and
 * keeps trying, for LINK_BUSY_SILENCE_MS: then it leaves its trial as after SIGTERM. Threading: one thread. */
#ifndef WORKER_GROUP_LINK_H
#define WORKER_GROUP_LINK_H

#include <signal.h>

#include "core/ulid.h"
#include "wire/metrics.h"
#include "wire/session.h"

#define LINK_SILENCE_MS      60000
#define LINK_BUSY_SILENCE_MS 1800000
#define LINK_HELLO_MS        60000
#define LINK_TEND_NS         NS_PER_MS /* between two looks at the sockets while training */

struct link_options {
    const char *coordinator, *tracker, *device;
    const struct net_keys *coordinator_keys, *tracker_keys; /* NULL for ipc */
    int ranks;
    const volatile sig_atomic_t *terminate;
};

struct link {
    struct link_options options;
    struct net *net;
    struct session *coordinator, *tracker;
    char spool[1024], group[ULID_TEXT];

    /* The trial at hand; all values live in `arena` until link_free_trial. */
    struct arena arena;
    struct value *lease, *config; /* NULL: none */
    const struct value *resume;
    double until;
    int64_t step; /* what a beat says */
    double units, samples_per_s;

    /* What the coordinator wants. */
    bool leave;            /* end the group */
    bool dropped;          /* the lease is lost: nothing more about this trial may be written */
    bool failed;           /* something that the run needs could not be stored: leave the trial */
    struct err failure;    /* …and why */
    bool cancel;           /* leave the trial… */
    char cancel_state[16]; /* …and say so */
    char reason[512];
    bool verdict_here, verdict_stop;
    double verdict_until;

    /* private */
    int64_t beat_ms, next_beat_ns, tended_ns, heard_ns, hello_ns;
    uint64_t generation;
    bool beat_out, hello_out, said_hello;
};

/* Opens both sessions and says hello. UNAVAILABLE when nobody answers. */
enum status link_open(const struct link_options *options, struct link *l, struct err *err) MUST_USE;
void link_close(struct link *l, const char *reason);

/* Sleeps until there is a trial (true) or the group must end (false). */
bool link_idle(struct link *l);

/* Beats and listens if it is time to: call it as often as you like. */
void link_tend(struct link *l);

/* Waits for traffic, at most `ms`, and tends. */
void link_rest(struct link *l, int ms);

/* Whether the trial at hand must be left. */
bool link_stop(const struct link *l);

/* Post to the tracker, waiting for room; nothing is posted for a trial that was dropped. What cannot
 * be sent, or is refused by the tracker later, makes the trial `failed`. */
void link_post_tracker(struct link *l, const struct value *request);
void link_post_artifact(struct link *l, const char *run, const char *path, const void *bytes,
                        size_t len);

/* The same for what could not even be made: the first reason counts. */
void link_fail(struct link *l, const char *what, const struct err *why);

/* Waits until the tracker has answered everything, as long as the lease is held. */
void link_settle(struct link *l);

void link_started(struct link *l, int64_t step);
void link_report(struct link *l, const struct value *metrics, int64_t step, double units,
                 bool boundary);

/* Waits for the answer to the last report at a boundary; false: leave (cancelled, dropped). */
bool link_verdict(struct link *l);

/* How a trial ended. */
struct link_end {
    const char *state;
    const char *code, *reason; /* may be NULL */
    int64_t step;
    double units;
    const struct value *metrics;
    const char *weights_digest; /* may be NULL */
};
void link_done(struct link *l, const struct link_end *end);
void link_free_trial(struct link *l);

#endif
