/* JSON text to and from value trees, by jansson (the only file that includes it is json.c).
 *
 * Parsing refuses: duplicate keys, a depth over VALUE_DEPTH_MAX, text after the value, invalid
 * UTF-8, NULs in strings, integers beyond int64, reals that overflow. Nodes carry line and column.
 * Dumping writes doubles with the fewest of 15, 16 or 17 significant digits that come back as the
 * same bits. NaN, Inf, a depth over VALUE_DEPTH_MAX, and strings with NULs or invalid UTF-8 are
 * refused with INVALID: no JSON would read back as the same. A broken tree is NOMEM. */
#ifndef CORE_JSON_H
#define CORE_JSON_H

#include "core/buf.h"
#include "core/value.h"

#define JSON_TEXT_MAX ((size_t)8 << 20)

/* `where` names the source in messages ("message header", a file). */
enum status json_parse(struct arena *a, const char *text, size_t len, const char *where,
                       struct value **out, struct err *err) MUST_USE;

enum json_style {
    JSON_COMPACT,
    JSON_PRETTY,    /* two spaces of indentation, a newline at the end */
    JSON_CANONICAL, /* compact, keys sorted: what digests are taken of */
};

enum status json_dump(const struct value *v, enum json_style style, struct buf *out,
                      struct err *err) MUST_USE;

#endif
