/* One grammar: what the sweep language says of a file, a worker says of each of its trials.
 *
 * GRAMMAR_SEED repeats a run; GRAMMAR_FILES sets its length. */
#include <regex.h>
#include <stdlib.h>

#include "core/yaml.h"
#include "kernels/graph/model.h"
#include "spec/sweep.h"
#include "spec/trial.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/worker/grammar_files.h"

#define ARENA_MAX ((size_t)64 << 20)
#define TEXT_MAX  ((size_t)1 << 20)
#define FILES     12000

struct bench {
    struct fuzz fuzz;
    struct arena arena;
    regex_t place;
    int64_t files, valid, refused, trials;
};

static bool has_place(struct bench *b, const char *text) {
    return regexec(&b->place, text, 0, NULL, 0) == 0;
}

/* The verdict of the sweep language, as `trireme preview` has it. */
static enum status sweep_verdict(struct bench *b, const char *text, size_t len, struct err *err) {
    struct value *root = NULL;
    struct sweep *s = NULL;
    enum status st = yaml_parse(&b->arena, text, len, "t.yaml", &root, err);
    return st == STATUS_OK ? sweep_parse(&b->arena, root, SPEC_TODAY("t.yaml"), &s, err) : st;
}

/* Shapes, where the file says what they start from. A net that does not fit them is refused with
 * its place; the sweep cannot know. */
static void infer(struct bench *b, const struct spec_trial *t, const char *text) {
    const struct spec_source *train = &t->data.part[SPEC_TRAIN];
    struct shape in = {.rank = train->shape_count};
    struct model *model = NULL;
    struct err err = {0};
    for (int i = 0; i < in.rank; i++)
        in.dim[i] = train->shape[i];
    if (in.rank != 0 && model_build(&b->arena, &t->model, in, &model, &err) != STATUS_OK &&
        !has_place(b, err.text))
        fail_msg("no place in '%s'\n%s", err.text, text);
}

/* The verdict of `trireme-worker --train` on one trial. */
static enum status trial_verdict(struct bench *b, const struct value *config, struct err *err) {
    struct buf text = BUF_INIT(TEXT_MAX);
    struct value *root = NULL;
    struct spec_trial t;
    enum status st = STATUS_OK;
    TRY(json_dump(config, JSON_PRETTY, &text, err));
    TRY(json_parse(&b->arena, buf_text(&text), text.len, "t.json", &root, err));
    TRY(spec_trial_read(&b->arena, root, "t.json", &t, err));
    TRY(spec_trial_ranks(&t, 1, err));
    infer(b, &t, buf_text(&text));
out:
    if (st != STATUS_OK && !has_place(b, err->text))
        fail_msg("no place in '%s'\n%s", err->text, buf_text(&text));
    buf_release(&text);
    b->trials++;
    return st;
}

/* Whether every trial that the case can come to is one that a worker takes. */
static bool trials_verdict(struct bench *b, struct made *m, struct err *err) {
    size_t n0 = m->hole_count > 0 ? m->holes[0].vals->count : 1;
    size_t n1 = m->hole_count > 1 ? m->holes[1].vals->count : 1;
    for (size_t i = 0; i < n0; i++)
        for (size_t k = 0; k < n1; k++)
            if (trial_verdict(b, trial_of_case(m, (const size_t[]){i, k}), err) != STATUS_OK)
                return false;
    return true;
}

/* A hyperparameter whose only mention went away in the sweep's own way is no matter of trials. */
static bool unused(const char *text) {
    return strstr(text, "is not used") != NULL;
}

static void one_file(struct bench *b) {
    struct made m;
    struct buf text = BUF_INIT(TEXT_MAX);
    struct err said = {0}, worker = {0};
    arena_clear(&b->arena);
    uint64_t seed = b->fuzz.state;
    make_case(&m, &b->fuzz, &b->arena);
    write_yaml(sweep_of_case(&m), &text);
    enum status st = sweep_verdict(b, buf_text(&text), text.len, &said);
    bool trains = trials_verdict(b, &m, &worker);
    b->files++;
    b->valid += st == STATUS_OK;
    b->refused += st != STATUS_OK;
    if (st != STATUS_OK && !has_place(b, said.text))
        fail_msg("GRAMMAR_SEED=%llu GRAMMAR_FILES=1: no place in '%s'\n%s",
                 (unsigned long long)seed, said.text, buf_text(&text));
    if ((st == STATUS_OK) != trains && !unused(said.text))
        fail_msg("GRAMMAR_SEED=%llu GRAMMAR_FILES=1: the sweep says '%s', the worker '%s'\n%s",
                 (unsigned long long)seed, st == STATUS_OK ? "fine" : said.text,
                 trains ? "fine" : worker.text, buf_text(&text));
    if (!m.broken && m.hole_count == 0 && st != STATUS_OK && strstr(said.text, "metric") == NULL &&
        strstr(said.text, "GPUs") == NULL && strstr(said.text, "odd kernel") == NULL)
        fail_msg("GRAMMAR_SEED=%llu GRAMMAR_FILES=1: meant to be valid: %s\n%s",
                 (unsigned long long)seed, said.text, buf_text(&text));
    buf_release(&text);
}

static uint64_t number(const char *name, uint64_t fallback) {
    const char *s = getenv(name);
    return s != NULL ? strtoull(s, NULL, 10) : fallback;
}

static void one_verdict(void **state) {
    (void)state;
    struct bench b = {.fuzz = {.state = number("GRAMMAR_SEED", 20260728)}};
    uint64_t files = number("GRAMMAR_FILES", FILES);
    print_message("GRAMMAR_SEED=%llu\n", (unsigned long long)b.fuzz.state);
    assert_int_equal(regcomp(&b.place, "^t\\.(yaml|json):[0-9]+:[0-9]+: ", REG_EXTENDED), 0);
    arena_init(&b.arena, ARENA_MAX);
    for (uint64_t i = 0; i < files; i++)
        one_file(&b);
    print_message("%lld files: %lld valid, %lld refused; %lld trials\n", (long long)b.files,
                  (long long)b.valid, (long long)b.refused, (long long)b.trials);
    if (files >= 1000)
        assert_true(b.valid > b.files / 5 && b.refused > b.files / 5);
    arena_release(&b.arena);
    regfree(&b.place);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_verdict)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
