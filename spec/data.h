/* `data`: where samples come from and what is done to them, as it is written. What depends on the
 * files themselves (features, classes) is checked by those who read them (worker/data). */
#ifndef SPEC_DATA_H
#define SPEC_DATA_H

#include "spec/language.h"

#define SPEC_TRANSFORMS_MAX 64
#define SPEC_SAMPLE_MAX     16777216 /* features of a sample */
#define SPEC_COLUMNS_MAX    65536    /* of a table */

enum spec_part { SPEC_TRAIN, SPEC_VALIDATION, SPEC_TEST, SPEC_PARTS };
enum spec_task { SPEC_CLASSIFY, SPEC_REGRESS };

/* One file or pair of files. A key that the format does not have is NULL or its default. */
struct spec_source {
    const struct value *node;           /* NULL: the part is not given */
    const char *format;                 /* idx, csv, npy */
    const char *images, *labels, *file; /* paths */
    bool header;                        /* csv: the first row has names */
    const struct value *label;          /* csv: a column's name, or its number from 0 */
    enum spec_task task;
    int shape_count; /* 0: as the file has it; 1 or 3 */
    int64_t shape[3];
    const char *sweep; /* the file that this is written in, for messages; may be NULL */
    int language;      /* from 1: a table's columns are inferred, and numbers kept, by its rules */

    /* csv. Lists of names or numbers; {column: number | words}; a number or error, mean, drop. Only
     * data.train has them; NULL: not given. */
    const struct value *exclude, *columns, *types, *missing;
    const char *separator, *decimal; /* as they are written; NULL: not given */
    char between, point;             /* what holds */
};

enum transform_kind { TRANSFORM_SCALE, TRANSFORM_SHIFT, TRANSFORM_NORMALIZE };

struct spec_transform {
    enum transform_kind kind;
    double by;                      /* scale, shift */
    bool fit;                       /* normalize: from the training part; else given: */
    const struct value *mean, *std; /* a number, or a list: one a channel or one a feature */
};

struct spec_data {
    const char *file;         /* of the sweep or trial, for messages; may be NULL */
    const struct value *node; /* digests and caches take it as it is written */
    struct spec_source part[SPEC_PARTS];
    double validation_split; /* share of the training part; 0: none */
    bool shuffle;
    int transform_count;
    struct spec_transform transforms[SPEC_TRANSFORMS_MAX];
};

enum status spec_data_read(const struct value *map, struct schema_source source,
                           struct spec_data *out, struct err *err) MUST_USE;

extern const char *const spec_part_names[SPEC_PARTS]; /* "train" … */

#endif
