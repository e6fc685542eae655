#include "tracker/server/engine.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/log.h"

struct engine {
    struct store *store;
    int fd; /* eventfd: done jobs wait */

    pthread_mutex_t lock; /* guards the queues and `stop` */
    pthread_cond_t has_writes, has_reads;
    struct job_queue writes, reads, done;
    bool stop;

    pthread_t writer, readers[ENGINE_READERS];
    int started; /* threads: the writer, then readers */
};

/* ---- handing back ---- */

/* The lock is held. */
static void finish(struct engine *e, struct job *job) {
    uint64_t one = 1;
    bool first = e->done.count == 0;
    job_push(&e->done, job);
    if (first)
        (void)!write(e->fd, &one, sizeof one);
}

void engine_take(struct engine *e, struct job_queue *out) {
    uint64_t count;
    struct job *job;
    (void)pthread_mutex_lock(&e->lock);
    (void)!read(e->fd, &count, sizeof count);
    while ((job = job_pop(&e->done)) != NULL)
        job_push(out, job);
    (void)pthread_mutex_unlock(&e->lock);
}

/* ---- the writer ---- */

static void keep_delta(void *arg, const struct store_delta *delta) {
    struct job *job = arg;
    if (job->delta_count < JOB_DELTAS_MAX)
        job->deltas[job->delta_count++] = *delta; /* in the job's arena and frames */
}

static void apply(struct engine *e, struct job *job) {
    job_reset(job);
    job->status =
        store_apply(e->store, job->request.type, job->request.header, job->message.frames,
                    job->message.frame_count, &job->arena, job->reply, keep_delta, job, &job->err);
}

/* *failed is why nothing of the group was stored. */
static enum status try_group(struct engine *e, struct job **jobs, size_t count, struct err *err) {
    enum status st = store_begin(e->store, err);
    if (st != STATUS_OK)
        return st;
    for (size_t i = 0; i < count; i++)
        apply(e, jobs[i]);
    return store_commit(e->store, err);
}

static void store_group(struct engine *e, struct job **jobs, size_t count) {
    struct err err = {.status = STATUS_OK};
    enum status st = try_group(e, jobs, count, &err);
    if (st == STATUS_OK)
        return;
    log_err(LOG_ERROR, "commit", &err);
    for (size_t i = 0; i < count; i++) {
        st = count > 1 ? try_group(e, &jobs[i], 1, &err) : st;
        if (st != STATUS_OK && jobs[i]->status == STATUS_OK) {
            jobs[i]->status = st;
            jobs[i]->err = err;
        }
        if (st != STATUS_OK)
            jobs[i]->delta_count = 0;
    }
}

/* The lock is held. */
static size_t take_group(struct engine *e, struct job *jobs[ENGINE_GROUP_MAX]) {
    size_t count = 0, bytes = 0;
    while (count < ENGINE_GROUP_MAX && e->writes.head != NULL &&
           (count == 0 || bytes + e->writes.head->bytes <= ENGINE_GROUP_BYTES_MAX)) {
        jobs[count] = job_pop(&e->writes);
        bytes += jobs[count++]->bytes;
    }
    return count;
}

static struct timespec in_seconds(long s) {
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += s;
    return at;
}

static bool is_past(const struct timespec *at) {
    struct timespec now = in_seconds(0);
    return now.tv_sec > at->tv_sec || (now.tv_sec == at->tv_sec && now.tv_nsec >= at->tv_nsec);
}

static void maintain(struct engine *e) {
    struct err err;
    if (store_maintain(e->store, &err) != STATUS_OK)
        log_err(LOG_ERROR, "maintain", &err);
}

