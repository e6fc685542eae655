/* Searchers: their names and keys. */
#include "spec/searcher.h"

#include <stdio.h>
#include <string.h>

#include "spec/sweep_private.h"

#define SWEEP(member) INTO(struct sweep, member)

const struct field spec_searcher_fields[] = {
    F_STRING("name", REQUIRED, 1, 32, "which searcher, see Searchers", SWEEP(searcher)),
    SPEC_METRIC_ROW(SWEEP(metric)),
    SPEC_SMALLER_ROW(SWEEP(smaller_is_better)),
    SPEC_METRIC_OF_ROW(SWEEP(metric_of_last)),
    F_INT("max_trials", 0, 1, SWEEP_TRIALS_MAX, "trials, at most",
          DEFAULT("1; grid: all its points"), .store = STORE_NOTHING),
    SPEC_MAX_TIME_ROW(SWEEP(max_time)),
    SPEC_TIME_METRIC_ROW(SWEEP(time_metric)),
    FIELD_END};

#define BUILT(name, keys, doc) {#name, keys, true, doc},
#define PLANNED(name)          {name, SPEC_SEARCHER_KEYS, false, "planned"},
const struct spec_searcher spec_searchers[] = {
    SPEC_SEARCHERS(BUILT) PLANNED("sobol") PLANNED("tpe") PLANNED("gp") PLANNED("asha")
        PLANNED("hyperband") PLANNED("bohb") PLANNED("pbt"){.name = NULL}};

static const struct spec_searcher *find(const char *name) {
    for (const struct spec_searcher *s = spec_searchers; s->name != NULL; s++)
        if (strcmp(s->name, name) == 0)
            return s;
    return NULL;
}

#define NAMES_MAX 256

/* Those that are built: "single|grid|random". */
static void built_names(char out[NAMES_MAX]) {
    size_t len = 0;
    out[0] = '\0';
    for (const struct spec_searcher *s = spec_searchers; s->name != NULL && len < NAMES_MAX; s++)
        if (s->built)
            len +=
                (size_t)snprintf(out + len, NAMES_MAX - len, "%s%s", len > 0 ? "|" : "", s->name);
}

/* Whether `key` is in "a|b|c". */
static bool among(const char *keys, const char *key) {
    size_t len = strlen(key);
    for (const char *k = keys; *k != '\0';) {
        size_t n = strcspn(k, "|");
        if (n == len && memcmp(k, key, n) == 0)
            return true;
        k += n + (k[n] == '|');
    }
    return false;
}

enum status sweep_check_searcher(struct sweep *s, struct err *err) {
    const struct value *map = value_get(s->root, "searcher"), *at = value_get(map, "name");
    const struct spec_searcher *row = find(s->searcher);
    char names[NAMES_MAX], near[64];
    s->max_trials = value_get_int(map, "max_trials", 0); /* 0: not given */
    built_names(names);
    if (row == NULL) {
        const char *guess = schema_nearest(names, s->searcher, near);
        return spec_refuse(s->source, at, err, "searcher.name must be one of %s, not '%s'%s%s",
                           names, s->searcher, guess != NULL ? "; nearest is " : "",
                           guess != NULL ? guess : "");
    }
    if (!row->built)
        return spec_refuse(s->source, at, err,
                           "searcher.name: %s is planned but not built yet; use one of %s",
                           s->searcher, names);
    for (size_t i = 0; i < map->count; i++)
        if (!among(row->keys, map->members[i].key) && strcmp(map->members[i].key, "name") != 0)
            return spec_refuse(s->source, map->members[i].value, err,
                               "searcher.%s is not a key of %s", map->members[i].key, row->name);
    return STATUS_OK;
}
