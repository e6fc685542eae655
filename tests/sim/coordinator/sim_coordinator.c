/* The coordinator's core among simulated groups, in simulated time, under faults.
 *
 *     1,200 groups ◀── lossy, late, doubling network ──▶ core ──events──▶ logs (the tracker's JSON)
 *
 * Groups die (noticed at once or not at all), fall silent and come back with stale leases, fail
 * trials with every code, bring results that are not finite. The coordinator crashes before or
 * after its events are stored, and is rebuilt from the logs; at random points its digest is
 * compared with a twin that was rebuilt beside it. The tracker refuses appends now and then (a
 * crash, to the core). Some points in the logs are not those that the searcher would choose, as if
 * another version had written them: trials must train with what is logged.
 *
 * The seed is printed; SIM_SEED repeats a run, SIM_GROUPS sets the number of groups. */
#include <assert.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "coordinator/decide/coordinator.h"
#include "core/json.h"
#include "core/yaml.h"
#include "wire/message.h"

#define GROUPS_DEFAULT 1200
#define SWEEPS         4
#define LARGEST        3 /* the one in which more is better */
#define WIRE_MAX       100000
#define STEP_MS        100
#define CALM_MS        900000  /* faults end: what is left must finish */
#define END_MS         7200000 /* simulated time by which all must be over */
#define LEASE_MS       15000
#define BEAT_MS        1000
#define RESEND_MS      2000
#define SLOTS_MAX      900  /* of all sweeps together: fewer than they would take */
#define BEST_STEP      1    /* where every trial's metric is better than ever after… */
#define BEST_LEAD      0.5  /* …by so much */
#define DRIFTED        0.75 /* lr from here to 0.751 is of a drifted trial */
#define WALL_NS        INT64_C(1790000000000000000)

/* ---- randomness: splitmix64 (Steele, Lea, Flood 2014) ---- */

static uint64_t rng_state;

