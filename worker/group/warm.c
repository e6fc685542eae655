/* The device, its communicator and the data sets that a rank keeps; trainers made from them. */
#include "worker/group/warm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "kernels/devices.h"
#include "kernels/run/device.h"
#include "worker/world/nccl.h"

void worker_close_device(struct worker *w) {
    nccl_close(&w->nccl);
    data_cache_destroy(&w->cache); /* its tables are on the device */
    device_close(&w->device);
}

bool worker_device_lost(const struct worker *w) {
    struct err why;
    return w->device != NULL && device_queues(w->device) &&
           w->device->backend->order->status(w->device, &why) != STATUS_OK;
}

/* Ranks with a card each exchange by NCCL; others through the host, unless NCCL was asked for. */
static enum status open_nccl(struct worker *w, struct err *err) {
    struct err why = {0};
    bool asked = w->exchange == EXCHANGE_NCCL;
    if (world_size(w->world) == 1)
        return STATUS_OK;
    if (!device_queues(w->device))
        return asked ? err_set(err, STATUS_INVALID,
                               "--exchange nccl moves GPU memory, but this group computes on %s",
                               device_name(w->device))
                     : STATUS_OK;
    if (!asked && w->exchange != EXCHANGE_AUTO)
        return STATUS_OK;
    enum status st = nccl_open(w->world, w->device, &w->nccl, &why);
    if (st == STATUS_OK)
        return STATUS_OK;
    if (asked) {
        *err = why;
        return st;
    }
    if (world_rank(w->world) == 0)
        log_err(LOG_INFO, "exchange_by_way_of_the_host", &why);
    return STATUS_OK;
}

/* With `auto` a rank whose card refuses would compute on its CPU, to other bits. */
static enum status same_device(struct worker *w, const struct device *d, struct err *err) {
    enum { WORD = 16 };
    char mine[WORD] = "", *all = calloc((size_t)world_size(w->world), WORD);
    if (all == NULL)
        world_abort(w->world, status_exit_code(STATUS_NOMEM));
    (void)snprintf(mine, sizeof mine, "%s", device_name(d));
    enum status st = world_gather(w->world, mine, WORD, all, err);
    for (int r = 1; st == STATUS_OK && r < world_size(w->world); r++)
        if (strcmp(all, all + r * WORD) != 0)
            st = err_set(
                err, STATUS_UNAVAILABLE,
                "rank 0 computes on %s, rank %d on %s: use --device cpu, or see why the GPU "
                "does not answer (the log of its rank has the reason)",
                all, r, all + r * WORD);
    free(all);
    return st;
}

enum status worker_device(struct worker *w, const char *name, struct err *err) {
    enum status st = STATUS_OK;
    bool any = name == NULL || strcmp(name, "auto") == 0;
    if (w->device != NULL && (any || strcmp(name, device_name(w->device)) == 0))
        return STATUS_OK;
    const char *wanted = any ? w->device_name : name;
    struct device *next = NULL;
    int index = world_local_rank(w->world);
    TRY(world_agree(w->world, device_open(wanted, index, &next, err), err));
    TRY(same_device(w, next, err));
    worker_close_device(w); /* only now: what cannot be opened leaves the group as warm as it was */
    w->device = next;
    next = NULL;
    st = world_agree(w->world, data_cache_new(w->cache_bytes, &w->cache, err), err);
    if (st == STATUS_OK)
        st = open_nccl(w, err);
    if (st != STATUS_OK)
        worker_close_device(w);
out:
    device_close(&next);
    return st;
}

enum status worker_trainer(struct worker *w, const struct worker_trial *trial, struct trainer **out,
                           struct err *err) {
    const struct value *asked = value_get(trial->config, "device");
    char place[SCHEMA_PLACE_MAX];
    enum status st = worker_device(w, value_get_string(trial->config, "device", "auto"), err);
    if (st != STATUS_OK && asked != NULL && err != NULL) {
        const struct err why = *err;
        return err_set(err, st, "%s%s", schema_place(trial->file, asked, place), why.text);
    }
    if (st != STATUS_OK)
        return st;
    struct trainer_spec spec = {
        .world = w->world,
        .device = w->device,
        .nccl = w->nccl,
        .stream_data = w->stream_data,
        .eager = w->eager,
        .gpu_share = w->gpu_share,
        .cache = w->cache,
        .config = trial->config,
        .file = trial->file,
        .exchange = w->exchange,
        .levels = w->level_count > 0 ? w->levels : NULL,
        .level_count = w->level_count,
        .planned = trial->planned,
        .pump = trial->pump,
    };
    return trainer_new(&spec, out, err);
}
