/* The table of worker groups, sorted by id. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/state/state.h"

static size_t place_of(const struct coordinator *c, const char *id) {
    size_t lo = 0, hi = c->group_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(c->groups[mid]->id, id) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct group *group_find(const struct coordinator *c, const char *id) {
    size_t i = place_of(c, id);
    return i < c->group_count && strcmp(c->groups[i]->id, id) == 0 ? c->groups[i] : NULL;
}

enum status group_add(struct coordinator *c, const char *id, struct group **out, struct err *err) {
    if (c->group_count == COORDINATOR_GROUPS_MAX)
        return err_set(err, STATUS_FULL, "there are %d worker groups already",
                       COORDINATOR_GROUPS_MAX);
    if (c->group_count == c->group_cap) {
        size_t cap = c->group_cap == 0 ? 16 : c->group_cap * 2;
        struct group **bigger = realloc(c->groups, cap * sizeof(struct group *));
        if (bigger == NULL)
            return err_set(err, STATUS_NOMEM, "out of memory for a worker group");
        c->groups = bigger;
        c->group_cap = cap;
    }
    struct group *g = calloc(1, sizeof *g);
    if (g == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for a worker group");
    (void)snprintf(g->id, sizeof g->id, "%s", id);
    size_t i = place_of(c, id);
    memmove(&c->groups[i + 1], &c->groups[i], (c->group_count - i) * sizeof(struct group *));
    c->groups[i] = g;
    c->group_count++;
    *out = g;
    return STATUS_OK;
}

void group_remove(struct coordinator *c, struct group *g) {
    size_t i = place_of(c, g->id);
    c->group_count--;
    memmove(&c->groups[i], &c->groups[i + 1], (c->group_count - i) * sizeof(struct group *));
    free(g);
}

void group_freed(struct group *g, int64_t mono_ns) {
    g->trial = NULL;
    g->step = 0;
    g->units = 0.0;
    g->idle_since_ns = mono_ns;
    if (g->state == GROUP_BUSY)
        g->state = GROUP_IDLE;
}

struct trial *group_trial(const struct coordinator *c, const char *id) {
    const struct group *g = group_find(c, id);
    if (g != NULL && g->trial != NULL)
        return g->trial;
    for (struct trial *t = c->leased; t != NULL; t = t->next)
        if (strcmp(t->group, id) == 0)
            return t;
    return NULL;
}
