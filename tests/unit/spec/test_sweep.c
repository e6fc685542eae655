/* Sweep files: what is read, each kind of bad input with its words, the search space. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/json.h"
#include "core/yaml.h"
#include "spec/space.h"
#include "spec/sweep.h"

static struct arena arena;
static struct err err;

#define DATA                                                                                       \
    "data:\n"                                                                                      \
    "  train: {format: idx, images: i.gz, labels: l.gz}\n"                                         \
    "  validation_split: 0.2\n"
#define MODEL "model: [{dense: {out: \"${hidden}\"}}, \"${act}\", {dense: {out: 10}}]\n"
#define TRAINING                                                                                   \
    "training: {loss: cross_entropy, optimizer: {name: sgd, lr: \"${lr}\"}, "                      \
    "global_batch_size: 64}\n"
#define SPACE                                                                                      \
    "hyperparameters:\n"                                                                           \
    "  lr: {type: log, minval: 1.0e-3, maxval: 1.0e-1, count: 3}\n"                                \
    "  hidden: {type: int, minval: 8, maxval: 32, count: 3}\n"                                     \
    "  act: {type: categorical, vals: [relu, gelu]}\n"
#define SEARCHER "searcher: {name: random, max_trials: 5, max_time: 2}\n"
#define GOOD     "name: t\n" SPACE SEARCHER DATA MODEL TRAINING

static int setup(void **state) {
    (void)state;
    arena_init(&arena, (size_t)64 << 20);
    memset(&err, 0, sizeof err);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    arena_release(&arena);
    return 0;
}

static enum status parse(const char *text, struct sweep **out) {
    struct value *root = NULL;
    enum status st = yaml_parse(&arena, text, strlen(text), "t.yaml", &root, &err);
    return st == STATUS_OK ? sweep_parse(&arena, root, SPEC_TODAY("t.yaml"), out, &err) : st;
}

static struct sweep *parsed(const char *text) {
    struct sweep *s = NULL;
    enum status st = parse(text, &s);
    if (st != STATUS_OK)
        fail_msg("%s", err.text);
    return s;
}

static const char *dumped(const struct value *v) {
    struct buf b = BUF_INIT(1 << 20);
    assert_int_equal(json_dump(v, JSON_COMPACT, &b, &err), STATUS_OK);
    const char *text = arena_strdup(&arena, buf_text(&b));
    buf_release(&b);
    return text;
}

/* Replaces the first `old` in GOOD. */
static const char *with(const char *old, const char *new) {
    const char *at = strstr(GOOD, old);
    if (at == NULL)
        fail_msg("the test itself: '%s' is not in the file", old);
    return arena_printf(&arena, "%.*s%s%s", (int)(at - GOOD), GOOD, new, at + strlen(old));
}

static void refused(const char *text, const char *words) {
    struct sweep *s = NULL;
    memset(&err, 0, sizeof err);
    enum status st = parse(text, &s);
    if (st != STATUS_INVALID || strstr(err.text, words) == NULL)
        fail_msg("wanted '%s', got %s: '%s'", words, status_name(st), err.text);
    if (strncmp(err.text, "t.yaml:", 7) != 0)
        fail_msg("no place in '%s'", err.text);
}

static void reads_what_is_there(void **state) {
    (void)state;
    struct sweep *s = parsed(GOOD);
    assert_string_equal(s->name, "t");
    assert_string_equal(s->searcher, "random");
    assert_string_equal(s->metric, "val_error");
    assert_true(s->smaller_is_better);
    assert_int_equal(s->max_trials, 5);
    assert_int_equal((int64_t)s->max_time, 2);
    assert_string_equal(s->time_metric, "epochs");
    assert_int_equal(s->slots_per_trial, 1);
    assert_int_equal(s->max_slots, 1);
    assert_int_equal(s->priority, 42);
    assert_int_equal(s->max_restarts, 5);
    assert_int_equal(s->virtual_shards, 8);
    assert_true(s->bitwise);
    assert_int_equal(s->param_count, 3);
    assert_int_equal(s->params[1].kind, SPACE_INT);
}

