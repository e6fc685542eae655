/* What data.c and data_cache.c share.
 *
 *     source.c     bytes of a plain or gzip file, in order
 *     csv.c idx.c npy.c            bytes ──▶ struct samples (samples.c); for CSV see csv_private.h
 *     format.c     the list of formats     samples_load.c   reads, checks, takes leaf digests
 *     transform.c  scale, shift, normalize: fitted and applied
 *     digits.c     values that float32 cannot tell apart    notes.c   what is said and not refused
 *     data.c       parts, split, digest, gather     data_cache.c   what a warm group keeps
 *     data_describe.c   for the manifest, preview and exports */
#ifndef WORKER_DATA_DATA_PRIVATE_H
#define WORKER_DATA_DATA_PRIVATE_H

#include "core/buf.h"
#include "worker/data/format.h"
#include "worker/data/transform.h"

#define PARTS SPEC_PARTS

struct dataset {
    struct samples *from[PARTS]; /* counted; validation may be train's, all but train NULL */
    int64_t *ids[PARTS];         /* the part's samples within `from`; NULL: all, in order */
    int64_t count[PARTS];
    struct transforms transforms;
    struct data_info info;
    struct notes notes;    /* of the set; its samples have their own */
    struct device *device; /* of the tables; NULL: none made yet */
    struct table *tables[PARTS];
};

/* Finds samples that are there already, or NULL; offers those that were loaded. */
struct samples_shelf {
    struct samples *(*find)(void *arg, const char *key);
    void (*keep)(void *arg, struct samples *s);
    void *arg;
};
enum status data_load_shelf(const struct data_request *r, const struct samples_shelf *shelf,
                            struct dataset **out, struct err *err) MUST_USE;

/* Canonical text of a source with size and mtime of its files; into `out`. */
enum status data_source_key(const struct spec_source *source, struct buf *out,
                            struct err *err) MUST_USE;
size_t data_bytes(const struct dataset *d); /* without the samples */

#endif
