/* Peers with requests under way. */
#include "tracker/server/peers.h"

#include <stdlib.h>
#include <string.h>

struct peer_row {
    struct peer_row *next;
    size_t listener;
    struct net_peer peer;
    uint64_t writes, done; /* entered and left */
    struct job_queue held; /* reads, in the order they came: their barriers ascend */
};

static size_t bucket_of(const struct job *job) {
    uint64_t h = UINT64_C(14695981039346656037) ^ job->listener; /* FNV-1a */
    for (size_t i = 0; i < job->message.peer.len; i++)
        h = (h ^ job->message.peer.id[i]) * UINT64_C(1099511628211);
    return (size_t)(h % PEERS_BUCKETS);
}

static struct peer_row **find(struct peers *p, const struct job *job) {
    const struct net_peer *peer = &job->message.peer;
    struct peer_row **at = &p->buckets[bucket_of(job)];
    while (*at != NULL && ((*at)->listener != job->listener || (*at)->peer.len != peer->len ||
                           memcmp((*at)->peer.id, peer->id, peer->len) != 0))
        at = &(*at)->next;
    return at;
}

enum status peers_enter(struct peers *p, struct job *job, bool *now, struct err *err) {
    struct peer_row **at = find(p, job), *row = *at;
    *now = true;
    if (row == NULL && !job->request.type->writes)
        return STATUS_OK;
    if (row == NULL) {
        row = calloc(1, sizeof *row);
        if (row == NULL)
            return err_set(err, STATUS_NOMEM, "out of memory for a peer");
        row->listener = job->listener;
        row->peer = job->message.peer;
        job_queue_init(&row->held);
        *at = row;
    }
    if (job->request.type->writes) {
        row->writes++;
        return STATUS_OK;
    }
    job->barrier = row->writes;
    *now = row->done >= job->barrier;
    if (!*now)
        job_push(&row->held, job);
    return STATUS_OK;
}

void peers_leave(struct peers *p, const struct job *job, struct job_queue *ready) {
    struct peer_row **at = find(p, job), *row = *at;
    if (row == NULL || !job->request.type->writes)
        return;
    row->done++;
    while (row->held.head != NULL && row->held.head->barrier <= row->done)
        job_push(ready, job_pop(&row->held));
    if (row->done < row->writes)
        return;
    *at = row->next;
    free(row);
}

void peers_release(struct peers *p) {
    for (size_t i = 0; i < PEERS_BUCKETS; i++) {
        struct peer_row *next;
        for (struct peer_row *row = p->buckets[i]; row != NULL; row = next) {
            next = row->next;
            for (struct job *job; (job = job_pop(&row->held)) != NULL;)
                job_destroy(&job);
            free(row);
        }
        p->buckets[i] = NULL;
    }
}
