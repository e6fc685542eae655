/* The writer and the readers. */
#include "tracker/server/threads.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/log.h"

struct threads {
    struct store *store;
    int fd; /* eventfd: done jobs wait */

    pthread_mutex_t lock; /* guards the queues and `stop` */
    pthread_cond_t has_writes, has_reads;
    struct job_queue writes, reads, done;
    bool stop, refuse_reads;

    pthread_t writer, readers[THREADS_READERS];
    int started; /* threads: the writer, then readers */
};

/* ---- handing back ---- */

/* The lock is held. */
static void finish(struct threads *t, struct job *job) {
    uint64_t one = 1;
    bool first = t->done.count == 0;
    job_push(&t->done, job);
    if (first)
        (void)!write(t->fd, &one, sizeof one);
}

void threads_take(struct threads *t, struct job_queue *out) {
    uint64_t count;
    struct job *job;
    (void)pthread_mutex_lock(&t->lock);
    (void)!read(t->fd, &count, sizeof count);
    while ((job = job_pop(&t->done)) != NULL)
        job_push(out, job);
    (void)pthread_mutex_unlock(&t->lock);
}

/* ---- the writer ---- */

static struct store_request request_of(const struct job *job) {
    return (struct store_request){
        .type = job->request.type,
        .header = job->request.header,
        .frames = {job->message.frames, job->message.frame_count},
        .role = job->message.role,
    };
}

static void apply(struct threads *t, struct job *job) {
    struct store_request request = request_of(job);
    job_reset(job);
    job->status = store_apply(t->store, &request, &job->answer, &job->err);
}

/* One transaction; err is why nothing of it was stored. */
static enum status try_requests(struct threads *t, struct job **jobs, size_t count,
                                struct err *err) {
    enum status st = store_begin(t->store, err);
    if (st != STATUS_OK)
        return st;
    for (size_t i = 0; i < count; i++)
        apply(t, jobs[i]);
    return store_commit(t->store, err);
}

static void store_requests(struct threads *t, struct job **jobs, size_t count) {
    struct err err = {.status = STATUS_OK};
    enum status st = try_requests(t, jobs, count, &err);
    if (st == STATUS_OK)
        return;
    log_err(LOG_ERROR, "commit", &err);
    for (size_t i = 0; i < count; i++) {
        st = count > 1 ? try_requests(t, &jobs[i], 1, &err) : st;
        if (st != STATUS_OK && jobs[i]->status == STATUS_OK) {
            jobs[i]->status = st;
            jobs[i]->err = err;
        }
        if (st != STATUS_OK)
            jobs[i]->answer.delta_count = 0;
    }
}

