/* Batches: from host rows, tables on the device, or rows read ahead by a thread. */
#include "worker/data/loader.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/order.h"

#define SLOTS       2
#define MARK_LOADER (MARKS - SLOTS) /* marks of the device that are ours */

struct loader {
    struct loader_spec spec;
    const struct backend *backend;
    const struct data_info *info;
    const struct table *tables[3]; /* by part; resident */
    bool resident, streamed;
    struct batch batch;
    float *staged; /* device: float rows on their way to another precision */
    int64_t *ids;
    struct data_rows slot[SLOTS]; /* host: [0] serves evaluation too */
    int64_t next;                 /* the step whose rows wait for a slot; 0: none */

    /* the thread; below: under the lock */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool running, leave;
    int64_t wanted, filled; /* steps; the slot of a step is step % SLOTS */
};

/* ---- rows on the host ---- */

static void gather_step(const struct loader *l, int64_t step, int64_t *ids,
                        const struct data_rows *to) {
    const struct loader_spec *s = &l->spec;
    int64_t epoch = (step - 1) / s->steps_per_epoch;
    int64_t first = (step - 1) % s->steps_per_epoch * s->batch + s->first_row;
    for (int64_t i = 0; i < s->rows; i++)
        ids[i] = order_at(s->seed, epoch, first + i, l->info->train, s->shuffle);
    data_gather(s->data, DATA_TRAIN, ids, s->rows, to);
}

/* ---- the thread ---- */

