/* Points in columns, posted now and then. */
#include "wire/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

#define KEY_BYTES_MAX   200 /* as in the message table */
#define ARENA_BYTES_MAX ((size_t)1 << 20)

struct point {
    uint32_t key;
    int64_t step, time_ns;
    double value;
};

struct metrics {
    struct session *session;
    const struct clock *clock;
    char run[32];
    int rank;
    char *keys[METRICS_KEYS_MAX];
    size_t key_count;
    struct point points[METRICS_POINTS_MAX];
    size_t count;
    int64_t first_ns;                      /* monotonic: when points[0] came */
    uint8_t steps[METRICS_POINTS_MAX * 8]; /* the columns of a post */
    uint8_t times[METRICS_POINTS_MAX * 8];
    uint8_t values[METRICS_POINTS_MAX * 8];
    struct arena arena; /* the header of a post */
};

enum status metrics_new(struct session *s, const char *run, int rank, struct metrics **out,
                        struct err *err) {
    struct metrics *m = calloc(1, sizeof *m);
    if (m == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for metrics");
    if (strlen(run) >= sizeof m->run) {
        free(m);
        return err_set(err, STATUS_INVALID, "'%.40s' is not the id of a run", run);
    }
    memcpy(m->run, run, strlen(run) + 1);
    m->session = s;
    m->rank = rank;
    m->clock = session_clock(s);
    arena_init(&m->arena, ARENA_BYTES_MAX);
    *out = m;
    return STATUS_OK;
}

void metrics_destroy(struct metrics **m) {
    if (*m == NULL)
        return;
    for (size_t i = 0; i < (*m)->key_count; i++)
        free((*m)->keys[i]);
    arena_release(&(*m)->arena);
    free(*m);
    *m = NULL;
}

static enum status find_key(struct metrics *m, const char *key, uint32_t *out, struct err *err) {
    for (size_t i = 0; i < m->key_count; i++)
        if (strcmp(m->keys[i], key) == 0) {
            *out = (uint32_t)i;
            return STATUS_OK;
        }
    enum status st = message_check_name(key, KEY_BYTES_MAX, "the name of a metric", err);
    if (st != STATUS_OK)
        return st;
    if (m->key_count == METRICS_KEYS_MAX)
        return err_set(err, STATUS_FULL, "a run may log %d metrics; '%s' is one too many",
                       METRICS_KEYS_MAX, key);
    char *copy = strdup(key);
    if (copy == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the metric '%s'", key);
    *out = (uint32_t)m->key_count;
    m->keys[m->key_count++] = copy;
    return STATUS_OK;
}

/* Groups the points by key, each key's in the order in which they came. */
static struct value *fill_columns(struct metrics *m) {
    size_t counts[METRICS_KEYS_MAX] = {0}, at[METRICS_KEYS_MAX], next = 0;
    for (size_t i = 0; i < m->count; i++)
        counts[m->points[i].key]++;
    struct value *series = value_list(&m->arena);
    for (size_t k = 0; k < m->key_count; k++) {
        at[k] = next;
        next += counts[k];
        if (counts[k] == 0)
            continue;
        struct value *item = value_map(&m->arena);
        value_set_string(&m->arena, item, "key", m->keys[k]);
        value_set_int(&m->arena, item, "count", (int64_t)counts[k]);
        value_push(&m->arena, series, item);
    }
    for (size_t i = 0; i < m->count; i++) {
        const struct point *p = &m->points[i];
        size_t byte = at[p->key]++ * 8;
        bytes_put_u64(m->steps + byte, (uint64_t)p->step);
        bytes_put_u64(m->times + byte, (uint64_t)p->time_ns);
        bytes_put_f64(m->values + byte, p->value);
    }
    return series;
}

static enum status post(struct metrics *m, struct err *err) {
    arena_clear(&m->arena);
    struct value *request = message_request(&m->arena, "run.log", NULL);
    value_set_string(&m->arena, request, "run", m->run);
    if (m->rank != 0)
        value_set_int(&m->arena, request, "rank", m->rank);
    value_set(&m->arena, request, "series", fill_columns(m));
    struct net_frame columns[] = {
        {m->steps, m->count * 8}, {m->times, m->count * 8}, {m->values, m->count * 8}};
    enum status st = session_post(m->session, request, (struct net_frames){columns, 3}, err);
    /* What can never be sent must not hold up what comes after it. */
    if (st == STATUS_OK || st == STATUS_INVALID || st == STATUS_TOO_LARGE)
        m->count = 0;
    return st;
}

enum status metrics_add(struct metrics *m, const char *key, int64_t step, double value,
                        struct err *err) {
    uint32_t k = 0;
    enum status st = STATUS_OK;
    TRY(find_key(m, key, &k, err)); /* what cannot be sent is never among what waits */
    if (m->count == METRICS_POINTS_MAX)
        TRY(post(m, err));
    if (m->count == 0)
        m->first_ns = clock_mono_ns(m->clock);
    m->points[m->count++] = (struct point){k, step, clock_wall_ns(m->clock), value};
out:
    return st;
}

enum status metrics_flush(struct metrics *m, bool now, struct err *err) {
    if (m->count == 0)
        return STATUS_OK;
    bool full = m->count == METRICS_POINTS_MAX;
    bool old = clock_mono_ns(m->clock) - m->first_ns >= METRICS_AGE_MS * NS_PER_MS;
    return now || full || old ? post(m, err) : STATUS_OK;
}
