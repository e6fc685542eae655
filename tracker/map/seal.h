/* The head of every record: what it is, and a sum that says that it still is.
 *
 *     0 u8  type: the first letter of its key
 *     1 u8  version of the record's layout (1)
 *     2 u16 sum over the key
 *     4 u32 sum over the key, the bytes before this sum, and the value
 *     8     the value
 *
 * The sums cover the key, so that a record under another's key, or a key with a flipped bit, is
 * noticed too. Chunks of points ('c') have a head of their own (series/codec.h) and fill a page with
 * it; the format record ('F') stays readable to every version. Both go without. */
#ifndef TRACKER_MAP_SEAL_H
#define TRACKER_MAP_SEAL_H

#include "tracker/map/kv.h"

#define SEAL_BYTES   8
#define SEAL_VERSION 1

/* Whether records under such a key have the head. */
bool seal_covers(struct kv_bytes key);

/* The head of `value` under `key`. */
void seal_make(struct kv_bytes key, struct kv_bytes value, uint8_t out[SEAL_BYTES]);

/* What stands under `key`, head first; `value` becomes what follows it. CORRUPT where it is damaged;
 * TOO_NEW where its layout is a later one. */
enum status seal_open(struct kv_bytes key, struct kv_bytes *value, struct err *err) MUST_USE;

/* Whether this is the format record (format.h) of a meta half whose records have such heads. */
bool seal_is_in(struct kv_bytes key, struct kv_bytes value);

/* Whether the key is the one that the record was written under. */
bool seal_is_key(struct kv_bytes key, const uint8_t head[SEAL_BYTES]);

#endif