static void *prefetch(void *arg) {
    struct loader *l = arg;
    int64_t *ids = calloc((size_t)l->spec.rows, sizeof *ids);
    if (ids == NULL)
        abort();
    pthread_mutex_lock(&l->lock);
    while (!l->leave) {
        if (l->wanted == l->filled) {
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        int64_t step = l->wanted;
        pthread_mutex_unlock(&l->lock);
        gather_step(l, step, ids, &l->slot[step % SLOTS]);
        pthread_mutex_lock(&l->lock);
        l->filled = step;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    free(ids);
    return NULL;
}

/* Asks for the rows of a step; the slot must be free. */
static void want(struct loader *l, int64_t step) {
    pthread_mutex_lock(&l->lock);
    l->wanted = step;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static void await(struct loader *l, int64_t step) {
    pthread_mutex_lock(&l->lock);
    if (l->wanted != step) { /* the first step, or one that is done again */
        while (l->wanted != l->filled)
            pthread_cond_wait(&l->changed, &l->lock);
        l->wanted = step;
        pthread_cond_broadcast(&l->changed);
    }
    while (l->filled != step)
        pthread_cond_wait(&l->changed, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

/* ---- making ---- */

/* Tables are the data set's: other trials on this device find them there. */
static enum status take_tables(struct loader *l, struct err *err) {
    for (int part = DATA_TRAIN; part <= DATA_TEST; part++) {
        enum status st =
            data_table(l->spec.data, (enum data_part)part, l->spec.device, &l->tables[part], err);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

static enum status take_rows(struct loader *l, struct data_rows *r, int64_t rows, struct err *err) {
    const struct backend *b = l->backend;
    struct device *d = l->spec.device;
    r->x = b->memory->host_alloc(d, (size_t)(rows * l->info->features) * sizeof(float));
    if (l->spec.classes)
        r->labels = b->memory->host_alloc(d, (size_t)rows * sizeof(int32_t));
    else
        r->targets = b->memory->host_alloc(d, (size_t)(rows * l->info->outputs) * sizeof(float));
    if (r->x == NULL || (r->labels == NULL && r->targets == NULL))
        return err_set(err, STATUS_NOMEM, "no memory for a batch of %lld rows of %lld features",
                       (long long)rows, (long long)l->info->features);
    return STATUS_OK;
}

static enum status take_batch(struct loader *l, int64_t rows, struct err *err) {
    const struct backend *b = l->backend;
    struct device *d = l->spec.device;
    size_t elements = (size_t)(rows * l->info->features);
    l->batch.x = b->memory->alloc(d, elements * precision_bytes(l->spec.precision));
    if (l->spec.classes)
        l->batch.labels = b->memory->alloc(d, (size_t)rows * sizeof(int32_t));
    else
        l->batch.targets = b->memory->alloc(d, (size_t)(rows * l->info->outputs) * sizeof(float));
    bool ok = l->batch.x != NULL && (l->batch.labels != NULL || l->batch.targets != NULL);
    if (l->streamed && l->spec.precision == PRECISION_BF16)
        ok &= (l->staged = b->memory->alloc(d, elements * sizeof(float))) != NULL;
    if (!ok)
        return err_set(err, STATUS_NOMEM, "no memory for a batch of %lld rows of %lld features",
                       (long long)rows, (long long)l->info->features);
    return STATUS_OK;
}

static enum status start_thread(struct loader *l, struct err *err) {
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    if (pthread_create(&l->thread, NULL, prefetch, l) != 0)
        return err_set(err, STATUS_NOMEM, "the thread that reads ahead cannot be started");
    l->running = true;
    return STATUS_OK;
}

static enum status make(struct loader *l, struct err *err) {
    enum status st = STATUS_OK;
    const struct loader_spec *s = &l->spec;
    int64_t rows = s->rows > s->eval_rows ? s->rows : s->eval_rows;
    if (l->backend->queues) {
        st = s->resident ? take_tables(l, err) : STATUS_NOMEM;
        if (st != STATUS_OK && st != STATUS_NOMEM && st != STATUS_TOO_LARGE)
            goto out;
        l->resident = st == STATUS_OK;
        l->streamed = !l->resident;
    }
    l->ids = calloc((size_t)rows, sizeof *l->ids);
    if (l->ids == NULL) {
        st = err_set(err, STATUS_NOMEM, "no memory for a batch of %lld rows", (long long)rows);
        goto out;
    }
    TRY(take_batch(l, rows, err));
    for (int i = 0; l->streamed && i < SLOTS; i++)
        TRY(take_rows(l, &l->slot[i], rows, err));
    if (l->streamed)
        TRY(start_thread(l, err));
out:
    return st;
}

enum status loader_new(const struct loader_spec *spec, struct loader **out, struct err *err) {
    *out = NULL;
    struct loader *l = calloc(1, sizeof *l);
    if (l == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for a batch");
    l->spec = *spec;
    l->backend = spec->device->backend;
    l->info = data_info(spec->data);
    enum status st = make(l, err);
    if (st != STATUS_OK)
        loader_destroy(&l);
    *out = l;
    return st;
}

static void stop_thread(struct loader *l) {
    pthread_mutex_lock(&l->lock);
    l->leave = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
}

void loader_destroy(struct loader **loader) {
    struct loader *l = *loader;
    if (l == NULL)
        return;
    struct device *d = l->spec.device;
    if (l->running)
        stop_thread(l);
    l->backend->order->sync(d);
    for (int i = 0; i < SLOTS; i++) {
        l->backend->memory->host_release(d, l->slot[i].x);
        l->backend->memory->host_release(d, l->slot[i].labels);
        l->backend->memory->host_release(d, l->slot[i].targets);
    }
    l->backend->memory->release(d, l->batch.x);
    l->backend->memory->release(d, l->batch.labels);
    l->backend->memory->release(d, l->batch.targets);
    l->backend->memory->release(d, l->staged);
    free(l->ids);
    free(l);
    *loader = NULL;
}

const char *loader_way(bool resident, bool streamed) {
    return resident ? "resident" : streamed ? "streamed" : "host";
}

const char *loader_name(const struct loader *l) {
    return loader_way(l->resident, l->streamed);
}

const struct batch *loader_batch(const struct loader *l) {
    return &l->batch;
}

/* ---- a step ---- */

void loader_terms(const struct loader *l, int64_t step, struct step_terms *terms) {
    const struct loader_spec *s = &l->spec;
    terms->seed = s->seed;
    terms->shuffle = s->shuffle;
    terms->epoch = (step - 1) / s->steps_per_epoch;
    terms->first = (step - 1) % s->steps_per_epoch * s->batch + s->first_row;
}

/* Queues the way of host rows to the batch. */
static void send(struct loader *l, const struct data_rows *from, int64_t rows) {
    const struct backend *b = l->backend;
    struct device *d = l->spec.device;
    int64_t elements = rows * l->info->features;
    float *x = l->staged != NULL ? l->staged : l->batch.x;
    b->memory->copy(d, QUEUE_COMPUTE, x, from->x, (size_t)elements * sizeof(float));
    if (l->staged != NULL)
        b->memory->convert(d, l->staged, l->batch.x, elements, l->spec.precision);
    if (l->spec.classes)
        b->memory->copy(d, QUEUE_COMPUTE, l->batch.labels, from->labels,
                        (size_t)rows * sizeof(int32_t));
    else
        b->memory->copy(d, QUEUE_COMPUTE, l->batch.targets, from->targets,
                        (size_t)(rows * l->info->outputs) * sizeof(float));
}

static void let_go(struct loader *l, int slot) {
    while (!l->backend->order->reached(l->spec.device, MARK_LOADER + slot))
        sched_yield();
}

/* The slot is free when the copy that read it is done: the step before last has begun. */
bool loader_ready(struct loader *l) {
    if (l->next == 0)
        return true;
    if (!l->backend->order->reached(l->spec.device, MARK_LOADER + (int)(l->next % SLOTS)))
        return false;
    want(l, l->next);
    l->next = 0;
    return true;
}

void loader_prepare(struct loader *l, int64_t step) {
    if (!l->streamed)
        return;
    int slot = (int)(step % SLOTS);
    while (!loader_ready(l))
        (void)sched_yield();
    await(l, step);
    send(l, &l->slot[slot], l->spec.rows);
    l->backend->order->mark(l->spec.device, QUEUE_COMPUTE, MARK_LOADER + slot);
    l->next = step + 1;
    (void)loader_ready(l);
}

void loader_gather(struct loader *l, int64_t step) {
    const struct loader_spec *s = &l->spec;
    struct data_rows host = {l->batch.x, l->batch.labels, l->batch.targets};
    if (l->resident)
        l->backend->memory->gather_step(s->device, l->tables[DATA_TRAIN], s->rows, s->precision,
                                        &l->batch);
    else if (!l->streamed)
        gather_step(l, step, l->ids, &host);
}

void loader_rows(struct loader *l, enum data_part part, int64_t first, int64_t rows) {
    const struct loader_spec *s = &l->spec;
    if (l->resident) {
        l->backend->memory->gather_rows(s->device, l->tables[part], first, rows, s->precision,
                                        &l->batch);
        return;
    }
    struct data_rows to = {l->batch.x, l->batch.labels, l->batch.targets};
    for (int64_t i = 0; i < rows; i++)
        l->ids[i] = first + i;
    if (l->streamed) { /* the thread's slots: nothing of it may be under way */
        l->next = 0;
        pthread_mutex_lock(&l->lock);
        while (l->wanted != l->filled)
            pthread_cond_wait(&l->changed, &l->lock);
        l->wanted = l->filled = 0;
        pthread_mutex_unlock(&l->lock);
        for (int i = 0; i < SLOTS; i++)
            let_go(l, i);
        to = l->slot[0];
    }
    data_gather(s->data, part, l->ids, rows, &to);
    if (l->streamed) {
        send(l, &to, rows);
        l->backend->order->mark(s->device, QUEUE_COMPUTE, MARK_LOADER);
    }
}
