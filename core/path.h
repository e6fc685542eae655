/* Where things are on disk, and how files are written whole.
 *
 *     $TRIREME_HOME/      default: $XDG_STATE_HOME/trireme, then ~/.local/state/trireme
 *     ├── store/meta/     the tracker's two LMDB environments:
 *     ├── store/blobs/        records and series; artifacts
 *     ├── run/            mode 0700: sockets and pid files
 *     ├── log/            one file per daemon and group
 *     ├── keys/           CURVE keys (trireme keygen)
 *     └── spool/          posts of the client library that the tracker has not confirmed */
#ifndef CORE_PATH_H
#define CORE_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/buf.h"
#include "core/status.h"

#define PATH_TEXT_MAX 1024

/* The state directory, absolute; created with mode 0700 when it is missing. A network filesystem
 * (path_is_network) is refused with the reason. */
enum status path_home(char out[PATH_TEXT_MAX], struct err *err) MUST_USE;

/* "a/b" with the length checked. */
enum status path_join(char out[PATH_TEXT_MAX], const char *a, const char *b,
                      struct err *err) MUST_USE;

/* `path` from the working directory, without trailing slashes. */
enum status path_absolute(char out[PATH_TEXT_MAX], const char *path, struct err *err) MUST_USE;

/* mkdir -p. */
enum status path_mkdirs(const char *path, mode_t mode, struct err *err) MUST_USE;

/* The ipc:// endpoint of a daemon ("tracker", "coordinator", "feed") below `home`. A Unix socket's
 * path has at most 107 bytes: where home/run/NAME.sock is longer, the socket is in
 * /tmp/trireme-<uid>-<hash of home>/ (mode 0700, owner checked). */
enum status path_endpoint(const char *home, const char *name, char out[PATH_TEXT_MAX],
                          struct err *err) MUST_USE;

/* NFS, Lustre, GPFS, CIFS/SMB, 9p, Ceph, FUSE, BeeGFS, AFS by statfs(2) magic. `name` receives the
 * filesystem's name (static). Where `path` does not exist, the nearest parent that does is asked.
 */
enum status path_is_network(const char *path, bool *network, const char **name,
                            struct err *err) MUST_USE;

/* The name of the network filesystem with this statfs(2) magic; NULL for a local one. */
const char *path_network_name(uint32_t magic);

/* Writes `path` whole or not at all: a temporary file beside it, fsync, rename, fsync of the directory. A link
 * stays, and what it names is replaced. What is no regular file (a pipe, a device, /dev/stdout) is written
 * to in its place. INVALID: a directory. */
enum status path_write(const char *path, const void *bytes, size_t len, mode_t mode,
                       struct err *err) MUST_USE;

/* Appends the file's bytes to `out` (bounded by out->bytes_max). INVALID: it is a directory. */
enum status path_read(const char *path, struct buf *out, struct err *err) MUST_USE;

/* The directory of the running executable, to find its siblings (trireme-worker beside trireme). */
enum status path_bindir(char out[PATH_TEXT_MAX], struct err *err) MUST_USE;

#endif
