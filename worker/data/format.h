/* Data formats: one reader each, listed in format.c by the name that a sweep file gives.
 *
 *     idx.c npy.c csv.c ──▶ struct data_format ──▶ format.c: name → reader ──▶ samples_load.c
 *
 * To add a format: its row in spec/ (name and keys), a file here with its reader, a line below and
 * one in format.c. */
#ifndef WORKER_DATA_FORMAT_H
#define WORKER_DATA_FORMAT_H

#include "worker/data/samples.h"

struct data_format {
    const char *name;

    /* Reads a source. x, and labels or targets, are filled; what all formats have in common
     * (finite numbers, labels in range, the digest) is samples_load's to check. */
    enum status (*read)(const struct samples_request *r, struct samples **out, struct err *err);

    void (*forget)(void *learnt); /* frees samples.learnt; NULL where there never is any */

    /* The words of the classes in order; NULL where labels are numbers. May be NULL. */
    struct value *(*class_names)(struct arena *a, const void *learnt);

    /* What a stranger needs to make a row: [{name, kind: number|words, first, count, words}], and
     * what the label is called. NULL where nothing in a file has a name. */
    struct value *(*inputs)(struct arena *a, const void *learnt);
    struct value *(*label_name)(struct arena *a, const void *learnt);

    /* The name of the number that a feature is; NULL: it has none, or is one word of several. */
    const char *(*feature_name)(const void *learnt, int64_t feature);
};

extern const struct data_format csv_format, idx_format, npy_format;

/* NULL: there is no such format. */
const struct data_format *data_format_find(const char *name);

#endif