static void refuses_bad_roots(void **state) {
    (void)state;
    refused(with("name: t", "name: t\nmax_trails: 3"), "unknown key 'max_trails'");
    refused(with("max_trials", "max_trails"),
            "unknown key 'max_trails' in searcher; nearest known key is 'max_trials'");
    refused(with("max_trials: 5", "max_trials: many"), "searcher.max_trials must be an integer");
    refused(with("max_trials: 5", "max_trials: 0"), "searcher.max_trials must be");
    refused(with("max_time: 2", "max_time: 0"), "searcher.max_time must be");
    refused(with(", max_time: 2", ""), "searcher.max_time is missing");
    refused(with("name: random", "name: asha"), "planned but not built yet");
    refused(with("name: random", "name: randon"), "nearest is random");
    refused(with("name: random", "name: single"), "single runs one trial");
    refused(with("max_time: 2", "max_time: 2, metric: val_eror"), "searcher.metric must be one of");
    refused(with("name: t", "name: ''"), "name must be");
    refused(with("name: t", "name: t\ndevice: gpu"), "device must be one of");
    refused("name: t\n", "is missing");
    refused("[1, 2]", "must be a map");
}

static void refuses_bad_resources(void **state) {
    (void)state;
    refused(with("name: t", "name: t\nresources: {slots_per_trial: 3, max_slots: 4}"),
            "does not divide reproducibility.virtual_shards (8)");
    refused(with("name: t", "name: t\nresources: {slots_per_trial: 4, max_slots: 2}"),
            "no trial could ever start");
    refused(with("name: t", "name: t\nresources: {slots_per_trial: 0}"), "slots_per_trial must be");
    refused(with("name: t", "name: t\nreproducibility: {virtual_shards: 6}"), "a power of two");
    refused(with("name: t", "name: t\nreproducibility: {virtual_shards: 128}"),
            "not a multiple of virtual_shards (128)");
    refused(with("global_batch_size: 64", "global_batch_size: 60"),
            "is 60, which is not a multiple");
    refused(with("global_batch_size: 64", "global_batch_size: 0"), "global_batch_size must be");
}

static void refuses_bad_ranges(void **state) {
    (void)state;
    refused(with("minval: 8", "minval: 64"), "minval 64 is greater than maxval 32");
    refused(with("minval: 8", "minval: 8.5"), "minval must be an integer");
    refused(with("minval: 1.0e-3", "minval: 0"), "log needs minval > 0");
    refused(with("type: log, minval: 1.0e-3, maxval: 1.0e-1",
                 "type: log, base: 10, minval: -3, maxval: -1"),
            "write {type: log, minval: 0.001, maxval: 0.1}");
    refused(with("type: log", "type: logarithm"), "type must be one of");
    refused(with("type: int", "type: integer"), "type must be one of");
    refused(with("vals: [relu, gelu]", "vals: []"), "vals must be");
    refused(with("vals: [relu, gelu]", "vals: [relu, relu]"), "is there twice");
    refused(with("vals: [relu, gelu]", "vals: [1, 2, 1.0]"),
            "vals[2] is there twice: it equals vals[0]");
    refused(with("type: log", "type: loguniform"), "nearest is log");
    refused(with("hidden: {type: int", "lr: {type: int"), "lr");
    refused(with("act: {type: categorical, vals: [relu, gelu]}", "act: [relu, gelu]"),
            "type: categorical, vals");
    refused(with("  act:", "  2act:"), "a name is");
    refused(with("count: 3}\n  hidden", "coutn: 3}\n  hidden"), "unknown key 'coutn'");
    refused(with("name: random, max_trials: 5", "name: random, max_trials: 2000000"),
            "max_trials must be");
}

/* Each value of an int is tried, not only its ends; a grid has only the values of its axis. */
static void looks_at_every_int(void **state) {
    (void)state;
    static const char file[] =
        "name: t\nhyperparameters: {b: {type: int, minval: 64, maxval: 72, count: 2}}\n"
        "searcher: {name: %s, max_time: 2}\n" DATA "model: [{dense: 10}]\n"
        "training: {loss: cross_entropy, optimizer: {name: sgd, lr: 0.1}, "
        "global_batch_size: \"${b}\"}\n";
    const char *at = strstr(file, "%s");
    const char *text[2];
    for (int i = 0; i < 2; i++)
        text[i] = arena_printf(&arena, "%.*s%s%s", (int)(at - file), file,
                               i == 0 ? "random" : "grid", at + 2);
    refused(text[0], "training.global_batch_size is 65, which is not a multiple");
    assert_int_equal(parsed(text[1])->grid_size, 2);
}

static void refuses_bad_conditions(void **state) {
    (void)state;
    refused(with("vals: [relu, gelu]}", "vals: [relu, gelu], when: {lrr: 1}}"),
            "not another hyperparameter");
    refused(with("vals: [relu, gelu]}", "vals: [relu, gelu], when: {lr: 1}}"), "real range");
    refused(with("vals: [relu, gelu]}", "vals: [relu, gelu], when: {hidden: 7}}"),
            "can never be true");
    refused(with("vals: [relu, gelu]}",
                 "vals: [relu, gelu], when: {b: 1}}\n  b: {type: int, minval: 1, maxval: 2, when: "
                 "{act: relu}}"),
            "depends on itself");
}

