#include "worker/data/feed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/order.h"

#define SLOTS     2
#define MARK_FEED (MARKS - SLOTS) /* marks of the device that are ours */

struct feed {
    struct feed_spec spec;
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

static void gather_step(const struct feed *f, int64_t step, int64_t *ids,
                        const struct data_rows *to) {
    const struct feed_spec *s = &f->spec;
    int64_t epoch = (step - 1) / s->steps_per_epoch;
    int64_t first = (step - 1) % s->steps_per_epoch * s->batch + s->first_row;
    for (int64_t i = 0; i < s->rows; i++)
        ids[i] = order_at(s->seed, epoch, first + i, f->info->train, s->shuffle);
    data_gather(s->data, DATA_TRAIN, ids, s->rows, to);
}

/* ---- the thread ---- */

static void *prefetch(void *arg) {
    struct feed *f = arg;
    int64_t *ids = calloc((size_t)f->spec.rows, sizeof *ids);
    if (ids == NULL)
        abort();
    pthread_mutex_lock(&f->lock);
    while (!f->leave) {
        if (f->wanted == f->filled) {
            pthread_cond_wait(&f->changed, &f->lock);
            continue;
        }
        int64_t step = f->wanted;
        pthread_mutex_unlock(&f->lock);
        gather_step(f, step, ids, &f->slot[step % SLOTS]);
        pthread_mutex_lock(&f->lock);
        f->filled = step;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    free(ids);
    return NULL;
}

/* Asks for the rows of a step; the slot must be free. */
static void want(struct feed *f, int64_t step) {
    pthread_mutex_lock(&f->lock);
    f->wanted = step;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void await(struct feed *f, int64_t step) {
    pthread_mutex_lock(&f->lock);
    if (f->wanted != step) { /* the first step, or one that is done again */
        while (f->wanted != f->filled)
            pthread_cond_wait(&f->changed, &f->lock);
        f->wanted = step;
        pthread_cond_broadcast(&f->changed);
    }
    while (f->filled != step)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

/* ---- making ---- */

/* Tables are the data set's: other trials on this device find them there. */
static enum status take_tables(struct feed *f, struct err *err) {
    for (int part = DATA_TRAIN; part <= DATA_TEST; part++) {
        enum status st =
            data_table(f->spec.data, (enum data_part)part, f->spec.device, &f->tables[part], err);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

static enum status take_rows(struct feed *f, struct data_rows *r, int64_t rows, struct err *err) {
    const struct backend *b = f->backend;
    struct device *d = f->spec.device;
    r->x = b->memory->host_alloc(d, (size_t)(rows * f->info->features) * sizeof(float));
    if (f->spec.classes)
        r->labels = b->memory->host_alloc(d, (size_t)rows * sizeof(int32_t));
    else
        r->targets = b->memory->host_alloc(d, (size_t)(rows * f->info->outputs) * sizeof(float));
    if (r->x == NULL || (r->labels == NULL && r->targets == NULL))
        return err_set(err, STATUS_NOMEM, "no memory for a batch of %lld rows of %lld features",
                       (long long)rows, (long long)f->info->features);
    return STATUS_OK;
}

static enum status take_batch(struct feed *f, int64_t rows, struct err *err) {
    const struct backend *b = f->backend;
    struct device *d = f->spec.device;
    size_t elements = (size_t)(rows * f->info->features);
    f->batch.x = b->memory->alloc(d, elements * precision_bytes(f->spec.precision));
    if (f->spec.classes)
        f->batch.labels = b->memory->alloc(d, (size_t)rows * sizeof(int32_t));
    else
        f->batch.targets = b->memory->alloc(d, (size_t)(rows * f->info->outputs) * sizeof(float));
    bool ok = f->batch.x != NULL && (f->batch.labels != NULL || f->batch.targets != NULL);
    if (f->streamed && f->spec.precision == PRECISION_BF16)
        ok &= (f->staged = b->memory->alloc(d, elements * sizeof(float))) != NULL;
    if (!ok)
        return err_set(err, STATUS_NOMEM, "no memory for a batch of %lld rows of %lld features",
                       (long long)rows, (long long)f->info->features);
    return STATUS_OK;
}

static enum status start_thread(struct feed *f, struct err *err) {
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    if (pthread_create(&f->thread, NULL, prefetch, f) != 0)
        return err_set(err, STATUS_NOMEM, "the thread that reads ahead cannot be started");
    f->running = true;
    return STATUS_OK;
}

static enum status make(struct feed *f, struct err *err) {
    enum status st = STATUS_OK;
    const struct feed_spec *s = &f->spec;
    int64_t rows = s->rows > s->eval_rows ? s->rows : s->eval_rows;
    if (f->backend->queues) {
        st = s->resident ? take_tables(f, err) : STATUS_NOMEM;
        if (st != STATUS_OK && st != STATUS_NOMEM && st != STATUS_TOO_LARGE)
            goto out;
        f->resident = st == STATUS_OK;
        f->streamed = !f->resident;
    }
    f->ids = calloc((size_t)rows, sizeof *f->ids);
    if (f->ids == NULL) {
        st = err_set(err, STATUS_NOMEM, "no memory for a batch of %lld rows", (long long)rows);
        goto out;
    }
    TRY(take_batch(f, rows, err));
    for (int i = 0; f->streamed && i < SLOTS; i++)
        TRY(take_rows(f, &f->slot[i], rows, err));
    if (f->streamed)
        TRY(start_thread(f, err));
out:
    return st;
}

enum status feed_new(const struct feed_spec *spec, struct feed **out, struct err *err) {
    *out = NULL;
    struct feed *f = calloc(1, sizeof *f);
    if (f == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for a batch");
    f->spec = *spec;
    f->backend = spec->device->backend;
    f->info = data_info(spec->data);
    enum status st = make(f, err);
    if (st != STATUS_OK)
        feed_destroy(&f);
    *out = f;
    return st;
}

static void stop_thread(struct feed *f) {
    pthread_mutex_lock(&f->lock);
    f->leave = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
}

void feed_destroy(struct feed **feed) {
    struct feed *f = *feed;
    if (f == NULL)
        return;
    struct device *d = f->spec.device;
    if (f->running)
        stop_thread(f);
    f->backend->order->sync(d);
    for (int i = 0; i < SLOTS; i++) {
        f->backend->memory->host_release(d, f->slot[i].x);
        f->backend->memory->host_release(d, f->slot[i].labels);
        f->backend->memory->host_release(d, f->slot[i].targets);
    }
    f->backend->memory->release(d, f->batch.x);
    f->backend->memory->release(d, f->batch.labels);
    f->backend->memory->release(d, f->batch.targets);
    f->backend->memory->release(d, f->staged);
    free(f->ids);
    free(f);
    *feed = NULL;
}

const char *feed_name(const struct feed *f) {
    return f->resident ? "resident" : f->streamed ? "streamed" : "host";
}

const struct batch *feed_batch(const struct feed *f) {
    return &f->batch;
}

/* ---- a step ---- */

void feed_terms(const struct feed *f, int64_t step, struct step_terms *terms) {
    const struct feed_spec *s = &f->spec;
    terms->seed = s->seed;
    terms->shuffle = s->shuffle;
    terms->epoch = (step - 1) / s->steps_per_epoch;
    terms->first = (step - 1) % s->steps_per_epoch * s->batch + s->first_row;
}

/* Queues the way of host rows to the batch. */
static void send(struct feed *f, const struct data_rows *from, int64_t rows) {
    const struct backend *b = f->backend;
    struct device *d = f->spec.device;
    int64_t elements = rows * f->info->features;
    float *x = f->staged != NULL ? f->staged : f->batch.x;
    b->memory->copy(d, QUEUE_COMPUTE, x, from->x, (size_t)elements * sizeof(float));
    if (f->staged != NULL)
        b->memory->convert(d, f->staged, f->batch.x, elements, f->spec.precision);
    if (f->spec.classes)
        b->memory->copy(d, QUEUE_COMPUTE, f->batch.labels, from->labels,
                        (size_t)rows * sizeof(int32_t));
    else
        b->memory->copy(d, QUEUE_COMPUTE, f->batch.targets, from->targets,
                        (size_t)(rows * f->info->outputs) * sizeof(float));
}

static void let_go(struct feed *f, int slot) {
    while (!f->backend->order->reached(f->spec.device, MARK_FEED + slot))
        sched_yield();
}

/* The slot is free when the copy that read it is done: the step before last has begun. */
bool feed_ready(struct feed *f) {
    if (f->next == 0)
        return true;
    if (!f->backend->order->reached(f->spec.device, MARK_FEED + (int)(f->next % SLOTS)))
        return false;
    want(f, f->next);
    f->next = 0;
    return true;
}

void feed_prepare(struct feed *f, int64_t step) {
    if (!f->streamed)
        return;
    int slot = (int)(step % SLOTS);
    while (!feed_ready(f))
        (void)sched_yield();
    await(f, step);
    send(f, &f->slot[slot], f->spec.rows);
    f->backend->order->mark(f->spec.device, QUEUE_COMPUTE, MARK_FEED + slot);
    f->next = step + 1;
    (void)feed_ready(f);
}

void feed_gather(struct feed *f, int64_t step) {
    const struct feed_spec *s = &f->spec;
    struct data_rows host = {f->batch.x, f->batch.labels, f->batch.targets};
    if (f->resident)
        f->backend->memory->gather_step(s->device, f->tables[DATA_TRAIN], s->rows, s->precision,
                                        &f->batch);
    else if (!f->streamed)
        gather_step(f, step, f->ids, &host);
}

void feed_rows(struct feed *f, enum data_part part, int64_t first, int64_t rows) {
    const struct feed_spec *s = &f->spec;
    if (f->resident) {
        f->backend->memory->gather_rows(s->device, f->tables[part], first, rows, s->precision,
                                        &f->batch);
        return;
    }
    struct data_rows to = {f->batch.x, f->batch.labels, f->batch.targets};
    for (int64_t i = 0; i < rows; i++)
        f->ids[i] = first + i;
    if (f->streamed) { /* the thread's slots: nothing of it may be under way */
        f->next = 0;
        pthread_mutex_lock(&f->lock);
        while (f->wanted != f->filled)
            pthread_cond_wait(&f->changed, &f->lock);
        f->wanted = f->filled = 0;
        pthread_mutex_unlock(&f->lock);
        for (int i = 0; i < SLOTS; i++)
            let_go(f, i);
        to = f->slot[0];
    }
    data_gather(s->data, part, f->ids, rows, &to);
    if (f->streamed) {
        send(f, &to, rows);
        f->backend->order->mark(s->device, QUEUE_COMPUTE, MARK_FEED);
    }
}