static uint64_t rng(void) {
    uint64_t z = (rng_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool chance(double p) {
    return (double)(rng() >> 11) * 0x1p-53 < p;
}

static int64_t upto(int64_t n) {
    return (int64_t)(rng() % (uint64_t)n);
}

/* ---- the world ---- */

struct lease {
    char sweep[ULID_TEXT], run[ULID_TEXT];
    int64_t trial, epoch;
};

enum wish { NOTHING, STARTED, REPORT, DONE }; /* what the group must get an answer to */

struct sim_group {
    char id[ULID_TEXT], token[32];
    int64_t ranks;
    bool alive, joined, busy;
    struct lease lease;
    double value; /* the result: a function of the hyperparameters only */
    enum wish wish;
    const char *state, *code; /* of DONE */
    bool nonfinite;
    int64_t step, steps;
    int64_t beat_ms, send_ms, work_ms, silent_until_ms, born_ms;
};

/* A message on its way to the coordinator, with what it says copied. */
struct wire {
    int64_t at_ms;
    size_t group;
    char id[ULID_TEXT];
    char op; /* h b s r d: hello, beat, started, report, done */
    bool has_lease;
    struct lease lease;
    int64_t step;
    double value;
    const char *state, *code;
    bool nonfinite;
};

#define TRIALS_MAX 4000

struct log {
    char id[ULID_TEXT];
    char **events;
    size_t count, cap;
    char *points[TRIALS_MAX + 1]; /* by trial: its hyperparameters as first logged */
};

static struct sim_group *groups;
static size_t group_count;
static struct wire *wire;
static size_t wire_count;
static struct log logs[SWEEPS];
static struct coordinator *core;
static struct arena tick;
static struct outbox out;
static int64_t now_ms;
static int64_t crashes, twins, drifted, lost_messages, doubled, refused, deaths, ids;

static const struct coordinator_options options = {
    .lease_ms = LEASE_MS, .beat_ms = BEAT_MS, .max_slots = SLOTS_MAX, .machine_slots = 100000};

static struct turn *turn(void) {
    static struct turn now;
    now = (struct turn){
        .c = core,
        .now = {.wall_ns = WALL_NS + now_ms * NS_PER_MS, .mono_ns = now_ms * NS_PER_MS},
        .out = &out,
    };
    return &now;
}

static void must(enum status st, const struct err *err) {
    if (st != STATUS_OK) {
        (void)fprintf(stderr, "at %lld ms: %s: %s\n", (long long)now_ms, status_name(st),
                      err->text);
        abort();
    }
}

static void new_id(char out_id[ULID_TEXT]) {
    ulid_make(1790000000000 + now_ms, 0, (uint64_t)++ids, out_id);
}

/* ---- the slots in use, as the events tell ---- */

static const int64_t slots_of[SWEEPS] = {1, 2, 1, 2};
static int64_t slots_used, slots_most;

static void count_slots(size_t sweep, const struct value *event) {
    const char *name = value_get_string(event, "event", "");
    if (strcmp(name, "trial.assigned") == 0)
        slots_used += slots_of[sweep];
    if (strcmp(name, "trial.ended") == 0)
        slots_used -= slots_of[sweep];
    if (slots_used > slots_most)
        slots_most = slots_used;
    assert(slots_used >= 0 && slots_used <= SLOTS_MAX);
}

/* ---- logs: what the tracker would hold ---- */

static struct log *log_of(const char *sweep) {
    for (size_t i = 0; i < SWEEPS; i++)
        if (strcmp(logs[i].id, sweep) == 0)
            return &logs[i];
    abort();
}

static void append_events(void) {
    struct err err;
    for (size_t i = 0; i < out.count; i++) {
        const struct outgoing *o = &out.items[i];
        if (o->kind != OUT_EVENT)
            continue;
        struct log *l = log_of(o->to);
        assert(o->sequence == (int64_t)l->count + 1); /* no gap, no rewriting */
        struct buf text = BUF_INIT(1 << 20);
        must(json_dump(o->message, JSON_COMPACT, &text, &err), &err);
        if (l->count == l->cap) {
            l->cap = l->cap == 0 ? 1024 : l->cap * 2;
            l->events = realloc(l->events, l->cap * sizeof *l->events);
        }
        l->events[l->count++] = strdup(buf_text(&text));
        buf_release(&text);
        count_slots((size_t)(l - logs), o->message);
    }
}

static struct coordinator *rebuilt(void) {
    struct coordinator *c = NULL;
    struct err err;
    struct arena a;
    arena_init(&a, (size_t)64 << 20);
    must(coordinator_new(&options, &c, &err), &err);
    for (size_t i = 0; i < SWEEPS; i++) {
        for (size_t k = 0; k < logs[i].count; k++) {
            struct value *e = NULL;
            arena_clear(&a);
            must(json_parse(&a, logs[i].events[k], strlen(logs[i].events[k]), "log", &e, &err),
                 &err);
            must(coordinator_restore(c, logs[i].id, (int64_t)k + 1, e, &err), &err);
        }
    }
    arena_release(&a);
    return c;
}

static void compare_with_twin(void) {
    struct digest a, b;
    struct err err;
    struct coordinator *twin = rebuilt();
    must(coordinator_digest(core, &a, &err), &err);
    must(coordinator_digest(twin, &b, &err), &err);
    assert(memcmp(&a, &b, sizeof a) == 0);
    coordinator_check(twin);
    coordinator_destroy(&twin);
    twins++;
}

/* The process ends and starts again; groups notice nothing but unanswered messages. */
static void crash(void) {
    struct err err;
    crashes++;
    coordinator_destroy(&core);
    core = rebuilt();
    now_ms += upto(3000);
    arena_clear(&tick);
    out = (struct outbox){.arena = &tick};
    for (size_t i = 0; i < SWEEPS; i++)
        if (logs[i].count > 0)
            must(coordinator_restored(turn(), logs[i].id, &err), &err);
    for (size_t i = 0; i < out.count; i++)
        assert(out.items[i].kind == OUT_POST || out.items[i].kind == OUT_CREATE);
}

/* ---- groups ---- */

static bool stormy(void) {
    return now_ms < CALM_MS;
}

static double result_of(const struct value *hyperparameters) {
    struct buf text = BUF_INIT(65536);
    struct digest d;
    struct err err;
    must(json_dump(hyperparameters, JSON_CANONICAL, &text, &err), &err);
    hash_bytes(text.data, text.len, &d);
    buf_release(&text);
    return (double)(d.bytes[0] * 256 + d.bytes[1]) / 65536.0;
}

static void born(struct sim_group *g, int64_t ranks) {
    *g = (struct sim_group){.ranks = ranks, .alive = true, .born_ms = now_ms};
    new_id(g->id);
    (void)snprintf(g->token, sizeof g->token, "t-%lld", (long long)ids);
    g->send_ms = now_ms + upto(2000);
}

static void transmit(struct wire w) {
    if (stormy() && chance(0.03)) {
        lost_messages++;
        return;
    }
    int copies = stormy() && chance(0.03) ? 2 : 1;
    doubled += copies - 1;
    for (int i = 0; i < copies && wire_count < WIRE_MAX; i++) {
        w.at_ms = now_ms + upto(200) + (stormy() && chance(0.02) ? upto(40000) : 0);
        wire[wire_count++] = w;
    }
}

static void say(size_t i, char op) {
    struct sim_group *g = &groups[i];
    struct wire w = {.group = i, .op = op, .has_lease = g->busy, .lease = g->lease};
    memcpy(w.id, g->id, sizeof w.id);
    w.step = g->step;
    w.value = g->value;
    w.state = g->state;
    w.code = g->code;
    w.nonfinite = g->nonfinite;
    transmit(w);
}

static void drop(struct sim_group *g) {
    g->busy = false;
    g->wish = NOTHING;
}

static void on_assign(struct sim_group *g, const struct value *m) {
    const struct value *l = value_get(m, "lease");
    int64_t epoch = value_get_int(l, "epoch", 0);
    if (g->busy && strcmp(value_get_string(l, "run", ""), g->lease.run) == 0)
        return; /* the same again */
    const struct value *config = value_get(m, "config");
    *g = (struct sim_group){.ranks = g->ranks,
                            .alive = true,
                            .joined = true,
                            .busy = true,
                            .wish = STARTED,
                            .state = "completed",
                            .beat_ms = g->beat_ms,
                            .born_ms = g->born_ms,
                            .silent_until_ms = g->silent_until_ms,
                            .steps = 2 + upto(6),
                            .work_ms = now_ms + 200 + upto(3000)};
    (void)snprintf(g->lease.sweep, ULID_TEXT, "%s", value_get_string(l, "sweep", ""));
    (void)snprintf(g->lease.run, ULID_TEXT, "%s", value_get_string(l, "run", ""));
    g->lease.trial = value_get_int(l, "trial", 0);
    g->lease.epoch = epoch;
    g->value = result_of(value_get(config, "hyperparameters"));
    assert(value_get_real(m, "until", 0) > 0);
    /* Some points always fail, whoever runs them; some attempts fail by accident. */
    static const char *const accidents[] = {"unavailable", "io",      "internal",
                                            "full",        "timeout", "nomem"};
    if (g->value < 0.02)
        g->state = "failed", g->code = "invalid";
    else if (g->value < 0.04)
        g->nonfinite = true;
    else if (stormy() && chance(0.05))
        g->state = "failed", g->code = accidents[upto(6)];
    else if (stormy() && chance(0.02))
        g->state = "preempted";
}

static void on_notice(const char *to, const struct value *m) {
    const char *op = value_get_string(m, "op", "");
    if (stormy() && chance(0.03))
        return;
    for (size_t i = 0; i < group_count; i++) {
        struct sim_group *g = &groups[i];
        if (!g->alive || strcmp(g->id, to) != 0 || now_ms < g->silent_until_ms)
            continue;
        char id[ULID_TEXT], token[32];
        memcpy(id, g->id, sizeof id);
        memcpy(token, g->token, sizeof token);
        if (strcmp(op, "trial.assign") == 0) {
            on_assign(g, m);
            memcpy(g->id, id, sizeof id);
            memcpy(g->token, token, sizeof token);
        } else if (strcmp(op, "trial.cancel") == 0 && g->busy && g->wish != DONE &&
                   strcmp(value_at(m, "lease.run")->string, g->lease.run) == 0) {
            g->state = strcmp(value_get_string(m, "state", ""), "preempted") == 0 ? "preempted"
                                                                                  : "cancelled";
            g->code = NULL;
            g->wish = DONE;
            g->send_ms = 0;
        } else if (strcmp(op, "group.exit") == 0 && !g->busy) {
            g->alive = false;
        }
        return;
    }
}

/* The answer to what the group said, if it arrives. */
static void on_answer(struct sim_group *g, const struct wire *w, enum status st,
                      const struct value *reply) {
    if (!g->alive || strcmp(g->id, w->id) != 0 || (stormy() && chance(0.03)))
        return;
    bool current = w->has_lease && g->busy && strcmp(w->lease.run, g->lease.run) == 0;
    if (w->op == 'h') {
        g->joined = true;
        if (current && !value_get_bool(reply, "keep", false))
            drop(g);
        return;
    }
    if (st == STATUS_NOT_FOUND)
        g->joined = false;
    if (st == STATUS_CONFLICT && current)
        drop(g);
    if (st != STATUS_OK || !current)
        return;
    if (w->op == 's' && g->wish == STARTED)
        g->wish = NOTHING;
    if (w->op == 'r' && g->wish == REPORT && w->step == g->step)
        g->wish = NOTHING;
    if (w->op == 'd' && g->wish == DONE)
        drop(g);
}

static void live(size_t i) {
    struct sim_group *g = &groups[i];
    if (!g->alive || now_ms < g->silent_until_ms)
        return;
    if (stormy() && chance(0.0003))
        g->silent_until_ms = now_ms + upto(60000); /* a partition: it works on afterwards */
    if (!g->joined) {
        if (now_ms >= g->send_ms) {
            g->send_ms = now_ms + RESEND_MS;
            say(i, 'h');
        }
        return;
    }
    if (now_ms >= g->beat_ms) {
        g->beat_ms = now_ms + BEAT_MS;
        say(i, 'b');
    }
    if (!g->busy)
        return;
    if (g->wish == NOTHING && now_ms >= g->work_ms) {
        g->step++;
        g->work_ms = now_ms + 200 + upto(3000);
        g->wish = g->step < g->steps ? REPORT : DONE;
        g->send_ms = 0;
    }
    if (g->wish != NOTHING && now_ms >= g->send_ms) {
        g->send_ms = now_ms + RESEND_MS;
        say(i, g->wish == STARTED ? 's' : g->wish == REPORT ? 'r' : 'd');
    }
}

/* ---- the coordinator's shell ---- */

static struct value *request_of(const struct wire *w) {
    static const char *const ops[] = {['h'] = "group.hello",
                                      ['b'] = "group.beat",
                                      ['s'] = "trial.started",
                                      ['r'] = "trial.report",
                                      ['d'] = "trial.done"};
    struct value *m = message_request(&tick, ops[(int)w->op], "1");
    value_set_string(&tick, m, "group", w->id);
    if (w->has_lease) {
        struct value *l = value_map(&tick);
        value_set_string(&tick, l, "sweep", w->lease.sweep);
        value_set_int(&tick, l, "trial", w->lease.trial);
        value_set_string(&tick, l, "run", w->lease.run);
        value_set_int(&tick, l, "epoch", w->lease.epoch);
        value_set(&tick, m, "lease", l);
    }
    if (w->op == 'h') {
        value_set_int(&tick, m, "ranks", groups[w->group].ranks);
        value_set_string(&tick, m, "launch", groups[w->group].token);
        value_set_string(&tick, m, "host", "sim");
        return m;
    }
    value_set_int(&tick, m, "step", w->step);
    value_set_real(&tick, m, "units", (double)w->step);
    struct value *metrics = value_map(&tick);
    double lead = w->op == 'r' && w->step == BEST_STEP ? BEST_LEAD : 0.0;
    if (strcmp(w->lease.sweep, logs[LARGEST].id) != 0)
        lead = -lead;
    if (w->op == 'r' || (w->op == 'd' && !w->nonfinite))
        value_set_real(&tick, metrics, "val_error", w->value + lead);
    if (w->op == 'd') {
        value_set_string(&tick, m, "state", w->state);
        value_set_string(&tick, m, "code", w->code);
    }
    if (w->op == 'r' && w->step % 2 == 0)
        value_set_bool(&tick, m, "boundary", true);
    if (w->op == 'r' || w->op == 'd')
        value_set(&tick, m, "metrics", metrics);
    return m;
}

struct heard {
    struct wire w;
    enum status st;
    const struct value *reply;
};

/* Another searcher chose the points of the trials that were just given; whether there were any. */
static bool drift(void) {
    int64_t before = drifted;
    for (size_t i = 0; i < out.count; i++) {
        const struct outgoing *o = &out.items[i];
        struct value *point = value_get(o->message, "hyperparameters");
        if (o->kind != OUT_EVENT || value_get_int(o->message, "epoch", 0) != 1 ||
            value_get(point, "lr") == NULL)
            continue;
        value_set_real(&tick, point, "lr", DRIFTED + (double)upto(1000) / 1e6);
        drifted++;
    }
    return drifted > before;
}

/* One batch: requests, step, store, tell. A crash may fall between any two of them. */
static void coordinate(void) {
    static struct heard heard[WIRE_MAX];
    size_t n = 0;
    struct err err = {.status = STATUS_OK};
    arena_clear(&tick);
    out = (struct outbox){.arena = &tick};
    for (size_t i = 0; i < wire_count;) {
        if (wire[i].at_ms > now_ms) {
            i++;
            continue;
        }
        struct wire w = wire[i];
        wire[i] = wire[--wire_count];
        struct value *reply = NULL;
        enum status st = coordinator_handle(turn(), request_of(&w), &reply, &err);
        assert(st == STATUS_OK || st == STATUS_CONFLICT || st == STATUS_NOT_FOUND);
        refused += st == STATUS_CONFLICT;
        heard[n++] = (struct heard){.w = w, .st = st, .reply = reply};
    }
    must(coordinator_step(turn(), &err), &err);
    if (stormy() && chance(0.0025)) { /* before the events are stored, or the tracker refuses */
        crash();
        return;
    }
    /* Points that are not ours are in the log; we never knew others. */
    if (stormy() && chance(drifted == 0 ? 1.0 : 0.005) && drift()) {
        append_events();
        crash();
        return;
    }
    append_events();
    if (stormy() && chance(0.0025)) { /* stored, but nobody was told */
        compare_with_twin();
        crash();
        return;
    }
    for (size_t i = 0; i < n; i++)
        on_answer(&groups[heard[i].w.group], &heard[i].w, heard[i].st, heard[i].reply);
    for (size_t i = 0; i < out.count; i++)
        if (out.items[i].kind == OUT_NOTICE)
            on_notice(out.items[i].to, out.items[i].message);
}

static void fate(void) {
    struct err err;
    for (size_t i = 0; i < group_count; i++) {
        struct sim_group *g = &groups[i];
        if (g->alive && stormy() && chance(0.0004)) {
            deaths++;
            g->alive = false;
            if (chance(0.5)) { /* the launcher sees it */
                arena_clear(&tick);
                out = (struct outbox){.arena = &tick};
                must(coordinator_lost(turn(), g->id, "killed by the simulation", &err), &err);
                append_events();
            }
        }
        if (!g->alive && chance(0.01))
            born(g, g->ranks);
    }
}

/* ---- sweeps ---- */

static const char *const sweep_texts[SWEEPS] = {
    "{name: random, hyperparameters: {lr: {type: log, minval: 1.0e-4, maxval: 1.0}, n: {type: int, "
    "minval: 1, maxval: 64}}, searcher: {name: random, max_trials: 3900, max_time: 8}, resources: "
    "{slots_per_trial: 1, max_slots: 300}, max_restarts: 3, ",
    "{name: grid, hyperparameters: {lr: {type: log, minval: 1.0e-4, maxval: 1.0, count: 20}, act: "
    "{type: categorical, vals: [relu, gelu]}, d: {type: double, minval: 0.1, maxval: 0.5, count: "
    "9, "
    "when: {act: relu}}}, searcher: {name: grid, max_time: 8}, resources: {slots_per_trial: 2, "
    "max_slots: 300, priority: 10}, max_restarts: 5, ",
    "{name: single, searcher: {name: single, max_time: 8, metric_of: best}, max_restarts: 5, ",
    "{name: largest, hyperparameters: {lr: {type: double, minval: 0.0, maxval: 1.0}}, searcher: "
    "{name: random, max_trials: 2000, max_time: 8, smaller_is_better: false, "
    "metric_of: best}, resources: "
    "{slots_per_trial: 2, max_slots: 400, priority: 60}, max_restarts: 2, ",
};

/* Some are ranked by their last evaluation, some by their best. */
static bool by_best(size_t i) {
    return i >= 2;
}

static void submit(size_t i) {
    static const char rest[] =
        "data: {train: {format: npy, images: a, labels: b}, validation_split: 0.2}, model: "
        "[{dense: "
        "{out: 2}}], training: {loss: cross_entropy, optimizer: {name: sgd, lr: 0.1}, "
        "global_batch_size: 8}}";
    struct err err;
    char text[2048];
    struct value *config = NULL, *reply = NULL;
    (void)snprintf(text, sizeof text, "%s%s", sweep_texts[i], rest);
    arena_clear(&tick);
    out = (struct outbox){.arena = &tick};
    must(yaml_parse(&tick, text, strlen(text), "sim", &config, &err), &err);
    struct value *m = message_request(&tick, "sweep.submit", "1");
    value_set_string(&tick, m, "sweep", logs[i].id);
    value_set(&tick, m, "config", config);
    must(coordinator_handle(turn(), m, &reply, &err), &err);
    append_events();
}

static const struct value *status_of(size_t i) {
    struct err err;
    struct value *reply = NULL;
    arena_clear(&tick);
    out = (struct outbox){.arena = &tick};
    struct value *m = message_request(&tick, "sweep.status", "1");
    value_set_string(&tick, m, "sweep", logs[i].id);
    must(coordinator_handle(turn(), m, &reply, &err), &err);
    return value_get(reply, "sweep");
}

static bool all_over(void) {
    for (size_t i = 0; i < SWEEPS; i++)
        if (strcmp(value_get_string(status_of(i), "state", ""), "active") == 0)
            return false;
    return true;
}

/* ---- judgement: from the logs alone, and from the final state ---- */

/* All attempts at a trial have its first point, whoever chose it. */
static void judge_point(struct log *l, int64_t trial, const struct value *hyperparameters) {
    struct buf text = BUF_INIT(65536);
    struct err err;
    must(json_dump(hyperparameters, JSON_COMPACT, &text, &err), &err);
    if (l->points[trial] == NULL)
        l->points[trial] = strdup(buf_text(&text));
    assert(strcmp(l->points[trial], buf_text(&text)) == 0);
    buf_release(&text);
}

/* Every trial's story: leases one after the other with rising epochs, nothing from another epoch,
 * nothing after the end. */
static void judge_log(struct log *l) {
    struct arena a;
    struct err err;
    arena_init(&a, (size_t)64 << 20);
    int64_t *epoch = calloc(TRIALS_MAX + 1, sizeof *epoch);
    bool *open = calloc(TRIALS_MAX + 1, sizeof *open);
    bool *final = calloc(TRIALS_MAX + 1, sizeof *final);
    for (size_t k = 0; k < l->count; k++) {
        struct value *e = NULL;
        arena_clear(&a);
        must(json_parse(&a, l->events[k], strlen(l->events[k]), "log", &e, &err), &err);
        const char *name = value_get_string(e, "event", "");
        int64_t t = value_get_int(e, "trial", 0), ep = value_get_int(e, "epoch", 0);
        if (strncmp(name, "trial.", 6) != 0)
            continue;
        assert(t >= 1 && t <= TRIALS_MAX && !final[t]);
        if (strcmp(name, "trial.assigned") == 0) {
            assert(!open[t] && ep > epoch[t]);
            judge_point(l, t, value_get(e, "hyperparameters"));
            open[t] = true;
            epoch[t] = ep;
            continue;
        }
        assert(open[t] && ep == epoch[t]);
        if (strcmp(name, "trial.ended") != 0)
            continue;
        open[t] = false;
        const char *state = value_get_string(e, "state", "");
        final[t] = strcmp(state, "completed") == 0 || strcmp(state, "stopped") == 0;
    }
    for (int64_t t = 1; t <= TRIALS_MAX; t++)
        assert(!open[t]);
    free(epoch);
    free(open);
    free(final);
    arena_release(&a);
}

static void judge_result(size_t i) {
    const struct value *s = status_of(i), *trials = value_get(s, "trials");
    int64_t completed = 0, failed = 0, best = 0;
    double best_value = 0;
    bool smaller = value_get_bool(s, "smaller_is_better", true);
    assert((int64_t)trials->count == value_get_int(s, "planned", 0));
    assert(value_get_int(s, "finished", 0) == value_get_int(s, "planned", 0));
    for (size_t k = 0; k < trials->count; k++) {
        const struct value *t = trials->items[k];
        double want = result_of(value_get(t, "hyperparameters"));
        judge_point(&logs[i], (int64_t)k + 1, value_get(t, "hyperparameters"));
        bool ok = strcmp(value_get_string(t, "state", ""), "completed") == 0;
        assert(ok || strcmp(value_get_string(t, "state", ""), "failed") == 0);
        completed += ok;
        failed += !ok;
        if (want < 0.04)
            assert(!ok); /* invalid or not finite, whoever ran it */
        if (!ok)
            continue;
        double got = value_get_real(t, "metric", -1), ahead = smaller ? -BEST_LEAD : BEST_LEAD;
        /* A function of the point, whatever happened on the way. */
        assert(got == want + (by_best(i) ? ahead : 0.0));
        assert(value_at(t, "best.metric")->real == want + ahead);
        assert(value_at(t, "best.step")->integer == BEST_STEP);
        if (best == 0 || (smaller ? got < best_value : got > best_value)) {
            best = value_get_int(t, "trial", 0);
            best_value = got;
        }
    }
    if (best > 0) {
        assert(value_at(s, "best.trial")->integer == best);
        assert(value_at(s, "best.metric")->real == best_value);
        assert(!by_best(i) || value_at(s, "best.step")->integer == BEST_STEP);
    }
    printf("  %-8s %s: %lld completed, %lld failed, %zu events\n", value_get_string(s, "name", ""),
           value_get_string(s, "state", ""), (long long)completed, (long long)failed,
           logs[i].count);
}

/* ---- the run ---- */

static void simulate(void **state) {
    (void)state;
    const char *seed = getenv("SIM_SEED"), *many = getenv("SIM_GROUPS");
    uint64_t s = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
    struct err err;
    rng_state = s;
    printf("SIM_SEED=%llu\n", (unsigned long long)s);
    (void)fflush(stdout);
    group_count = many != NULL ? (size_t)strtoul(many, NULL, 10) : GROUPS_DEFAULT;
    groups = calloc(group_count, sizeof *groups);
    wire = calloc(WIRE_MAX, sizeof *wire);
    arena_init(&tick, (size_t)512 << 20);
    must(coordinator_new(&options, &core, &err), &err);
    for (size_t i = 0; i < group_count; i++)
        born(&groups[i], i % 2 == 0 ? 1 : 2);
    for (size_t i = 0; i < SWEEPS; i++) {
        new_id(logs[i].id);
        submit(i);
    }
    int64_t ticks = 0;
    for (now_ms = STEP_MS; now_ms < END_MS; now_ms += STEP_MS, ticks++) {
        for (size_t i = 0; i < group_count; i++)
            live(i);
        fate();
        coordinate();
        if (ticks % 100 == 0)
            coordinator_check(core);
        if (ticks % 50 == 0 && all_over())
            break;
    }
    assert(all_over());
    compare_with_twin();
    coordinator_check(core);
    for (size_t i = 0; i < SWEEPS; i++) {
        judge_log(&logs[i]);
        judge_result(i);
    }
    assert(slots_most > SLOTS_MAX * 8 / 10 || group_count < GROUPS_DEFAULT);
    printf("  %zu groups, %lld s simulated, %lld deaths, %lld crashes, %lld twins, %lld messages "
           "lost, %lld doubled, %lld fenced, %lld points of another searcher, %lld slots\n",
           group_count, (long long)now_ms / 1000, (long long)deaths, (long long)crashes,
           (long long)twins, (long long)lost_messages, (long long)doubled, (long long)refused,
           (long long)drifted, (long long)slots_most);
    assert(drifted > 0);
    coordinator_destroy(&core);
    for (size_t i = 0; i < SWEEPS; i++) {
        for (size_t k = 0; k < logs[i].count; k++)
            free(logs[i].events[k]);
        for (size_t t = 0; t <= TRIALS_MAX; t++)
            free(logs[i].points[t]);
        free(logs[i].events);
    }
    arena_release(&tick);
    free(groups);
    free(wire);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(simulate)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