static void refuses_bad_sections(void **state) {
    (void)state;
    refused(with("${hidden}", "${hiden}"), "${hiden}, which is not in hyperparameters; nearest");
    refused(with("${hidden}", "${hidden"), "without its '}'");
    refused(with("out: 10", "out: 0"), "model[2].dense.out must be");
    refused(with("out: 10", "ot: 10"), "unknown key 'ot'");
    refused(with("{dense: {out: 10}}", "{dence: {out: 10}}"), "nearest is 'dense'");
    refused(with("{dense: {out: 10}}", "dense"), "model[2].dense.out is missing");
    refused(with("{dense: {out: 10}}", "{relu: 3}"), "takes nothing");
    refused(with("vals: [relu, gelu]", "vals: [relu, gulu]"), "unknown layer 'gulu'");
    refused(with("format: idx", "format: idxx"), "data.train.format must be one of");
    refused(with("format: idx", "format: csv"), "unknown key 'images'");
    refused(with("validation_split: 0.2", "validation_split: 1.5"), "validation_split must be");
    refused(with("  validation_split: 0.2\n", ""), "there is no validation data");
    refused(with("loss: cross_entropy", "loss: mse"), "use val_loss");
    refused(with("name: sgd", "name: sdg"), "nearest is sgd");
    refused(with("name: sgd", "name: sgd, beta: 1"), "unknown key 'beta'");
    refused(with("maxval: 1.0e-1", "maxval: 1.0e+9"), "optimizer.lr must be");
    refused(with("  validation_split: 0.2", "  validation_split: 0.2\n  transforms: [{scal: 2}]"),
            "transforms[0] must be one of");
    refused("name: t\nname: u\n", "name");
}

static void makes_trial_configurations(void **state) {
    (void)state;
    struct sweep *s = parsed(GOOD);
    struct value *point = value_map(&arena), *config = NULL;
    value_set_real(&arena, point, "lr", 0.25);
    value_set_int(&arena, point, "hidden", 16);
    value_set_string(&arena, point, "act", "gelu");
    assert_int_equal(sweep_trial_config(&arena, s, point, 99, "/d", &config, &err), STATUS_OK);
    assert_int_equal(value_at(config, "model[0].dense.out")->integer, 16);
    assert_string_equal(value_at(config, "model[1]")->string, "gelu");
    assert_true(value_at(config, "training.optimizer.lr")->real == 0.25);
    assert_string_equal(value_at(config, "data.train.images")->string, "/d/i.gz");
    assert_int_equal(value_get_int(config, "seed", 0), 99);
    assert_int_equal(value_at(config, "hyperparameters.hidden")->integer, 16);
    assert_int_equal(value_at(config, "training.eval_every")->integer, 1);
    assert_null(value_get(config, "searcher"));
    assert_null(value_at(config, "data.dir"));
}

/* One language, one default; what a file says holds in every one. */
static void counts_the_best_or_the_last(void **state) {
    (void)state;
    const char *said = with("name: random,", "name: random, metric_of: last,");
    for (int language = 1; language <= SPEC_LANGUAGE; language++) {
        struct schema_source source = {.file = "t.yaml", .language = language};
        struct value *root = NULL, *c = NULL;
        struct sweep *s = NULL;
        assert_int_equal(yaml_parse(&arena, GOOD, strlen(GOOD), "t.yaml", &root, &err), STATUS_OK);
        assert_int_equal(sweep_parse(&arena, root, source, &s, &err), STATUS_OK);
        assert_int_equal(s->metric_of_last, language < 3);
        assert_int_equal(
            sweep_trial_config(&arena, s, sweep_point(&arena, s, 1), 1, "/d", &c, &err), STATUS_OK);
        assert_string_equal(value_at(c, "checkpoint.keep")->string, language < 3 ? "last" : "best");
        const char *of = value_get_string(c, "metric_of", NULL);
        assert_true(language < 3 ? of == NULL : strcmp(of, "best") == 0);
        assert_int_equal(yaml_parse(&arena, said, strlen(said), "t.yaml", &root, &err), STATUS_OK);
        assert_int_equal(sweep_parse(&arena, root, source, &s, &err), STATUS_OK);
        assert_true(s->metric_of_last);
    }
}

