/* zstd, in one file. Pure but for a context a thread; any thread. */
#ifndef TRACKER_SERIES_SQUEEZE_H
#define TRACKER_SERIES_SQUEEZE_H

#include <stddef.h>

/* The packed length, or 0 where it does not fit into `cap`. */
size_t squeeze_pack(const void *in, size_t len, void *out, size_t cap);

/* The unpacked length, or 0 where the bytes are damaged or do not fit. */
size_t squeeze_unpack(const void *in, size_t len, void *out, size_t cap);

#endif