/* The lock is held. */
static size_t take_requests(struct threads *t, struct job *jobs[THREADS_REQUESTS_MAX]) {
    size_t count = 0, bytes = 0;
    while (count < THREADS_REQUESTS_MAX && t->writes.head != NULL &&
           (count == 0 || bytes + t->writes.head->bytes <= THREADS_BYTES_MAX)) {
        jobs[count] = job_pop(&t->writes);
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

static void maintain(struct threads *t) {
    struct err err;
    if (store_maintain(t->store, &err) != STATUS_OK)
        log_err(LOG_ERROR, "maintain", &err);
}

static void *writer_main(void *arg) {
    struct threads *t = arg;
    struct job *jobs[THREADS_REQUESTS_MAX];
    struct timespec due = in_seconds(THREADS_MAINTAIN_S);
    (void)pthread_mutex_lock(&t->lock);
    for (;;) {
        size_t count = take_requests(t, jobs);
        bool tidy = is_past(&due);
        if (count == 0 && t->stop)
            break;
        if (count == 0 && !tidy) {
            (void)pthread_cond_timedwait(&t->has_writes, &t->lock, &due);
            continue;
        }
        (void)pthread_mutex_unlock(&t->lock);
        if (count > 0)
            store_requests(t, jobs, count);
        if (tidy) {
            maintain(t);
            due = in_seconds(THREADS_MAINTAIN_S);
        }
        (void)pthread_mutex_lock(&t->lock);
        for (size_t i = 0; i < count; i++)
            finish(t, jobs[i]);
    }
    (void)pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* ---- the readers ---- */

static void answer_read(struct threads *t, struct job *job) {
    struct store_request request = request_of(job);
    job_reset(job);
    job->status = store_read(t->store, &request, &job->answer, &job->err);
    if (job->status == STATUS_OK)
        job->status = buf_status(&job->output, "the reply", &job->err);
}

static void *reader_main(void *arg) {
    struct threads *t = arg;
    (void)pthread_mutex_lock(&t->lock);
    for (;;) {
        struct job *job = job_pop(&t->reads);
        if (job == NULL && t->stop)
            break;
        if (job == NULL) {
            (void)pthread_cond_wait(&t->has_reads, &t->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&t->lock);
        answer_read(t, job);
        (void)pthread_mutex_lock(&t->lock);
        finish(t, job);
    }
    (void)pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* ---- from outside ---- */

/* The lock is held. */
static void refuse_read(struct threads *t, struct job *job) {
    job->status = err_set(&job->err, STATUS_UNAVAILABLE,
                          "the tracker is ending; ask again when it has been started anew");
    job->answer.delta_count = 0;
    finish(t, job);
}

void threads_refuse_reads(struct threads *t) {
    struct job *job;
    (void)pthread_mutex_lock(&t->lock);
    t->refuse_reads = true;
    while ((job = job_pop(&t->reads)) != NULL)
        refuse_read(t, job);
    (void)pthread_mutex_unlock(&t->lock);
}

void threads_submit(struct threads *t, struct job *job) {
    (void)pthread_mutex_lock(&t->lock);
    if (!job->request.type->writes && t->refuse_reads) {
        refuse_read(t, job);
    } else if (job->request.type->writes) {
        job_push(&t->writes, job);
        (void)pthread_cond_signal(&t->has_writes);
    } else {
        job_push(&t->reads, job);
        (void)pthread_cond_signal(&t->has_reads);
    }
    (void)pthread_mutex_unlock(&t->lock);
}

int threads_fd(const struct threads *t) {
    return t->fd;
}

/* Signals are for the loop's thread: these block them all. */
static enum status start_threads(struct threads *t, struct err *err) {
    sigset_t all, old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(&t->writer, NULL, writer_main, t);
    while (rc == 0 && ++t->started <= THREADS_READERS)
        rc = pthread_create(&t->readers[t->started - 1], NULL, reader_main, t);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? STATUS_OK : err_errno(err, rc, "start the tracker's threads");
}

enum status threads_new(struct store *store, struct threads **out, struct err *err) {
    struct threads *t = calloc(1, sizeof *t);
    if (t == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the tracker's threads");
    pthread_condattr_t monotonic;
    t->store = store;
    job_queue_init(&t->writes);
    job_queue_init(&t->reads);
    job_queue_init(&t->done);
    (void)pthread_mutex_init(&t->lock, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&t->has_writes, &monotonic);
    (void)pthread_cond_init(&t->has_reads, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    t->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum status st = t->fd < 0 ? err_errno(err, errno, "eventfd") : start_threads(t, err);
    if (st != STATUS_OK)
        threads_destroy(&t);
    *out = t;
    return st;
}

void threads_destroy(struct threads **threads) {
    struct threads *t = *threads;
    if (t == NULL)
        return;
    (void)pthread_mutex_lock(&t->lock);
    t->stop = true;
    (void)pthread_cond_broadcast(&t->has_writes);
    (void)pthread_cond_broadcast(&t->has_reads);
    (void)pthread_mutex_unlock(&t->lock);
    if (t->started > 0)
        (void)pthread_join(t->writer, NULL);
    for (int i = 1; i < t->started; i++)
        (void)pthread_join(t->readers[i - 1], NULL);
    for (struct job *job; (job = job_pop(&t->done)) != NULL;)
        job_destroy(&job);
    if (t->fd >= 0)
        (void)close(t->fd);
    (void)pthread_cond_destroy(&t->has_writes);
    (void)pthread_cond_destroy(&t->has_reads);
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
    *threads = NULL;
}