/* What ranks a trial is kept: `keep: last` alone ranks by the last, and cannot rank by the best. */
static void ranks_by_what_is_kept(void **state) {
    (void)state;
    const char *kept = with("name: t", "name: t\ncheckpoint: {keep: last}");
    struct sweep *s = parsed(kept);
    struct value *c = NULL;
    assert_true(s->metric_of_last);
    assert_int_equal(sweep_trial_config(&arena, s, sweep_point(&arena, s, 1), 1, "/d", &c, &err),
                     STATUS_OK);
    assert_string_equal(value_get_string(c, "metric_of", NULL), "last");
    const char *both = with("name: random,", "name: random, metric_of: best,");
    const char *of = strstr(both, "name: t\n");
    assert_non_null(of);
    both = arena_printf(&arena, "%.*scheckpoint: {keep: last}\n%s", (int)(of - both), both, of);
    refused(both, "searcher.metric_of is best, but checkpoint.keep is last");
    struct schema_source old = {.file = "t.yaml", .language = 2};
    struct value *root = NULL;
    assert_int_equal(yaml_parse(&arena, both, strlen(both), "t.yaml", &root, &err), STATUS_OK);
    assert_int_equal(sweep_parse(&arena, root, old, &s, &err), STATUS_OK);
    assert_false(s->metric_of_last);
}

static void takes_devices(void **state) {
    (void)state;
    struct sweep *s = parsed(GOOD);
    struct value *config = NULL;
    assert_string_equal(s->device, "auto");
    assert_int_equal(s->slots_per_gpu, 1);
    s = parsed(with("name: t", "name: t\ndevice: cuda\nreproducibility: {bitwise: false}\n"
                               "resources: {slots_per_gpu: 4}"));
    assert_string_equal(s->device, "cuda");
    assert_int_equal(s->slots_per_gpu, 4);
    assert_int_equal(
        sweep_trial_config(&arena, s, sweep_point(&arena, s, 1), 1, NULL, &config, &err),
        STATUS_OK);
    assert_string_equal(value_get_string(config, "device", ""), "cuda");
    assert_false(value_get_bool(config, "bitwise", true));
    refused(with("name: t", "name: t\nresources: {slots_per_gpu: 0}"), "slots_per_gpu must be");
    refused(with("name: t", "name: t\nresources: {slots_per_gpu: 65}"), "slots_per_gpu must be");
    refused(with("name: t", "name: t\ndevice: cpu\nreproducibility: {bitwise: false}"),
            "bitwise: false is for GPUs");
}

#define PRECISION "loss: cross_entropy, precision: "

static void takes_precisions(void **state) {
    (void)state;
    struct sweep *s = parsed(with("loss: cross_entropy, ", PRECISION "bf16, "));
    assert_non_null(s);
    refused(with("loss: cross_entropy, ", PRECISION "fp16, "), "training.precision must be one of");
    s = parsed("name: t\nhyperparameters: {p: {type: categorical, vals: [fp32, tf32, bf16]}}\n"
               "searcher: {name: grid, max_time: 1}\n" DATA "model: [{dense: {out: 2}}]\n"
               "training: {" PRECISION "\"${p}\", optimizer: {name: sgd, lr: 0.1}, "
               "global_batch_size: 64}\n");
    struct value *config = NULL;
    assert_int_equal(
        sweep_trial_config(&arena, s, sweep_point(&arena, s, 3), 1, NULL, &config, &err),
        STATUS_OK);
    assert_string_equal(value_at(config, "training.precision")->string, "bf16");
    refused("name: t\ndevice: cpu\n"
            "hyperparameters: {p: {type: categorical, vals: [fp32, tf32]}}\n"
            "searcher: {name: grid, max_time: 1}\n" DATA "model: [{dense: {out: 2}}]\n"
            "training: {" PRECISION "\"${p}\", optimizer: {name: sgd, lr: 0.1}, "
            "global_batch_size: 64}\n",
            "training.precision is tf32, which GPUs compute");
}

static void joins_text_and_values(void **state) {
    (void)state;
    struct sweep *s = parsed(with("images: i.gz", "images: \"/x/${hidden}-${act}.gz\""));
    struct value *config = NULL;
    struct value *point = sweep_point(&arena, s, 1);
    value_set_int(&arena, point, "hidden", 9);
    value_set_string(&arena, point, "act", "relu");
    assert_int_equal(sweep_trial_config(&arena, s, point, 1, "/d", &config, &err), STATUS_OK);
    assert_string_equal(value_at(config, "data.train.images")->string, "/x/9-relu.gz");
    assert_string_equal(value_at(config, "data.train.labels")->string, "/d/l.gz");
}

