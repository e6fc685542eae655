/* What a data set is, in words and numbers: for the manifest, preview, and a stranger who wants to make
 * an input row of an exported model. */
#include "worker/data/data_private.h"

#define EXAMPLE_INPUTS 256 /* inputs that get an example: the first sample, as it was in its file */

static struct value *describe_shape(struct arena *a, const struct shape *shape) {
    struct value *list = value_list(a);
    for (int i = 0; i < shape->rank; i++)
        value_push(a, list, value_int(a, shape->dim[i]));
    return list;
}

static struct value *describe_files(struct arena *a, const struct dataset *d) {
    struct value *files = value_list(a);
    for (int part = 0; part < PARTS; part++) {
        const struct samples *s = d->from[part];
        for (int i = 0; s != NULL && i < s->file_count && (part == 0 || s != d->from[0]); i++) {
            struct value *f = value_map(a);
            value_set_string(a, f, "path", s->files[i].path);
            value_set_int(a, f, "size", s->files[i].bytes);
            value_push(a, files, f);
        }
    }
    return files;
}

/* Where nothing has a name, all features are one input. */
static struct value *nameless(struct arena *a, const struct samples *s) {
    struct value *list = value_list(a), *m = value_map(a);
    bool pixels = s->type == SAMPLE_U8 || s->shape.rank == 3;
    value_set_string(a, m, "name", pixels ? "pixels" : "features");
    value_set_string(a, m, "kind", pixels ? "pixels" : "number");
    value_set_int(a, m, "first", 0);
    value_set_int(a, m, "count", s->features);
    return value_push(a, list, m);
}

/* The word that sample 0 has; NULL: none of them. */
static struct value *example_word(const struct samples *s, const struct value *input,
                                  int64_t first) {
    const struct value *words = value_get(input, "words");
    for (size_t i = 0; words != NULL && i < words->count; i++)
        if (samples_value(s, first + (int64_t)i) != 0)
            return words->items[i];
    return NULL;
}

static struct value *describe_inputs(struct arena *a, const struct samples *s) {
    bool named = s->learnt != NULL && s->format->inputs != NULL;
    struct value *list = named ? s->format->inputs(a, s->learnt) : nameless(a, s);
    for (size_t i = 0; named && list != NULL && i < list->count && i < EXAMPLE_INPUTS; i++) {
        struct value *input = list->items[i];
        int64_t first = value_get_int(input, "first", 0);
        struct value *word = example_word(s, input, first);
        if (value_get(input, "words") == NULL)
            value_set_real(a, input, "example", samples_value(s, first));
        else if (word != NULL)
            value_set(a, input, "example", value_copy(a, word));
    }
    return list;
}

static struct value *describe_outputs(struct arena *a, const struct samples *s,
                                      const struct value *class_names) {
    struct value *m = value_map(a);
    bool named = s->learnt != NULL && s->format->label_name != NULL;
    bool classes = s->labels != NULL;
    value_set(a, m, "name",
              named     ? s->format->label_name(a, s->learnt)
              : classes ? value_string(a, "label")
                        : value_string(a, "target"));
    value_set_string(a, m, "kind", classes ? "classes" : "numbers");
    value_set_int(a, m, "count", classes ? s->classes : s->outputs);
    if (class_names != NULL)
        value_set(a, m, "classes", value_copy(a, class_names));
    return m;
}

struct value *data_warnings(struct arena *a, const struct dataset *d) {
    struct value *list = value_list(a);
    for (int part = 0; part < PARTS; part++)
        if (d->from[part] != NULL && (part == 0 || d->from[part] != d->from[0]))
            notes_list(a, &d->from[part]->notes, list);
    notes_list(a, &d->notes, list);
    return list;
}

struct value *data_describe(struct arena *a, const struct dataset *d) {
    const struct data_info *info = &d->info;
    const struct samples *train = d->from[DATA_TRAIN];
    struct value *m = value_map(a), *warnings = data_warnings(a, d), *names = NULL;
    if (train->format->class_names != NULL && train->learnt != NULL)
        names = train->format->class_names(a, train->learnt);
    value_set_int(a, m, "train", info->train);
    value_set_int(a, m, "validation", info->validation);
    value_set_int(a, m, "test", info->test);
    value_set(a, m, "shape", describe_shape(a, &info->shape));
    value_set_string(a, m, "type", samples_type_name(train->type));
    value_set_int(a, m, "classes", info->classes);
    value_set_string(a, m, "digest", info->digest);
    value_set(a, m, "files", describe_files(a, d));
    value_set(a, m, "transforms", transforms_describe(a, &d->transforms, info->features));
    value_set(a, m, "inputs", describe_inputs(a, train));
    value_set(a, m, "outputs", describe_outputs(a, train, names));
    if (names != NULL)
        value_set(a, m, "class_names", names);
    if (warnings != NULL && warnings->count > 0)
        value_set(a, m, "warnings", warnings);
    return m;
}
