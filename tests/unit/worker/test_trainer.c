/* The trainer on one rank: hand-made steps, checkpoints, digests, refusals. (Several ranks:
 * test_exchange and tests/e2e/test_worker_exact.py.) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"
#include "core/path.h"
#include "core/philox.h"
#include "core/safetensors.h"
#include "tests/unit/cmocka_all.h"
#include "worker/group/manifest.h"
#include "worker/group/trial.h"
#include "worker/group/warm.h"

#define ARENA_MAX ((size_t)16 << 20)
#define ROWS      200

struct fixture {
    struct worker worker;
    struct arena arena;
    char dir[64], csv[128];
};

/* Two clouds of points: y = (x0 + x1 > 0), with a third column of noise. */
static void write_csv(const struct fixture *f) {
    struct buf text = BUF_INIT(ARENA_MAX);
    buf_adds(&text, "a,b,c,y\n");
    for (uint64_t i = 0; i < ROWS; i++) {
        struct philox4 p = philox(3, 0, i), q = philox(3, 1, i);
        double a = philox_double(p.v[0], p.v[1]) - 0.5, b = philox_double(p.v[2], p.v[3]) - 0.5;
        buf_addf(&text, "%.6f,%.6f,%.6f,%d\n", a, b, philox_double(q.v[0], q.v[1]), a + b > 0);
    }
    assert_int_equal(path_write(f->csv, text.data, text.len, 0600, NULL), STATUS_OK);
    buf_release(&text);
}

static int setup(void **state) {
    static volatile sig_atomic_t never;
    struct fixture *f = calloc(1, sizeof *f);
    struct err err;
    f->worker.terminate = &never;
    arena_init(&f->arena, ARENA_MAX);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/trireme-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->csv, sizeof f->csv, "%s/points.csv", f->dir);
    write_csv(f);
    assert_int_equal(world_open(&f->worker.world, &err), STATUS_OK);
    f->worker.device_name = "cpu";
    f->worker.cache_bytes = ARENA_MAX;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    (void)unlink(f->csv);
    (void)rmdir(f->dir);
    worker_close_device(&f->worker);
    world_close(&f->worker.world);
    arena_release(&f->arena);
    free(f);
    return 0;
}

