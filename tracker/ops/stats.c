/* stats: counters of this process. */
#include "tracker/ops/ops.h"

void store_stats(struct store *s, struct store_stats *out) {
    *out = (struct store_stats){
        .points = atomic_load(&s->points),
        .commits = atomic_load(&s->commits),
        .requests = atomic_load(&s->requests),
        .runs = atomic_load(&s->runs),
        .meta_bytes = kv_size(s->meta),
        .blob_bytes = kv_size(s->blobs_kv),
    };
}

enum status op_stats(struct op *op) {
    struct store_stats stats;
    struct value *r = op->reply;
    store_stats(op->s, &stats);
    value_set_int(op->a, r, "points", (int64_t)stats.points);
    value_set_int(op->a, r, "commits", (int64_t)stats.commits);
    value_set_int(op->a, r, "requests", (int64_t)stats.requests);
    value_set_int(op->a, r, "runs", (int64_t)stats.runs);
    value_set_int(op->a, r, "meta_bytes", (int64_t)stats.meta_bytes);
    value_set_int(op->a, r, "blob_bytes", (int64_t)stats.blob_bytes);
    return STATUS_OK;
}
