/* Asks a searcher for its trials, starts none. */
#include "coordinator/shell/preview.h"

#include <stdio.h>

#include "coordinator/search/registry.h"
#include "core/json.h"
#include "core/output.h"
#include "core/path.h"
#include "spec/space.h"

#define ARENA_MAX ((size_t)256 << 20)

/* What is previewed, and what it is made of. */
struct preview {
    struct arena *a;
    const struct sweep *sweep;
    const char *base; /* directory that relative paths start from; NULL: they stay */
    struct value *trials;
};

static enum status add_trial(struct preview *p, int64_t number, struct value *point,
                             struct err *err) {
    struct arena *a = p->a;
    struct value *config = NULL, *t = value_map(a);
    if (point == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while trials were listed");
    uint64_t seed = sweep_trial_seed(p->sweep->experiment_seed, number);
    enum status st = sweep_trial_config(a, p->sweep, point, seed, p->base, &config, err);
    if (st != STATUS_OK)
        return st;
    value_set_int(a, t, "trial", number);
    value_set(a, t, "hyperparameters", point);
    value_set(a, t, "config", config);
    value_push(a, p->trials, t);
    return STATUS_OK;
}

enum status preview_make(struct arena *a, const struct value *input, int64_t trials,
                         struct value **out, struct err *err) {
    enum status st = STATUS_OK;
    struct sweep *sweep = NULL;
    struct searcher *s = NULL;
    struct schema_source source = {.language =
                                       (int)value_get_int(input, "language", SPEC_LANGUAGE)};
    TRY(sweep_parse(a, value_get(input, "config"), source, &sweep, err));
    const struct searcher_class *search = searcher_find(sweep->searcher);
    if (search == NULL)
        return err_set(err, STATUS_INVALID, "unknown searcher '%s'", sweep->searcher);
    TRY(search->create(sweep, &s, err));
    struct preview p = {.a = a,
                        .sweep = sweep,
                        .base = value_get_string(input, "base", NULL),
                        .trials = value_list(a)};
    for (int64_t n = 0; st == STATUS_OK && n < trials && search->ready(s) == SEARCH_READY; n++) {
        int64_t number = search->next(s);
        st = add_trial(&p, number, search->point(s, a, number), err);
    }
    *out = value_map(a);
    value_set_int(a, *out, "planned", search->planned(s));
    value_set(a, *out, "trials", p.trials);
    search->destroy(s);
out:
    return st;
}

enum status preview_print(const char *file, int64_t trials, struct err *err) {
    enum status st = STATUS_OK;
    struct arena a;
    struct buf text = BUF_INIT(JSON_TEXT_MAX);
    struct value *input = NULL, *preview = NULL;
    arena_init(&a, ARENA_MAX);
    TRY(path_read(file, &text, err));
    TRY(json_parse(&a, buf_text(&text), text.len, file, &input, err));
    if (value_get(input, "config") == NULL) {
        st = err_set(err, STATUS_INVALID, "%s has no member config", file);
        goto out;
    }
    TRY(preview_make(&a, input, trials, &preview, err));
    buf_clear(&text);
    TRY(json_dump(preview, JSON_COMPACT, &text, err));
    (void)printf("%s\n", buf_text(&text));
    st = output_finish(err);
out:
    buf_release(&text);
    arena_release(&a);
    return st;
}
