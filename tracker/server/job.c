/* Jobs and queues of jobs. */
#include "tracker/server/job.h"

#include <stdlib.h>

struct job *job_new(void) {
    struct job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return NULL;
    arena_init(&job->arena, JOB_ARENA_MAX);
    buf_init(&job->output, JOB_OUTPUT_MAX);
    return job;
}

void job_destroy(struct job **job) {
    if (*job == NULL)
        return;
    net_message_release(&(*job)->message);
    buf_release(&(*job)->output);
    arena_release(&(*job)->arena);
    free(*job);
    *job = NULL;
}

void job_reset(struct job *job) {
    job->status = STATUS_OK;
    job->answer = (struct store_answer){.a = &job->arena,
                                        .header = message_reply(&job->arena, job->request.id),
                                        .bytes = &job->output};
    buf_clear(&job->output);
}

void job_queue_init(struct job_queue *q) {
    *q = (struct job_queue){.tail = &q->head};
}

void job_push(struct job_queue *q, struct job *job) {
    job->next = NULL;
    *q->tail = job;
    q->tail = &job->next;
    q->count++;
}

struct job *job_pop(struct job_queue *q) {
    struct job *job = q->head;
    if (job == NULL)
        return NULL;
    q->head = job->next;
    if (q->head == NULL)
        q->tail = &q->head;
    q->count--;
    job->next = NULL;
    return job;
}
