/* Which GPUs a group gets. */
#include "coordinator/shell/placement.h"

#include <stdio.h>
#include <string.h>

/* The i-th word of a list with commas; false where it has fewer. */
static bool word_at(const char *list, int i, char out[PLACEMENT_NAME_MAX]) {
    for (; i > 0 && list != NULL; i--) {
        list = strchr(list, ',');
        list = list != NULL ? list + 1 : NULL;
    }
    if (list == NULL)
        return false;
    list += strspn(list, " ");
    size_t len = strcspn(list, ", ");
    (void)snprintf(out, PLACEMENT_NAME_MAX, "%.*s", (int)len, list);
    return len > 0 && len < PLACEMENT_NAME_MAX;
}

void placement_init(struct placement *p, const int *gpus, size_t count, const char *visible,
                    int64_t slots_per_gpu) {
    *p = (struct placement){.slots_per_gpu = slots_per_gpu};
    for (size_t i = 0; i < count && p->count < PLACEMENT_GPUS_MAX; i++) {
        char *name = p->names[p->count++];
        if (!word_at(visible, gpus[i], name))
            (void)snprintf(name, PLACEMENT_NAME_MAX, "%d", gpus[i]);
    }
}

int64_t placement_slots(const struct placement *p) {
    return p->count * p->slots_per_gpu;
}

/* Of those that the group does not have yet; −1: none. */
static int least_used(const struct placement *p, const bool *has) {
    int best = -1;
    for (int i = 0; i < p->count; i++)
        if (!has[i] && (best < 0 || p->ranks[i] < p->ranks[best]))
            best = i;
    return best;
}

bool placement_take(struct placement *p, int64_t ranks, struct placed *out) {
    bool has[PLACEMENT_GPUS_MAX] = {false};
    int64_t used = 0;
    *out = (struct placed){.ranks = ranks};
    for (int i = 0; i < p->count; i++)
        used += p->ranks[i];
    if (p->count > 0 && used > 0 && used + ranks > placement_slots(p))
        return false;
    while (out->count < p->count && out->count < ranks) {
        int gpu = least_used(p, has);
        has[gpu] = true;
        out->gpus[out->count++] = (uint8_t)gpu;
    }
    for (int64_t r = 0; out->count > 0 && r < ranks; r++)
        p->ranks[out->gpus[r % out->count]]++;
    return true;
}

void placement_give(struct placement *p, const struct placed *placed) {
    for (int64_t r = 0; placed->count > 0 && r < placed->ranks; r++)
        p->ranks[placed->gpus[r % placed->count]]--;
}

void placement_text(const struct placement *p, const struct placed *placed,
                    char out[PLACEMENT_TEXT_MAX]) {
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < placed->count; i++)
        n += (size_t)snprintf(out + n, PLACEMENT_TEXT_MAX - n, "%s%s", i > 0 ? "," : "",
                              p->names[placed->gpus[i]]);
}