#define CONDITIONAL                                                                                \
    "name: c\n"                                                                                    \
    "hyperparameters:\n"                                                                           \
    "  drop: {type: double, minval: 0.1, maxval: 0.3, count: 2, when: {act: relu}}\n"              \
    "  act: {type: categorical, vals: [relu, gelu, null]}\n"                                       \
    "  lr: {type: log, minval: 0.001, maxval: 0.1, count: 3}\n"                                    \
    "searcher: {name: grid, max_time: 3, time_metric: steps, metric: val_loss}\n" DATA             \
    "model: [\"${act}\", {dropout: \"${drop}\"}, {dense: {out: 2}}]\n" TRAINING

static void walks_conditional_grids(void **state) {
    (void)state;
    struct sweep *s = parsed(CONDITIONAL);
    assert_int_equal(s->max_trials, (2 + 1 + 1) * 3);
    struct sweep_grid g;
    int n = 1, with_drop = 0;
    sweep_grid_first(&g);
    do {
        struct value *p = sweep_grid_point(&arena, s, &g);
        assert_true(value_equal(p, sweep_point(&arena, s, n)));
        bool relu = strcmp(value_get_string(p, "act", ""), "relu") == 0;
        assert_int_equal(relu, value_get(p, "drop") != NULL);
        with_drop += relu;
        for (int k = 1; k < n; k++)
            assert_false(value_equal(p, sweep_point(&arena, s, k)));
        n++;
    } while (sweep_grid_next(s, &g));
    assert_int_equal(n - 1, s->max_trials);
    assert_int_equal(with_drop, 6);
}

/* A parameter below an integer that is itself below a constant. */
static void conditions_of_conditions(void **state) {
    (void)state;
    struct sweep *s =
        parsed("name: c\nhyperparameters:\n"
               "  act: {type: const, val: relu}\n"
               "  size: {type: int, minval: 1, maxval: 3, count: 3, when: {act: relu}}\n"
               "  drop: {type: categorical, vals: [0.1, 0.2], when: {size: 2}}\n"
               "  lr: {type: double, minval: 0.5, maxval: 1.0, count: 2}\n"
               "searcher: {name: grid, max_time: 1}\n" DATA
               "model: [{dense: {out: \"${size}\"}}, \"${act}\", {dropout: \"${drop}\"}, "
               "{dense: {out: 10}}]\n" TRAINING);
    assert_int_equal(s->max_trials, (1 + 2 + 1) * 2);
}

static void drops_inactive_layers(void **state) {
    (void)state;
    struct sweep *s = parsed(CONDITIONAL);
    int seen[4] = {0};
    for (int n = 1; n <= s->max_trials; n++) {
        struct value *p = sweep_point(&arena, s, n), *config = NULL;
        assert_int_equal(sweep_trial_config(&arena, s, p, 1, NULL, &config, &err), STATUS_OK);
        seen[value_get(config, "model")->count]++;
        assert_int_equal(value_at(config, "training.eval_every")->integer, 3);
        assert_int_equal(value_at(config, "checkpoint.every")->integer, 3);
    }
    assert_int_equal(seen[3], 6); /* relu, dropout, dense */
    assert_int_equal(seen[2], 3); /* gelu, dense */
    assert_int_equal(seen[1], 3); /* null, dense */
}

static void grids_have_exact_ends(void **state) {
    (void)state;
    struct sweep *s = parsed(with("name: random, max_trials: 5", "name: grid"));
    assert_int_equal(s->max_trials, 18);
    assert_string_equal(dumped(sweep_point(&arena, s, 1)),
                        "{\"lr\":0.001,\"hidden\":8,\"act\":\"relu\"}");
    assert_string_equal(dumped(sweep_point(&arena, s, 2)),
                        "{\"lr\":0.001,\"hidden\":8,\"act\":\"gelu\"}");
    assert_string_equal(dumped(sweep_point(&arena, s, 3)),
                        "{\"lr\":0.001,\"hidden\":20,\"act\":\"relu\"}");
    assert_string_equal(dumped(sweep_point(&arena, s, 18)),
                        "{\"lr\":0.1,\"hidden\":32,\"act\":\"gelu\"}");
    s = parsed(with("name: random, max_trials: 5", "name: grid, max_trials: 4"));
    assert_int_equal(s->max_trials, 4);
    /* exp(log(x)) misses many an x by a bit; an end of an axis misses none */
    struct hyperparameter axis = {.kind = SPACE_LOG, .count = 3};
    for (int i = 1; i < 1000; i++) {
        axis.minval = i / 1000.0;
        axis.maxval = i / 7.0 + 1;
        assert_true(sweep_axis_value(&arena, &axis, 0)->real == axis.minval);
        assert_true(sweep_axis_value(&arena, &axis, 2)->real == axis.maxval);
    }
}

