/* The version, and the digest of what this was built from (the Makefile computes it). */
#ifndef CORE_VERSION_H
#define CORE_VERSION_H

#define TRIREME_VERSION "0.1.0"

/* SHA-256 (hex) of the sources and flags. Replay compares it. */
extern const char trireme_build_id[];

#endif
