/* Who we are: the version, and the build's own digest (set by the Makefile from the sources). */
#ifndef CORE_VERSION_H
#define CORE_VERSION_H

#define TRIREME_VERSION "0.1.0"

/* SHA-256 (hex) over the sources and flags this library was built from. Replay compares it. */
extern const char trireme_build_id[];

#endif