static void grid_needs_counts(void **state) {
    (void)state;
    const char *text =
        "name: t\nhyperparameters: {lr: {type: log, minval: 1.0e-3, maxval: 1.0}}\n"
        "searcher: {name: grid, max_time: 1}\n" DATA "model: [{dense: {out: 2}}]\n" TRAINING;
    refused(text, "needs `count: N`");
    struct sweep *s = parsed("name: t\nhyperparameters: {lr: 0.5, n: {type: int, minval: 3, "
                             "maxval: 7}}\nsearcher: {name: grid, max_time: 1}\n" DATA
                             "model: [{dense: '${n}'}]\n" TRAINING);
    assert_int_equal(s->max_trials, 5); /* every integer */
}

static void draws_are_a_function_of_seed_and_trial(void **state) {
    (void)state;
    struct sweep *s = parsed(GOOD), *t = parsed(GOOD);
    struct sweep *u = parsed(with("name: t", "name: t\nreproducibility: {experiment_seed: 5}"));
    for (int n = 1; n <= 50; n++) {
        struct value *p = sweep_point(&arena, s, n);
        assert_true(value_equal(p, sweep_point(&arena, t, n)));
        assert_false(value_equal(p, sweep_point(&arena, u, n)));
        assert_false(value_equal(p, sweep_point(&arena, s, n + 1)));
        double lr = value_get_real(p, "lr", 0);
        int64_t hidden = value_get_int(p, "hidden", 0);
        assert_true(lr >= 1e-3 && lr <= 1e-1 && hidden >= 8 && hidden <= 32);
    }
    assert_true(sweep_trial_seed(1, 1) == sweep_trial_seed(1, 1));
    assert_true(sweep_trial_seed(1, 1) != sweep_trial_seed(1, 2));
    assert_true(sweep_trial_seed(1, 1) != sweep_trial_seed(2, 1));
    assert_true(sweep_trial_seed(7, 9) < (UINT64_C(1) << 53));
}

static void integers_are_drawn_evenly(void **state) {
    (void)state;
    struct hyperparameter p = {.name = "n", .kind = SPACE_INT, .minval = -1, .maxval = 1};
    assert_int_equal(sweep_draw(&arena, &p, 0.0)->integer, -1);
    assert_int_equal(sweep_draw(&arena, &p, 0.34)->integer, 0);
    assert_int_equal(sweep_draw(&arena, &p, 0.9999999999)->integer, 1);
}

static void survives_the_wire(void **state) {
    (void)state;
    struct sweep *s = parsed(CONDITIONAL), *t = NULL;
    struct value *root = NULL;
    const char *text = dumped(s->root);
    assert_int_equal(json_parse(&arena, text, strlen(text), "wire", &root, &err), STATUS_OK);
    assert_int_equal(sweep_parse(&arena, root, SPEC_TODAY(NULL), &t, &err), STATUS_OK);
    for (int n = 1; n <= s->max_trials; n++)
        assert_true(value_equal(sweep_point(&arena, s, n), sweep_point(&arena, t, n)));
}

static void takes_overrides(void **state) {
    (void)state;
    char path[] = "/tmp/trireme-sweep-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    fputs(GOOD, f);
    fclose(f);
    static const char *const sets[] = {"searcher.max_trials=9", "resources.slots_per_trial=2",
                                       "hyperparameters.act={type: categorical, vals: [tanh]}"};
    static const char *const bad[][1] = {
        {"searcher.max_trials"},  {"searcher.max_trails=3"},    {"=3"},
        {"searcher.max_trials="}, {"model.2.dense.out=0"},      {"model.3.dense.out=64"},
        {"model.1.dense.out=4"},  {"training.optimizer.lr=0.1"}};
    static const char *const words[] = {"must be key=value",
                                        "unknown key 'max_trails'",
                                        "must be key=value",
                                        "the value is missing",
                                        "model[2].dense.out must be",
                                        "there is no 'model.3': the list has items 0 to 2",
                                        "'model.1' is a string, not a map",
                                        "nothing would use hyperparameters.lr any more; give it "
                                        "the value in its own place: --set hyperparameters.lr=0.1"};
    struct sweep *s = NULL;
    assert_int_equal(sweep_load(&arena, path, sets, 3, &s, &err), STATUS_OK);
    assert_int_equal(s->max_trials, 9);
    assert_int_equal(s->slots_per_trial, 2);
    assert_int_equal(s->params[2].vals->count, 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(sweep_load(&arena, path, bad[i], 1, &s, &err), STATUS_INVALID);
        if (strstr(err.text, words[i]) == NULL)
            fail_msg("'%s' is not in '%s'", words[i], err.text);
    }
    static const char *const list[] = {"model.2.dense.out=64"};
    static const char *const again[] = {"training.optimizer={name: adam, lr: 1}",
                                        "training.optimizer.lr=${lr}"};
    assert_int_equal(sweep_load(&arena, path, list, 1, &s, &err), STATUS_OK);
    assert_int_equal(value_at(s->root, "model.2.dense.out")->integer, 64);
    assert_int_equal(sweep_load(&arena, path, again, 2, &s, &err), STATUS_OK);
    remove(path);
    assert_int_equal(sweep_load(&arena, path, NULL, 0, &s, &err), STATUS_NOT_FOUND);
}

