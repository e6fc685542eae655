/* ULIDs: 26 characters of Crockford's base 32 (48 bits of milliseconds, 80 bits of entropy); they
 * sort by time. Every command accepts a unique prefix, in either case. */
#ifndef CORE_ULID_H
#define CORE_ULID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define ULID_LEN  26
#define ULID_TEXT 27 /* with the NUL */

/* From a given time and entropy: pure. The low 16 bits of `hi` and all of `lo` are used. */
void ulid_make(int64_t wall_ms, uint64_t hi, uint64_t lo, char out[ULID_TEXT]);

/* From the system's clock and getrandom(2). */
enum status ulid_new(char out[ULID_TEXT], struct err *err) MUST_USE;

/* Whether `text` is 1 to 26 characters of the alphabet (26 with `whole`). */
bool ulid_valid(const char *text, size_t len, bool whole);

#endif