static void *writer_main(void *arg) {
    struct engine *e = arg;
    struct job *jobs[ENGINE_GROUP_MAX];
    struct timespec due = in_seconds(ENGINE_MAINTAIN_S);
    (void)pthread_mutex_lock(&e->lock);
    for (;;) {
        size_t count = take_group(e, jobs);
        bool tidy = is_past(&due);
        if (count == 0 && e->stop)
            break;
        if (count == 0 && !tidy) {
            (void)pthread_cond_timedwait(&e->has_writes, &e->lock, &due);
            continue;
        }
        (void)pthread_mutex_unlock(&e->lock);
        if (count > 0)
            store_group(e, jobs, count);
        if (tidy) {
            maintain(e);
            due = in_seconds(ENGINE_MAINTAIN_S);
        }
        (void)pthread_mutex_lock(&e->lock);
        for (size_t i = 0; i < count; i++)
            finish(e, jobs[i]);
    }
    (void)pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* ---- the readers ---- */

static void read_stats(struct engine *e, struct job *job) {
    struct store_stats stats;
    store_stats(e->store, &stats);
    value_set_int(&job->arena, job->reply, "points", (int64_t)stats.points);
    value_set_int(&job->arena, job->reply, "commits", (int64_t)stats.commits);
    value_set_int(&job->arena, job->reply, "requests", (int64_t)stats.requests);
    value_set_int(&job->arena, job->reply, "runs", (int64_t)stats.runs);
    value_set_int(&job->arena, job->reply, "meta_bytes", (int64_t)stats.meta_bytes);
    value_set_int(&job->arena, job->reply, "blob_bytes", (int64_t)stats.blob_bytes);
}

static void answer_read(struct engine *e, struct job *job) {
    job_reset(job);
    if (job->request.type == message_find("stats"))
        read_stats(e, job);
    else
        job->status =
            store_read(e->store, job->request.type, job->request.header, &job->arena, job->reply,
                       &job->output, job->frame_lens, &job->frame_count, &job->err);
    if (job->status == STATUS_OK)
        job->status = buf_status(&job->output, "the reply", &job->err);
}

static void *reader_main(void *arg) {
    struct engine *e = arg;
    (void)pthread_mutex_lock(&e->lock);
    for (;;) {
        struct job *job = job_pop(&e->reads);
        if (job == NULL && e->stop)
            break;
        if (job == NULL) {
            (void)pthread_cond_wait(&e->has_reads, &e->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&e->lock);
        answer_read(e, job);
        (void)pthread_mutex_lock(&e->lock);
        finish(e, job);
    }
    (void)pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* ---- from outside ---- */

void engine_submit(struct engine *e, struct job *job) {
    (void)pthread_mutex_lock(&e->lock);
    if (job->request.type->writes) {
        job_push(&e->writes, job);
        (void)pthread_cond_signal(&e->has_writes);
    } else {
        job_push(&e->reads, job);
        (void)pthread_cond_signal(&e->has_reads);
    }
    (void)pthread_mutex_unlock(&e->lock);
}

int engine_fd(const struct engine *e) {
    return e->fd;
}

/* Signals are for the loop's thread: these block them all. */
static enum status start_threads(struct engine *e, struct err *err) {
    sigset_t all, old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(&e->writer, NULL, writer_main, e);
    while (rc == 0 && ++e->started <= ENGINE_READERS)
        rc = pthread_create(&e->readers[e->started - 1], NULL, reader_main, e);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? STATUS_OK : err_errno(err, rc, "start the tracker's threads");
}

enum status engine_new(struct store *store, struct engine **out, struct err *err) {
    struct engine *e = calloc(1, sizeof *e);
    if (e == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the tracker's threads");
    pthread_condattr_t monotonic;
    e->store = store;
    job_queue_init(&e->writes);
    job_queue_init(&e->reads);
    job_queue_init(&e->done);
    (void)pthread_mutex_init(&e->lock, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&e->has_writes, &monotonic);
    (void)pthread_cond_init(&e->has_reads, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    e->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum status st = e->fd < 0 ? err_errno(err, errno, "eventfd") : start_threads(e, err);
    if (st != STATUS_OK)
        engine_destroy(&e);
    *out = e;
    return st;
}

void engine_destroy(struct engine **engine) {
    struct engine *e = *engine;
    if (e == NULL)
        return;
    (void)pthread_mutex_lock(&e->lock);
    e->stop = true;
    (void)pthread_cond_broadcast(&e->has_writes);
    (void)pthread_cond_broadcast(&e->has_reads);
    (void)pthread_mutex_unlock(&e->lock);
    if (e->started > 0)
        (void)pthread_join(e->writer, NULL);
    for (int i = 1; i < e->started; i++)
        (void)pthread_join(e->readers[i - 1], NULL);
    for (struct job *job; (job = job_pop(&e->done)) != NULL;)
        job_destroy(&job);
    if (e->fd >= 0)
        (void)close(e->fd);
    (void)pthread_cond_destroy(&e->has_writes);
    (void)pthread_cond_destroy(&e->has_reads);
    (void)pthread_mutex_destroy(&e->lock);
    free(e);
    *engine = NULL;
}