/* ---- one grammar: what a trial cannot do, and what it can ---- */

/* By today's language and by the first: what the old one let through it still does. */
static void refused_today(const char *text, const char *words) {
    struct value *root = NULL;
    struct sweep *s = NULL;
    refused(text, words);
    assert_int_equal(yaml_parse(&arena, text, strlen(text), "t.yaml", &root, &err), STATUS_OK);
    struct schema_source first = {.file = "t.yaml", .language = 1};
    if (sweep_parse(&arena, root, first, &s, &err) != STATUS_OK)
        fail_msg("language 1: %s", err.text);
    struct value *config = NULL;
    assert_int_equal(
        sweep_trial_config(&arena, s, sweep_point(&arena, s, 1), 1, "/d", &config, &err),
        STATUS_OK);
    assert_null(value_get(config, "language"));
}

/* The six files that `trireme run` took and whose trials then failed without a line. */
static void refuses_what_no_trial_can_do(void **state) {
    (void)state;
#define LAYER(text) with("{dense: {out: 10}}", text)
#define BY(text)    with("{name: sgd, lr: \"${lr}\"}", text)
    refused_today(LAYER("{dropout: 0.9995}"),
                  "t.yaml:10:58: model[2].dropout.rate must be a number "
                  "from 0 to 0.999, not 0.9995");
    refused_today(LAYER("{batch_norm: {eps: 0}}"), "model[2].batch_norm.eps must be a number");
    refused_today(BY("{name: adam, eps: 0, lr: \"${lr}\"}"), "training.optimizer.eps must be");
    refused_today(BY("{name: sgd, momentum: 1.0, lr: \"${lr}\"}"),
                  "training.optimizer.momentum must be a number from 0 to 0.9999999, not 1");
    refused_today(BY("{name: sgd, nesterov: true, lr: \"${lr}\"}"),
                  "nesterov needs a momentum greater than 0");
    refused_today(LAYER("{conv2d: {out: 4, kernel: 2, padding: same}}"),
                  "model[2].conv2d.padding: same needs an odd kernel, not 2 by 2");
    /* Their siblings. */
    refused_today(LAYER("{dense: {out: 1048577}}"), "dense.out must be");
    refused_today(LAYER("{conv2d: {out: 4, kernel: 65}}"), "conv2d.kernel must be");
    refused_today(LAYER("{conv2d: {out: 4, kernel: 3, stride: 65}}"), "conv2d.stride must be");
    refused_today(LAYER("{conv2d: {out: 4, kernel: 3, padding: 65}}"), "conv2d.padding must be");
    refused_today(LAYER("{max_pool: {kernel: 65}}"), "max_pool.kernel must be");
    refused_today(BY("{name: adam, betas: [0.9, 0.99999995], lr: \"${lr}\"}"), "betas[1] must be");
    refused_today(with("labels: l.gz}", "labels: l.gz, shape: [2, 14]}"), "must be [C, H, W] or");
    refused_today(with("labels: l.gz}", "labels: l.gz, shape: [16777217]}"), "shape[0] must be");
    refused_today(with("  validation_split: 0.2", "  validation_split: 0.2\n"
                                                  "  transforms: [{scale: 1.0e+39}]"),
                  "transforms[0].scale must be");
}

/* The spellings that only the engine knew. */
static void takes_every_spelling(void **state) {
    (void)state;
    (void)parsed(LAYER("{dense: 10}"));
    (void)parsed(LAYER("{conv2d: {out: 4, kernel: [3, 5]}}"));
    (void)parsed(LAYER("{conv2d: {out: 4, kernel: 3, stride: [1, 2], padding: [0, 1]}}"));
    (void)parsed(LAYER("max_pool"));
    (void)parsed(with("  validation_split: 0.2",
                      "  validation_split: 0.2\n"
                      "  transforms: [{normalize: {mean: [0.1, 0.2, 0.3], std: [1, 1, 0.5]}}]"));
    /* Their siblings. */
    (void)parsed(LAYER("{conv2d: 4}"));
    (void)parsed(LAYER("{avg_pool: [2, 3]}"));
    (void)parsed(LAYER("{max_pool: {kernel: [2, 2], stride: [1, 2]}}"));
    (void)parsed(LAYER("{relu: {}}"));
    (void)parsed(LAYER("{batch_norm: null}"));
    (void)parsed(with("format: idx", "task: regress, format: npy"));
    (void)parsed(with("loss: cross_entropy,", "initial_weights: null, loss: cross_entropy,"));
}

