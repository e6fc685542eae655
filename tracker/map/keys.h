/* Keys of the meta environment. Each begins with one letter for its kind; ids are their 26
 * upper-case characters; names end with a zero byte (and contain none); numbers are big-endian, so
 * that they sort as numbers do. docs/STORE.md lists what is stored under each.
 *
 *     'p' │ 01J8…26 │ l r 0 │ part, be16        a parameter, as a document (docs.h)
 *
 * A key that would grow over KV_KEY_MAX is marked `over`. Names are bounded (NAME_BYTES_MAX) before
 * they come here, so that this is a bug, and key_bytes asserts that it does not happen. */
#ifndef TRACKER_MAP_KEYS_H
#define TRACKER_MAP_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/hash.h"
#include "core/ulid.h"
#include "tracker/map/kv.h"

#define NAME_BYTES_MAX 200

enum key_kind {
    KEY_FORMAT = 'F',     /* the format record */
    KEY_RUN = 'r',        /* run */
    KEY_RUN_CONFIG = 'C', /* run */
    KEY_RUN_MANIFEST = 'D',
    KEY_RUN_SUMMARY = 'Y',
    KEY_PARAM = 'p',         /* run, name */
    KEY_TAG = 't',           /* run, name */
    KEY_BY_SWEEP = '1',      /* sweep, run */
    KEY_BY_EXPERIMENT = '2', /* experiment, run */
    KEY_BY_STATE = '3',      /* state, run */
    KEY_EXPERIMENT = 'e',    /* name */
    KEY_SERIES = 'm',        /* run, rank be16, name to the end */
    KEY_SERIES_NEXT = 'n',   /* run */
    KEY_CHUNK = 'c',         /* run, series be32, chunk be32 */
    KEY_FEED = 'q',          /* 'r' or 's', run or sweep */
    KEY_ARTIFACT = 'a',      /* run, path */
    KEY_UPLOAD = 'g',        /* run, path */
    KEY_BLOB = 'b',          /* digest */
    KEY_BLOB_CHUNK = 'k',    /* digest, chunk be64 */
    KEY_SWEEP = 'w',         /* sweep */
    KEY_SWEEP_CONFIG = 'W',
    KEY_SWEEP_SUMMARY = 'U',
    KEY_EVENT = 'v',   /* sweep, number be64 */
    KEY_MODEL = 'M',   /* name */
    KEY_VERSION = 'N', /* name, version be32 */
    KEY_ALIAS = 'A',   /* name, alias */
    KEY_AUDIT = 'u',   /* number be64 */
    KEY_AUDIT_HEAD = 'H',
    KEY_REPLY = 'R', /* client, seq be64 */
};

struct key {
    size_t len;
    bool over;
    uint8_t bytes[KV_KEY_MAX];
};

struct key key_of(enum key_kind kind);
struct key key_id(enum key_kind kind, const char *id); /* folded to upper case; 26 characters */
struct key key_name(enum key_kind kind, const char *name);
struct key key_digest(enum key_kind kind, const struct digest *d);

void key_add(struct key *k, const void *bytes, size_t len);
void key_add_id(struct key *k, const char *id);
void key_add_name(struct key *k, const char *name); /* with its zero byte */
void key_add_be16(struct key *k, uint16_t v);
void key_add_be32(struct key *k, uint32_t v);
void key_add_be64(struct key *k, uint64_t v);

struct kv_bytes key_bytes(const struct key *k);

/* The least key after every key that begins with k (k must not be all 0xff). */
struct key key_after(const struct key *k);

/* Upper case; `out` holds ULID_TEXT bytes. */
void key_fold_id(const char *id, char out[ULID_TEXT]);

/* 1 to max bytes, or INVALID, TOO_LARGE; `what` for the message: "the name of a parameter". */
enum status key_check_name(const char *name, size_t max, const char *what,
                           struct err *err) MUST_USE;

/* The same for a name that is about to be stored: INVALID also where it has control characters, or
 * those that turn the direction of writing, which would forge what a terminal shows. */
enum status key_check_new_name(const char *name, size_t max, const char *what,
                               struct err *err) MUST_USE;

#endif