/* `training` is added to the map of that name, `more` to the root. */
static struct value *config(struct fixture *f, const char *training, const char *more) {
    struct value *v = NULL;
    struct err err = {0};
    char *text = arena_printf(
        &f->arena,
        "{\"seed\":7,\"virtual_shards\":4,\"max_time\":4,\"data\":{\"train\":{\"format\":\"csv\","
        "\"file\":\"%s\",\"header\":true,\"label\":\"y\"},\"validation_split\":0.2},\"model\":["
        "{\"dense\":{\"out\":8}},\"batch_norm\",\"relu\",{\"dense\":{\"out\":2}}],\"training\":{"
        "\"loss\":\"cross_entropy\",\"global_batch_size\":32,\"optimizer\":{\"name\":\"adam\","
        "\"lr\":0.05}%s}%s}",
        f->csv, training, more);
    if (json_parse(&f->arena, text, strlen(text), "config", &v, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return v;
}

static struct trainer *trainer_of(struct fixture *f, struct value *v) {
    struct trainer *t = NULL;
    struct err err = {0};
    if (worker_trainer(&f->worker, &(struct worker_trial){.config = v}, &t, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return t;
}

static void run_on(struct fixture *f, struct trainer *t, struct progress *progress, int64_t limit,
                   struct trial *out) {
    struct err err = {0};
    *out = (struct trial){.trainer = t,
                          .world = f->worker.world,
                          .progress = progress,
                          .step_limit = limit,
                          .evaluate = true};
    if (trial_run(out, &err) != STATUS_OK)
        fail_msg("%s", err.text);
}

static void run(struct fixture *f, struct trainer *t, struct trace *trace, int64_t limit,
                struct trial *out) {
    struct progress progress = {.trace = trace};
    run_on(f, t, &progress, limit, out);
    out->progress = NULL;
}

static void test_learns(void **state) {
    struct fixture *f = *state;
    struct trainer *t = trainer_of(f, config(f, ",\"clip_norm\":5.0", ""));
    struct trace trace;
    struct trial trial;
    assert_int_equal(trace_init(&trace, 100, 10, NULL), STATUS_OK);
    assert_int_equal(trainer_steps_per_epoch(t), 5);
    assert_int_equal(trainer_steps_total(t), 20);
    run(f, t, &trace, 0, &trial);
    assert_int_equal(trial.outcome, TRIAL_COMPLETED);
    assert_int_equal(trainer_steps(t), 20);
    assert_int_equal(trace.count, 20);
    assert_int_equal(trace.mark_count, 1);
    double error = 1, norm = 0;
    for (int i = 0; i < trial.metrics.count; i++) {
        if (strcmp(trial.metrics.items[i].key, "val_error") == 0)
            error = trial.metrics.items[i].value;
        if (strcmp(trial.metrics.items[i].key, "grad_norm") == 0)
            norm = trial.metrics.items[i].value;
    }
    assert_true(error < 0.3);
    assert_true(norm > 0 && norm < 100);
    trace_release(&trace);
    trainer_destroy(&t);
}

/* The first step's norm, from the weights that plain SGD with rate 1 moves by the gradient. */
static void test_clipping(void **state) {
    struct fixture *f = *state;
    const char *sgd = "\"optimizer\":{\"name\":\"sgd\",\"lr\":1.0}";
    struct value *v = config(f, "", ""), *w = config(f, ",\"clip_norm\":0.01", "");
    struct err err;
    struct value *plain = NULL;
    char *text = arena_printf(&f->arena, "{%s}", sgd);
    assert_int_equal(json_parse(&f->arena, text, strlen(text), "x", &plain, &err), STATUS_OK);
    for (int i = 0; i < 2; i++)
        value_set(&f->arena, value_get(i ? w : v, "training"), "optimizer",
                  value_get(plain, "optimizer"));
    struct trainer *t = trainer_of(f, v);
    const struct model *m = trainer_model(t);
    struct step_result r;
    float *before = calloc((size_t)m->flat_count, sizeof *before);
    memcpy(before, trainer_weights(t), (size_t)m->flat_count * sizeof *before);
    assert_int_equal(trainer_step(t, false, &r, &err), STATUS_OK);
    double sum = 0;
    for (int i = 0; i < m->param_count; i++)
        for (int64_t k = m->params[i].offset; k < m->params[i].offset + m->params[i].count; k++)
            if (m->params[i].kind != PARAM_STAT)
                sum += pow((double)before[k] - (double)trainer_weights(t)[k], 2);
    trainer_destroy(&t);
    t = trainer_of(f, w);
    m = trainer_model(t);
    assert_int_equal(trainer_step(t, false, &r, &err), STATUS_OK);
    assert_true(fabs(r.grad_norm / sqrt(sum) - 1) < 1e-4);
    double moved = 0;
    for (int i = 0; i < m->param_count; i++)
        for (int64_t k = m->params[i].offset; k < m->params[i].offset + m->params[i].count; k++)
            if (m->params[i].kind != PARAM_STAT)
                moved += pow((double)before[k] - (double)trainer_weights(t)[k], 2);
    assert_true(fabs(sqrt(moved) / 0.01 - 1) < 1e-3);
    free(before);
    trainer_destroy(&t);
}

/* A checkpoint behind step `at`, and from it to the end: nothing differs from `whole`, the trial that
 * nothing interrupted. */
static void goes_on(struct fixture *f, struct value *v, int64_t at, const struct trial *whole,
                    const struct progress *then) {
    struct trial first, second;
    struct trace b, c;
    struct progress before = {.trace = &b}, after = {.trace = &c};
    struct buf bytes = BUF_INIT(ARENA_MAX);
    struct checkpoint_about about;
    struct err err = {0};
    assert_int_equal(trace_init(&b, 0, 0, NULL), STATUS_OK);
    assert_int_equal(trace_init(&c, 0, 0, NULL), STATUS_OK);
    struct trainer *t = trainer_of(f, v);
    run_on(f, t, &before, at, &first);
    assert_int_equal(trainer_steps(t), at);
    assert_int_equal(checkpoint_write(t, &before, &bytes, &err), STATUS_OK);
    trainer_destroy(&t);
    assert_int_equal(checkpoint_about(bytes.data, bytes.len, &about, &err), STATUS_OK);
    assert_true(about.step == at && about.best.step == before.best.step && !about.whole_trace);
    t = trainer_of(f, v);
    assert_int_equal(checkpoint_read(t, bytes.data, bytes.len, &after, &err), STATUS_OK);
    assert_int_equal(trainer_steps(t), at);
    assert_true(c.first == at && c.count == at);
    assert_memory_equal(&after.best, &before.best, sizeof after.best);
    struct digest weights, state;
    assert_int_equal(trainer_digest(t, &weights, &state, &err), STATUS_OK);
    assert_memory_equal(&weights, &first.weights, sizeof weights);
    assert_memory_equal(&state, &first.state, sizeof state); /* every slot, in every bucket */
    run_on(f, t, &after, 0, &second);
    assert_memory_equal(&whole->weights, &second.weights, sizeof whole->weights);
    assert_memory_equal(&whole->state, &second.state, sizeof whole->state);
    assert_memory_equal(&then->trace->chain, &c.chain, sizeof c.chain);
    assert_memory_equal(&then->best, &after.best, sizeof after.best);
    assert_memory_not_equal(&whole->weights, &first.weights, sizeof whole->weights);
    trainer_destroy(&t);
    buf_release(&bytes);
    trace_release(&b);
    trace_release(&c);
}

static void test_checkpoint_goes_on(void **state) {
    struct fixture *f = *state;
    struct trial whole;
    struct trace a;
    struct progress then = {.trace = &a};
    struct value *v = config(f, "", ",\"metric\":\"val_loss\"");
    assert_int_equal(trace_init(&a, 0, 0, NULL), STATUS_OK);
    struct trainer *t = trainer_of(f, v);
    run_on(f, t, &then, 0, &whole);
    trainer_destroy(&t);
    for (int64_t at = 1; at < 20; at += 4)
        goes_on(f, v, at, &whole, &then);
    trace_release(&a);
}

/* A net of several buckets: each has slots of its own, and all of them come back. */
static void test_checkpoint_of_buckets(void **state) {
    struct fixture *f = *state;
    struct trial whole;
    struct trace a;
    struct progress then = {.trace = &a};
    struct value *v = config(f, "", ""), *model = NULL;
    struct err err = {0};
    static const char layers[] = "[{\"dense\":300},\"relu\",{\"dense\":300},\"batch_norm\","
                                 "\"relu\",{\"dense\":300},{\"dense\":2}]";
    assert_int_equal(json_parse(&f->arena, layers, sizeof layers - 1, "model", &model, &err),
                     STATUS_OK);
    value_set(&f->arena, v, "model", model);
    value_set_int(&f->arena, v, "max_time", 1);
    value_set_real(&f->arena, value_get(v, "training"), "clip_norm", 1.0);
    assert_int_equal(trace_init(&a, 0, 0, NULL), STATUS_OK);
    struct trainer *t = trainer_of(f, v);
    assert_true(value_at(trainer_describe(&f->arena, t), "engine.buckets")->integer > 2);
    run_on(f, t, &then, 0, &whole);
    trainer_destroy(&t);
    goes_on(f, v, 3, &whole, &then);
    trace_release(&a);
}

/* What is said of a trainer that takes nothing is what is said of one that can train. */
static void test_planned(void **state) {
    struct fixture *f = *state;
    struct value *v = config(f, "", ""), *model = NULL;
    struct trainer *plan = NULL, *real;
    struct err err = {0};
    static const char layers[] = "[{\"dense\":300},\"batch_norm\",\"gelu\",{\"dropout\":0.2},"
                                 "{\"dense\":300},\"relu\",{\"dense\":2}]";
    assert_int_equal(json_parse(&f->arena, layers, sizeof layers - 1, "model", &model, &err),
                     STATUS_OK);
    value_set(&f->arena, v, "model", model);
    real = trainer_of(f, v);
    struct worker_trial planned = {.config = v, .planned = true};
    assert_int_equal(worker_trainer(&f->worker, &planned, &plan, &err), STATUS_OK);
    assert_true(value_equal(trainer_describe(&f->arena, plan), trainer_describe(&f->arena, real)));
    trainer_destroy(&plan);
    trainer_destroy(&real);
}

/* Another seed is another run; a cut file is none. */
static void test_checkpoint_refused(void **state) {
    struct fixture *f = *state;
    struct trace a;
    struct trial first;
    struct progress p = {.trace = &a}, none = {0};
    struct buf bytes = BUF_INIT(ARENA_MAX);
    struct checkpoint_about about;
    struct err err = {0};
    assert_int_equal(trace_init(&a, 0, 0, NULL), STATUS_OK);
    struct trainer *t = trainer_of(f, config(f, "", ""));
    run_on(f, t, &p, 13, &first);
    assert_int_equal(checkpoint_write(t, &p, &bytes, &err), STATUS_OK);
    trainer_destroy(&t);
    t = trainer_of(f, config(f, "", ",\"digest_every\":3"));
    assert_int_equal(checkpoint_read(t, bytes.data, bytes.len, &none, &err), STATUS_CONFLICT);
    for (size_t len = 0; len < bytes.len; len += 251) {
        assert_int_not_equal(checkpoint_read(t, bytes.data, len, &none, &err), STATUS_OK);
        assert_int_not_equal(checkpoint_about(bytes.data, len, &about, &err), STATUS_OK);
    }
    assert_int_equal(trainer_steps(t), 0);
    trainer_destroy(&t);
    buf_release(&bytes);
    trace_release(&a);
}

struct seen {
    struct trainer *t;
    struct best last;
    double values[64];
    int64_t reports, improvements;
};

static void see_best(void *arg, const struct best *b) {
    struct seen *s = arg;
    struct digest now;
    hash_bytes(trainer_weights(s->t), (size_t)trainer_model(s->t)->flat_count * sizeof(float),
               &now);
    assert_memory_equal(&now, &b->weights, sizeof now);
    assert_int_equal(b->step, trainer_steps(s->t));
    s->last = *b;
    s->improvements++;
}

static void see_metric(void *arg, const char *key, int64_t step, double value) {
    struct seen *s = arg;
    (void)step;
    if (strcmp(key, "val_loss") == 0)
        s->values[s->reports++] = value;
}

/* The best is the first that no other beats, whichever way the metric counts. */
static void test_best(void **state) {
    struct fixture *f = *state;
    for (int smaller = 0; smaller < 2; smaller++) {
        struct seen seen = {0};
        struct trace a;
        struct progress p = {.trace = &a};
        struct err err = {0};
        assert_int_equal(trace_init(&a, 0, 0, NULL), STATUS_OK);
        seen.t =
            trainer_of(f, config(f, "",
                                 smaller ? ",\"metric\":\"val_loss\""
                                         : ",\"metric\":\"val_loss\",\"smaller_is_better\":false"));
        struct trial trial = {.trainer = seen.t,
                              .world = f->worker.world,
                              .progress = &p,
                              .evaluate = true,
                              .hooks = {.arg = &seen, .best = see_best, .metric = see_metric}};
        assert_int_equal(trial_run(&trial, &err), STATUS_OK);
        int64_t best = 0;
        for (int64_t i = 1; i < seen.reports; i++)
            if (smaller ? seen.values[i] < seen.values[best] : seen.values[i] > seen.values[best])
                best = i;
        assert_int_equal(seen.reports, 4);
        assert_int_equal(p.best.step, (best + 1) * 5);
        assert_true(p.best.value == seen.values[best]);
        assert_memory_equal(&p.best, &seen.last, sizeof p.best);
        trainer_destroy(&seen.t);
        trace_release(&a);
    }
}

static void test_what_is_better(void **state) {
    (void)state;
    struct best none = {0}, three = {.step = 5, .value = 3}, lost = {.unknown = true}, back;
    struct fixture *f = *state;
    struct value *m = value_map(&f->arena);
    struct err err = {0};
    assert_true(best_improves(&none, 1e300, true) && best_improves(&none, -1e300, false));
    assert_false(best_improves(&none, (double)NAN, true));
    assert_false(best_improves(&none, (double)INFINITY, false));
    assert_false(best_improves(&three, 3, true) || best_improves(&three, 3, false)); /* the first */
    assert_true(best_improves(&three, 2, true) && best_improves(&three, 4, false));
    assert_false(best_improves(&three, (double)-INFINITY, true) || best_improves(&lost, 1, true));
    three.value = 0.1;
    best_set(&f->arena, &three, m);
    assert_int_equal(best_get(m, &back, &err), STATUS_OK);
    assert_memory_equal(&back, &three, sizeof back);
    value_set_string(&f->arena, m, "best_value", "nan");
    assert_int_equal(best_get(m, &back, &err), STATUS_CORRUPT);
    best_set(&f->arena, &lost, m);
    assert_int_equal(best_get(m, &back, &err), STATUS_OK);
    assert_true(back.unknown);
    assert_int_equal(best_get(value_map(&f->arena), &back, &err), STATUS_OK); /* format 1 */
    assert_true(back.unknown);
    best_set(&f->arena, &none, m);
    assert_int_equal(best_get(m, &back, &err), STATUS_OK);
    assert_true(back.step == 0 && !back.unknown);
}

static void test_weights_by_name(void **state) {
    struct fixture *f = *state;
    struct trainer *t = trainer_of(f, config(f, "", ""));
    const struct model *m = trainer_model(t);
    struct buf bytes = BUF_INIT(ARENA_MAX), fewer = BUF_INIT(ARENA_MAX);
    struct err err = {0};
    struct tensors file;
    float *flat = calloc((size_t)m->flat_count, sizeof *flat);
    assert_int_equal(checkpoint_write_weights(t, NULL, &bytes, &err), STATUS_OK);
    assert_int_equal(safetensors_read(&f->arena, bytes.data, bytes.len, &file, &err), STATUS_OK);
    assert_int_equal(file.count, 8);
    assert_non_null(safetensors_find(file.list, file.count, "1.running_var"));
    assert_int_equal(checkpoint_read_weights(m, bytes.data, bytes.len, flat, &err), STATUS_OK);
    assert_memory_equal(flat, trainer_weights(t), (size_t)m->flat_count * sizeof *flat);
    assert_int_equal(safetensors_write(&fewer, file.list, file.count - 1, NULL, &err), STATUS_OK);
    assert_int_equal(checkpoint_read_weights(m, fewer.data, fewer.len, flat, &err), STATUS_INVALID);
    assert_string_equal(err.text, "tensor 3.bias is missing");
    free(flat);
    buf_release(&bytes);
    buf_release(&fewer);
    trainer_destroy(&t);
}

static bool stop_at_once(void *arg) {
    return ++*(int *)arg > 3;
}

static void test_stop_flag(void **state) {
    struct fixture *f = *state;
    struct trainer *t = trainer_of(f, config(f, "", ""));
    struct err err;
    int asked = 0;
    struct progress progress = {0};
    struct trial trial = {.trainer = t,
                          .world = f->worker.world,
                          .progress = &progress,
                          .hooks = {.arg = &asked, .stop = stop_at_once}};
    assert_int_equal(trial_run(&trial, &err), STATUS_OK);
    assert_int_equal(trial.outcome, TRIAL_LEFT);
    assert_int_equal(trainer_steps(t), 4);
    trainer_destroy(&t);
}

/* Told to end at a step after which the trial is evaluated: it is evaluated first, since whoever goes on begins with
 * the next step. Told at the last step, it is complete. */
struct leaver {
    int64_t at, step, evaluated;
};

static bool leave_at(void *arg) {
    struct leaver *l = arg;
    return ++l->step >= l->at;
}

static void note_evaluation(void *arg, const char *key, int64_t step, double value) {
    struct leaver *l = arg;
    (void)value;
    if (strcmp(key, "val_error") == 0)
        l->evaluated = step;
}

static enum trial_outcome left_at(struct fixture *f, int64_t at, int64_t *evaluated) {
    struct trainer *t =
        trainer_of(f, config(f, ",\"eval_every\":1", ",\"time_metric\":\"epochs\""));
    struct progress progress = {0};
    struct err err;
    int64_t epoch = trainer_steps_per_epoch(t);
    struct leaver l = {.at = at > 0 ? at : epoch * -at};
    struct trial trial = {.trainer = t,
                          .world = f->worker.world,
                          .progress = &progress,
                          .evaluate = true,
                          .hooks = {.arg = &l, .stop = leave_at, .metric = note_evaluation}};
    assert_int_equal(trial_run(&trial, &err), STATUS_OK);
    assert_int_equal(trainer_steps(t), l.at);
    *evaluated = l.evaluated;
    trainer_destroy(&t);
    return trial.outcome;
}

static void test_stop_where_it_is_evaluated(void **state) {
    struct fixture *f = *state;
    int64_t evaluated = 0;
    assert_int_equal(left_at(f, 1, &evaluated), TRIAL_LEFT);
    assert_int_equal(evaluated, 0);
    assert_int_equal(left_at(f, -2, &evaluated), TRIAL_LEFT);
    assert_true(evaluated > 0 && evaluated % 2 == 0);
    assert_int_equal(left_at(f, -4, &evaluated), TRIAL_COMPLETED);
    assert_true(evaluated > 0 && evaluated % 4 == 0);
}

static void test_not_finite(void **state) {
    struct fixture *f = *state;
    struct value *v = config(f, "", "");
    struct value *list = value_list(&f->arena), *map = value_map(&f->arena);
    value_set_real(&f->arena, map, "scale", 1e38);
    value_push(&f->arena, list, map);
    value_push(&f->arena, list, map);
    value_set(&f->arena, value_get(v, "data"), "transforms", list);
    struct trainer *t = trainer_of(f, v);
    struct err err = {0};
    struct step_result r;
    float *before = malloc((size_t)trainer_model(t)->flat_count * sizeof(float));
    memcpy(before, trainer_weights(t), (size_t)trainer_model(t)->flat_count * sizeof(float));
    assert_int_equal(trainer_step(t, false, &r, &err), STATUS_NONFINITE);
    assert_non_null(strstr(err.text, "step 1: "));
    assert_non_null(strstr(err.text, "model[0] dense"));
    assert_int_equal(trainer_steps(t), 0);
    assert_memory_equal(before, trainer_weights(t),
                        (size_t)trainer_model(t)->flat_count * sizeof(float));
    free(before);
    trainer_destroy(&t);
}

/* No layer is to blame where the outputs are finite: the loss is, and the message says what to do. */
static void test_squares_overflow(void **state) {
    struct fixture *f = *state;
    char csv[160];
    struct buf text = BUF_INIT(ARENA_MAX);
    struct err err = {0};
    (void)snprintf(csv, sizeof csv, "%s/big.csv", f->dir);
    buf_adds(&text, "a,b,c,y\n");
    for (int i = 0; i < ROWS; i++)
        buf_addf(&text, "%d,1,2,%de22\n", i % 7, 1 + i % 5);
    assert_int_equal(path_write(csv, text.data, text.len, 0600, NULL), STATUS_OK);
    struct value *v = config(f, "", ""), *train = value_at(v, "data.train"),
                 *last = value_map(&f->arena);
    value_set_string(&f->arena, train, "file", csv);
    value_set_string(&f->arena, train, "task", "regress");
    value_set_string(&f->arena, value_get(v, "training"), "loss", "mse");
    value_set_int(&f->arena, last, "dense", 1);
    value_get(v, "model")->items[3] = last;
    struct trainer *t = trainer_of(f, v);
    struct step_result r;
    assert_int_equal(trainer_step(t, false, &r, &err), STATUS_NONFINITE);
    if (strstr(err.text, "step 1: loss is not finite; the outputs are finite") == NULL ||
        strstr(err.text, "scale the targets down") == NULL)
        fail_msg("%s", err.text);
    trainer_destroy(&t);
    (void)unlink(csv);
    buf_release(&text);
}

/* Over several chunks, each row once: loss and error beside the softmax of the same weights in double. */
static void test_evaluation(void **state) {
    struct fixture *f = *state;
    enum { MANY = 2500 };
    static double rows[MANY][2];
    static int labels[MANY];
    char csv[160];
    struct buf text = BUF_INIT(ARENA_MAX);
    struct err err = {0};
    struct value *v = config(f, "", ""), *model = value_list(&f->arena);
    (void)snprintf(csv, sizeof csv, "%s/many.csv", f->dir);
    buf_adds(&text, "a,b,y\n");
    for (int i = 0; i < MANY; i++) {
        rows[i][0] = (i * 37 % 101 - 50) / 64.0;
        rows[i][1] = (i * 53 % 97 - 48) / 64.0;
        labels[i] = i % 3 == 0;
        buf_addf(&text, "%.6f,%.6f,%d\n", rows[i][0], rows[i][1], labels[i]);
    }
    assert_int_equal(path_write(csv, text.data, text.len, 0600, NULL), STATUS_OK);
    value_set_string(&f->arena, (struct value *)(uintptr_t)value_at(v, "data.train"), "file", csv);
    value_set_real(&f->arena, value_get(v, "data"), "validation_split", 0);
    value_push(&f->arena, model,
               value_set(&f->arena, value_map(&f->arena), "dense", value_int(&f->arena, 2)));
    value_set(&f->arena, v, "model", model);
    struct trainer *t = trainer_of(f, v);
    const float *w = trainer_weights(t) + trainer_model(t)->params[0].offset;
    const float *b = trainer_weights(t) + trainer_model(t)->params[1].offset;
    double loss = 0;
    int wrong = 0;
    for (int i = 0; i < MANY; i++) {
        double z[2];
        for (int o = 0; o < 2; o++)
            z[o] = (double)w[2 * o] * rows[i][0] + (double)w[2 * o + 1] * rows[i][1] + (double)b[o];
        loss += log(exp(z[0]) + exp(z[1])) - z[labels[i]];
        wrong += z[labels[i]] < z[1 - labels[i]];
    }
    struct evaluation e;
    assert_int_equal(trainer_evaluate(t, DATA_TRAIN, &e, &err), STATUS_OK);
    assert_int_equal(e.rows, MANY);
    assert_true(fabs(e.loss - loss / MANY) < 1e-5);
    assert_true(e.error == (double)wrong / MANY);
    assert_int_equal(trainer_evaluate(t, DATA_VALIDATION, &e, &err), STATUS_INVALID);
    trainer_destroy(&t);
    (void)unlink(csv);
    buf_release(&text);
}

/* What digests are of, as trainer.h says it: old runs would stop replaying if it changed. */
static void test_what_is_hashed(void **state) {
    struct fixture *f = *state;
    static const char *const optimizers[] = {"{\"name\":\"sgd\",\"lr\":0.1}",
                                             "{\"name\":\"sgd\",\"lr\":0.1,\"momentum\":0.5}",
                                             "{\"name\":\"adam\",\"lr\":0.1}"};
    static const char layers[] = "[{\"dense\":300},\"relu\",{\"dense\":300},{\"dense\":2}]";
    for (int slots = 0; slots < 3; slots++) {
        struct value *v = config(f, "", ""), *model = NULL, *optimizer = NULL;
        struct err err = {0};
        struct digest weights, all, each, want;
        struct step_result r;
        struct buf digests = BUF_INIT(ARENA_MAX);
        assert_int_equal(json_parse(&f->arena, layers, sizeof layers - 1, "m", &model, &err),
                         STATUS_OK);
        assert_int_equal(json_parse(&f->arena, optimizers[slots], strlen(optimizers[slots]), "o",
                                    &optimizer, &err),
                         STATUS_OK);
        value_set(&f->arena, v, "model", model);
        value_set(&f->arena, value_get(v, "training"), "optimizer", optimizer);
        struct trainer *t = trainer_of(f, v);
        for (int i = 0; i < 2; i++)
            assert_int_equal(trainer_step(t, false, &r, &err), STATUS_OK);
        int64_t count = trainer_slot_count(t), flat = trainer_model(t)->flat_count;
        assert_true(count % NORM_BLOCK == 0 && count >= flat && count < flat + 2 * NORM_BLOCK);
        float *slot[2] = {calloc((size_t)count, sizeof(float)),
                          calloc((size_t)count, sizeof(float))};
        for (int s = 0; s < slots; s++)
            assert_int_equal(trainer_gather_slot(t, s, slot[s], &err), STATUS_OK);
        for (int64_t at = 0; at < count; at += NORM_BLOCK)
            for (int s = 0; s < slots; s++) {
                hash_bytes(slot[s] + at, NORM_BLOCK * sizeof(float), &each);
                buf_add(&digests, each.bytes, DIGEST_BYTES);
            }
        assert_int_equal(trainer_digest(t, &weights, &all, &err), STATUS_OK);
        hash_bytes(digests.len > 0 ? digests.data : "", digests.len, &want);
        assert_memory_equal(&all, &want, sizeof all);
        hash_bytes(trainer_weights(t), (size_t)flat * sizeof(float), &want);
        assert_memory_equal(&weights, &want, sizeof weights);
        free(slot[0]);
        free(slot[1]);
        trainer_destroy(&t);
        buf_release(&digests);
    }
}

static void test_manifest(void **state) {
    struct fixture *f = *state;
    struct trainer *t = trainer_of(f, config(f, "", ""));
    struct buf text = BUF_INIT(4096);
    struct value *m = manifest_make(&f->arena, t, f->worker.world, f->worker.device, NULL);
    assert_false(m->broken);
    assert_int_equal(value_get_int(m, "ranks", 0), 1);
    assert_true(value_equal(value_get(m, "config"), trainer_config(t)->root));
    struct value *other = value_copy(&f->arena, m);
    manifest_differences(m, other, &text);
    assert_int_equal(text.len, 0);
    value_set_string(&f->arena, value_get(other, "libraries"), "onednn", "1.2.3");
    manifest_differences(other, m, &text);
    assert_non_null(strstr(buf_text(&text), "library onednn: 1.2.3 then"));
    buf_release(&text);
    trainer_destroy(&t);
}

/* By exact names and prefixes; what looks like a secret without its value; bytes that are not UTF-8
 * as escapes, so that nothing makes the manifest unsendable. */
static void test_environment(void **state) {
    struct fixture *f = *state;
    static const char *const set[][2] = {
        {"OMPI_MCA_odd", "a\xff\xc3\xa9"},
        {"NCCL_AUTH_TOKEN", "hush"},
        {"CUDA_API_KEY", "hush"},
        {"AWS_SECRET_ACCESS_KEY", "hush"},
        {"SLURM_JOB_ID", "17"},
        {"SLURM_JOB_ID_HUSH", "hush"},
        {"NVIDIA_VISIBLE_DEVICES", "hush"},
        {"HTTPS_PROXY", "hush"},
    };
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++)
        assert_int_equal(setenv(set[i][0], set[i][1], 1), 0);
    struct trainer *t = trainer_of(f, config(f, "", ""));
    struct value *m = manifest_make(&f->arena, t, f->worker.world, f->worker.device, NULL);
    const struct value *e = value_get(m, "environment");
    struct buf text = BUF_INIT((size_t)16 << 20);
    struct err err = {0};
    assert_string_equal(value_get_string(e, "OMPI_MCA_odd", ""), "a\\xff\xc3\xa9");
    assert_string_equal(value_get_string(e, "NCCL_AUTH_TOKEN", ""), "(set)");
    assert_string_equal(value_get_string(e, "CUDA_API_KEY", ""), "(set)");
    assert_string_equal(value_get_string(e, "SLURM_JOB_ID", ""), "17");
    assert_int_equal(json_dump(m, JSON_COMPACT, &text, &err), STATUS_OK);
    assert_null(strstr(buf_text(&text), "hush"));
    assert_null(value_get(e, "AWS_SECRET_ACCESS_KEY"));
    assert_int_equal(manifest_fits(m, &err), STATUS_OK);
    struct value *words = value_list(&f->arena);
    for (int i = 0; i < 30000; i++)
        value_push(&f->arena, words,
                   value_set(&f->arena, value_map(&f->arena), "word",
                             value_string(&f->arena, "a word of a class, and no short one; there "
                                                     "are thirty thousand of them")));
    value_set(&f->arena, value_get(m, "data"), "classes", words);
    assert_int_equal(manifest_fits(m, &err), STATUS_TOO_LARGE);
    assert_non_null(strstr(err.text, "in 'data'"));
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++)
        (void)unsetenv(set[i][0]);
    buf_release(&text);
    trainer_destroy(&t);
}

/* A trial that asks for what is not here costs the next one nothing. */
static void test_missing_device(void **state) {
    struct fixture *f = *state;
    struct err err = {0};
    assert_int_equal(setenv("TRIREME_CUDA_BACKEND", "/nowhere/libtrireme-cuda.so", 1), 0);
    assert_int_equal(worker_device(&f->worker, "auto", &err), STATUS_OK);
    const struct device *device = f->worker.device;
    const struct data_cache *cache = f->worker.cache;
    assert_non_null(device);
    assert_int_equal(worker_device(&f->worker, "cuda", &err), STATUS_UNAVAILABLE);
    assert_non_null(strstr(err.text, "/nowhere/libtrireme-cuda.so"));
    assert_ptr_equal(f->worker.device, device);
    assert_ptr_equal(f->worker.cache, cache);
}

static void test_refusals(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *training, *more, *words;
    } rows[] = {
        {"", ",\"experiment_seed\":1.5", "experiment_seed"},
        {",\"eval_every\":0", "", "eval_every"},
        {",\"precision\":\"bf16\"", "", "fp32 only"},
        {"", ",\"bitwise\":false", "bitwise"},
        {",\"schedule\":{\"name\":\"sine\"}", "", "schedule"},
        {",\"initial_weights\":\"\"", "", "initial_weights"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct trainer *t = NULL;
        struct err err = {0};
        assert_int_equal(worker_trainer(&f->worker,
                                        &(struct worker_trial){
                                            .config = config(f, rows[i].training, rows[i].more)},
                                        &t, &err),
                         STATUS_INVALID);
        assert_null(t);
        if (strstr(err.text, rows[i].words) == NULL)
            fail_msg("'%s' is not in '%s'", rows[i].words, err.text);
    }
    struct value *v = config(f, "", "");
    struct err err = {0};
    struct trainer *t = NULL;
    value_set_int(&f->arena, value_get(v, "training"), "global_batch_size", 4096);
    assert_int_equal(worker_trainer(&f->worker, &(struct worker_trial){.config = v}, &t, &err),
                     STATUS_INVALID);
    assert_string_equal(err.text, "training.global_batch_size is 4096, but there are 160 training "
                                  "samples");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_clipping),
        cmocka_unit_test(test_checkpoint_goes_on),
        cmocka_unit_test(test_checkpoint_of_buckets),
        cmocka_unit_test(test_planned),
        cmocka_unit_test(test_checkpoint_refused),
        cmocka_unit_test(test_best),
        cmocka_unit_test(test_what_is_better),
        cmocka_unit_test(test_weights_by_name),
        cmocka_unit_test(test_stop_flag),
        cmocka_unit_test(test_stop_where_it_is_evaluated),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_squares_overflow),
        cmocka_unit_test(test_evaluation),
        cmocka_unit_test(test_what_is_hashed),
        cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_missing_device),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