static void refuses_unused_hyperparameters(void **state) {
    (void)state;
    refused_today(with("\"${hidden}\"", "3"),
                  "t.yaml:4:11: hyperparameters.hidden is not used: write ${hidden} in");
    /* A `when` is a mention. */
    (void)parsed("name: t\nhyperparameters:\n"
                 "  on: {type: categorical, vals: [true, false]}\n"
                 "  rate: {type: double, minval: 0.1, maxval: 0.2, when: {on: true}}\n"
                 "searcher: {name: random, max_time: 1}\n" DATA
                 "model: [{dropout: '${rate}'}, {dense: 2}]\n"
                 "training: {loss: cross_entropy, optimizer: {name: sgd, lr: 0.1}, "
                 "global_batch_size: 8}\n");
}

/* What is wrong only together: each alone is fine. */
static void checks_pairs(void **state) {
    (void)state;
    refused("name: t\nhyperparameters:\n"
            "  k: {type: categorical, vals: [3, 2]}\n"
            "  p: {type: categorical, vals: [valid, same]}\n"
            "searcher: {name: grid, max_time: 1}\n" DATA
            "model: [{conv2d: {out: 2, kernel: '${k}', padding: '${p}'}}]\n"
            "training: {loss: cross_entropy, optimizer: {name: sgd, lr: 0.1}, "
            "global_batch_size: 8}\n",
            "same needs an odd kernel");
}

/* The sweep files that we ship; the test runs in the repository's root. */
static void shipped_files_parse(void **state) {
    (void)state;
    glob_t found = {0};
    if (glob("configs/*.yaml", 0, NULL, &found) != 0)
        skip();
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct sweep *s = NULL;
        if (sweep_load(&arena, found.gl_pathv[i], NULL, 0, &s, &err) != STATUS_OK)
            fail_msg("%s", err.text);
    }
    globfree(&found);
}

static void small_arenas_are_no_crash(void **state) {
    (void)state;
    for (size_t max = 64; max < 40000; max += 97) {
        struct arena a;
        arena_init(&a, max);
        struct value *root = NULL;
        struct sweep *s = NULL;
        if (yaml_parse(&arena, GOOD, strlen(GOOD), "t.yaml", &root, &err) == STATUS_OK) {
            enum status st = sweep_parse(&a, root, SPEC_TODAY("t.yaml"), &s, &err);
            assert_true(st == STATUS_OK || st == STATUS_NOMEM);
            struct value *p = s != NULL && st == STATUS_OK ? sweep_point(&a, s, 1) : NULL,
                         *c = NULL;
            if (p != NULL) {
                st = sweep_trial_config(&a, s, p, 1, "/d", &c, &err);
                assert_true(st == STATUS_OK || st == STATUS_NOMEM);
            }
        }
        arena_release(&a);
        arena_clear(&arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_what_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_bad_roots, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_bad_resources, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_bad_ranges, setup, teardown),
        cmocka_unit_test_setup_teardown(looks_at_every_int, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_bad_conditions, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_bad_sections, setup, teardown),
        cmocka_unit_test_setup_teardown(makes_trial_configurations, setup, teardown),
        cmocka_unit_test_setup_teardown(counts_the_best_or_the_last, setup, teardown),
        cmocka_unit_test_setup_teardown(ranks_by_what_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_devices, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_precisions, setup, teardown),
        cmocka_unit_test_setup_teardown(joins_text_and_values, setup, teardown),
        cmocka_unit_test_setup_teardown(walks_conditional_grids, setup, teardown),
        cmocka_unit_test_setup_teardown(conditions_of_conditions, setup, teardown),
        cmocka_unit_test_setup_teardown(drops_inactive_layers, setup, teardown),
        cmocka_unit_test_setup_teardown(grids_have_exact_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(grid_needs_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(draws_are_a_function_of_seed_and_trial, setup, teardown),
        cmocka_unit_test_setup_teardown(integers_are_drawn_evenly, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_the_wire, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_what_no_trial_can_do, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_every_spelling, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_unused_hyperparameters, setup, teardown),
        cmocka_unit_test_setup_teardown(checks_pairs, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_overrides, setup, teardown),
        cmocka_unit_test_setup_teardown(shipped_files_parse, setup, teardown),
        cmocka_unit_test_setup_teardown(small_arenas_are_no_crash, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
