/* The feed: what was committed, published. */
#include "tracker/server/feed.h"

#include <stdlib.h>

#include "core/json.h"
#include "core/log.h"

struct feed {
    struct net_socket *socket;
    struct buf header;
    char endpoint[NET_ENDPOINT_MAX];
};

enum status feed_new(struct net *net, const char *endpoint, const struct net_keys *keys,
                     struct feed **out, struct err *err) {
    enum status st = STATUS_OK;
    struct feed *f = calloc(1, sizeof *f);
    if (f == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory for the live feed");
    buf_init(&f->header, NET_HEADER_MAX);
    TRY(net_bind(net, NET_PUB, (struct net_place){endpoint, keys}, &f->socket, err));
    TRY(net_endpoint(f->socket, f->endpoint, err));
    *out = f;
    return STATUS_OK;
out:
    feed_destroy(&f);
    return st;
}

void feed_destroy(struct feed **feed) {
    if (*feed == NULL)
        return;
    net_close(&(*feed)->socket);
    buf_release(&(*feed)->header);
    free(*feed);
    *feed = NULL;
}

const char *feed_endpoint(const struct feed *f) {
    return f->endpoint;
}

void feed_publish(struct feed *f, const struct store_delta *delta) {
    struct err err;
    buf_clear(&f->header);
    enum status st = json_dump(delta->header, JSON_COMPACT, &f->header, &err);
    if (st == STATUS_OK)
        st = buf_status(&f->header, "a message of the feed", &err);
    if (st == STATUS_OK)
        st = net_send(f->socket,
                      &(struct net_outgoing){.topic = delta->topic,
                                             .header = {f->header.data, f->header.len},
                                             .frames = {delta->frame, delta->frame_count}},
                      &err);
    if (st != STATUS_OK)
        log_err(LOG_WARN, "feed", &err);
}
