/* The live feed: a PUB socket that says what the store has committed.
 *
 *     topic "run.<id>" │ {"v":1,"topic":…,"sequence":41,"op":"run.points",…} │ columns
 *
 * Sequence numbers come from the store, one sequence per topic, so that a subscriber that has
 * missed one (PUB drops what a slow one does not take) asks for the snapshot again.
 *
 * Threading: the network thread. */
#ifndef TRACKER_SERVER_FEED_H
#define TRACKER_SERVER_FEED_H

#include "tracker/ops/store.h"
#include "wire/net.h"

struct feed;

/* `endpoint`: ipc:// or tcp:// (with keys, as net_bind asks for them). BUSY when it is taken. */
enum status feed_new(struct net *net, const char *endpoint, const struct net_keys *keys,
                     struct feed **out, struct err *err) MUST_USE;
void feed_destroy(struct feed **feed);

/* Where it is bound. */
const char *feed_endpoint(const struct feed *f);

/* Publishes one delta after its commit. What cannot be sent is a gap: it is logged. */
void feed_publish(struct feed *f, const struct store_delta *delta);

#endif
