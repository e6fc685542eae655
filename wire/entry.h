/* A request that waits for its answer, as the queue and the spool hold it.
 *
 *     record:  prefix │ u32 header bytes │ u32 frames │ u32 bytes of each… │ id │ header │ frames…
 *
 * The prefix is the spool's; integers are little-endian; the id is padded with NULs to
 * ENTRY_ID_BYTES. The header is the whole JSON, (client, seq) included: whoever finds a record can
 * send it as it is. */
#ifndef WIRE_ENTRY_H
#define WIRE_ENTRY_H

#include "core/value.h"
#include "wire/net.h"
#include "wire/spool.h"

#define ENTRY_ID_BYTES ((size_t)48) /* "<ulid>-<seq>" and NULs */

struct call; /* a session_call that waits */

struct entry {
    struct entry *next;
    struct call *call; /* NULL: a post */
    bool sent;         /* on the current socket */
    bool retry;        /* refused for now */
    int64_t sent_ns;
    struct spool_place place;
    size_t len;
    uint8_t record[];
};

/* An empty one for a record of `len` bytes; NULL when memory is exhausted. free() releases it. */
struct entry *entry_new(size_t len);

/* What names a request: `client` made it, as its `seq`-th. */
struct entry_name {
    const char *client;
    uint64_t seq;
};

/* Writes the request with id "<client>-<seq>", and with client and seq where the op changes
 * something. INVALID: an op that is not in the tables, or a request that is not as its table says (the
 * server would refuse it); TOO_LARGE: over a bound of the wire. */
enum status entry_build(struct entry_name name, const struct value *request,
                        struct net_frames frames, struct entry **out, struct err *err) MUST_USE;

/* Parts of a request that a server may take or refuse one by one: the series of a run.log. 0: it has none. */
size_t entry_items(const struct value *request);

/* The request again with this part alone. `request` is the header of `e`, parsed. */
enum status entry_split(const struct entry *e, const struct value *request, size_t item,
                        struct entry_name name, struct entry **out, struct err *err) MUST_USE;

/* Whether a record that came from a file holds what its lengths say. The functions below need one
 * that does. */
bool entry_valid(const struct entry *e);

const char *entry_id(const struct entry *e);

/* Where the header and the frames are in the record. */
void entry_parts(const struct entry *e, struct net_frame *header,
                 struct net_frame frames[NET_FRAMES_MAX], size_t *count);

#endif
