/* How many groups of which size the sweeps can use, within the slots that there are. */
#include "coordinator/decide/demand.h"

#include "coordinator/state/state.h"

int64_t demand_cap(const struct coordinator *c) {
    if (c->options.gpu_slots &&
        (c->options.max_slots == 0 || c->options.max_slots > c->options.machine_slots))
        return c->options.machine_slots;
    if (c->options.max_slots > 0)
        return c->options.max_slots;
    int64_t cap = c->options.machine_slots;
    for (size_t i = 0; i < c->sweep_count; i++)
        if (c->sweeps[i]->state == SWEEP_ACTIVE && c->sweeps[i]->max_slots > cap)
            cap = c->sweeps[i]->max_slots;
    return cap;
}

/* Groups that the sweep can use at a time. */
static int64_t width(const struct sweep_state *s) {
    int64_t planned = s->search->planned(s->searcher);
    int64_t left = s->leased + s->queued + (planned > s->created ? planned - s->created : 0);
    int64_t fit = s->max_slots / s->slots_per_trial;
    return left < fit ? left : fit;
}

size_t coordinator_demand(const struct coordinator *c, struct demand out[COORDINATOR_DEMAND_MAX]) {
    size_t n = 0;
    int64_t cap = demand_cap(c), budget = cap;
    for (size_t i = 0; i < c->sweep_count && !c->stopping; i++) {
        const struct sweep_state *s = c->sweeps[i];
        if (s->state != SWEEP_ACTIVE || s->cancel)
            continue;
        int64_t wanted = width(s), affordable = budget / s->slots_per_trial;
        bool alone = c->options.gpu_slots && s->slots_per_trial > cap && budget == cap;
        if (wanted > affordable)
            wanted = alone ? 1 : affordable;
        size_t k = 0;
        while (k < n && out[k].ranks != s->slots_per_trial)
            k++;
        if (wanted == 0 || k == COORDINATOR_DEMAND_MAX)
            continue;
        if (k == n)
            out[n++] = (struct demand){.ranks = s->slots_per_trial};
        out[k].wanted += wanted;
        budget = alone ? 0 : budget - wanted * s->slots_per_trial;
    }
    for (size_t i = 0; i < c->group_count; i++)
        for (size_t k = 0; k < n; k++)
            out[k].have +=
                out[k].ranks == c->groups[i]->ranks && c->groups[i]->state != GROUP_LEAVING;
    return n;
}
