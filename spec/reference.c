/* The reference of the sweep language and the list of its keys. */
#include "spec/reference.h"

#include <stdio.h>
#include <string.h>

#include "spec/data.h"
#include "spec/searcher.h"
#include "spec/tables_private.h"

/* ---- Markdown ---- */

/* A table's cell: '|' would end it. */
static void add_cell(struct buf *out, const char *text) {
    for (const char *p = text; *p != '\0'; p++)
        buf_addf(out, "%s%c", *p == '|' ? "\\" : "", *p);
}

static void add_words(struct buf *out, const struct field *f) {
    char words[SCHEMA_WORDS_MAX];
    schema_words(f, words);
    add_cell(out, f->type == FIELD_MAP && f->max <= 0 && f->choices == NULL ? "a map" : words);
}

static void add_row(struct buf *out, const struct field *f) {
    buf_addf(out, "| `%s` | ", f->name);
    add_words(out, f);
    buf_addf(out, " | ");
    if ((f->flags & REQUIRED) != 0)
        buf_addf(out, "required");
    else if (f->fallback != NULL)
        add_cell(out, f->fallback);
    buf_addf(out, " | ");
    add_cell(out, f->doc != NULL ? f->doc : "");
    buf_addf(out, " |\n");
}

/* Without the key that `skip` names: the one that picked the table. */
static void add_table(struct buf *out, const struct field *fields, const char *skip) {
    buf_addf(out, "\n| key | takes | default | meaning |\n|---|---|---|---|\n");
    for (const struct field *f = fields; f->name != NULL; f++)
        if (skip == NULL || strcmp(f->name, skip) != 0)
            add_row(out, f);
}

static void add_section(struct buf *out, const char *title, const struct field *fields) {
    buf_addf(out, "\n### %s\n", title);
    add_table(out, fields, NULL);
}

static void add_variants(struct buf *out, const char *title, const char *key,
                         const struct spec_variant *rows) {
    buf_addf(out, "\n### %s\n", title);
    for (const struct spec_variant *r = rows; r->name != NULL; r++) {
        buf_addf(out, "\n`%s: %s`: %s.\n", key, r->name, r->doc);
        add_table(out, r->fields, key);
    }
}

static void add_layers(struct buf *out) {
    buf_addf(
        out,
        "\n### Layers\n\nA layer is its word, `{word: {its keys}}` or, where a key is marked ¹, "
        "`{word: value}`.\n\n| layer | key | takes | default | meaning "
        "|\n|---|---|---|---|---|\n");
    for (const struct spec_layer_row *r = spec_layer_rows; r->name != NULL; r++) {
        buf_addf(out, "| `%s` | | | | %s |\n", r->name, r->doc);
        for (const struct field *f = r->fields; f->name != NULL; f++) {
            bool bare = r->shorthand != NULL && strcmp(r->shorthand, f->name) == 0;
            buf_addf(out, "| | `%s`%s | ", f->name, bare ? " ¹" : "");
            add_words(out, f);
            buf_addf(out, " | ");
            add_cell(out, (f->flags & REQUIRED) != 0 ? "required"
                          : f->fallback != NULL      ? f->fallback
                                                     : "");
            buf_addf(out, " | ");
            add_cell(out, f->doc);
            buf_addf(out, " |\n");
        }
    }
}

static void add_searchers(struct buf *out) {
    buf_addf(out, "\n### Searchers\n\n| name | |\n|---|---|\n");
    for (const struct spec_searcher *s = spec_searchers; s->name != NULL; s++)
        buf_addf(out, "| `%s` | %s |\n", s->name, s->doc);
}

void spec_reference(struct buf *out) {
    buf_addf(out, "Version %d of the language. Where a number is taken, an integer will do.\n",
             SPEC_LANGUAGE);
    add_section(out, "The file", spec_sweep_fields);
    add_section(out, "`searcher`", spec_searcher_fields);
    add_searchers(out);
    add_section(out, "`resources`", spec_resources_fields);
    add_section(out, "`reproducibility`", spec_reproducibility_fields);
    add_section(out, "`checkpoint`", spec_checkpoint_fields);
    add_variants(out, "Ranges of `hyperparameters`", "type", spec_types);
    add_section(out, "`data`", spec_data_fields);
    add_variants(out, "Formats", "format", spec_formats);
    add_section(out, "Transforms", spec_transform_fields);
    add_section(out, "`normalize`", spec_normalize_fields);
    add_layers(out);
    add_section(out, "`training`", spec_training_fields);
    add_variants(out, "Optimizers", "name", spec_optimizers);
    add_variants(out, "Schedules", "name", spec_schedules);
}

/* ---- paths ---- */

static void add_keys(struct buf *out, const char *prefix, const struct field *fields) {
    for (const struct field *f = fields; f->name != NULL; f++)
        buf_addf(out, "%s%s\n", prefix, f->name);
}

/* Those of all variants, each once. */
static void add_variant_keys(struct buf *out, const char *prefix, const struct spec_variant *rows) {
    for (const struct spec_variant *r = rows; r->name != NULL; r++)
        for (const struct field *f = r->fields; f->name != NULL; f++) {
            bool seen = false;
            for (const struct spec_variant *k = rows; k < r; k++)
                seen = seen || schema_field(k->fields, f->name) != NULL;
            if (!seen)
                buf_addf(out, "%s%s\n", prefix, f->name);
        }
}

void spec_keys(struct buf *out) {
    add_keys(out, "", spec_sweep_fields);
    add_keys(out, "searcher.", spec_searcher_fields);
    add_keys(out, "resources.", spec_resources_fields);
    add_keys(out, "reproducibility.", spec_reproducibility_fields);
    add_keys(out, "checkpoint.", spec_checkpoint_fields);
    add_keys(out, "data.", spec_data_fields);
    for (int i = 0; i < SPEC_PARTS; i++) {
        char prefix[32];
        (void)snprintf(prefix, sizeof prefix, "data.%s.", spec_part_names[i]);
        add_variant_keys(out, prefix, spec_formats);
    }
    add_keys(out, "training.", spec_training_fields);
    add_variant_keys(out, "training.optimizer.", spec_optimizers);
    add_variant_keys(out, "training.schedule.", spec_schedules);
}
