/* Checks the two header pages of a data.mdb before LMDB maps the file: LMDB trusts what it finds
 * there, and reading a page that is missing at the end of the file would be a SIGBUS.
 *
 *     page 0 and 1:  16 bytes page header │ u32 magic │ u32 version │ 8 address │ 8 map size │
 *                    48 free list's root (begins with u32 page size) │ 48 main root │
 *                    u64 last page │ u64 transaction
 *
 * (lmdb 0.9, struct MDB_page and struct MDB_meta on a 64-bit machine.) The header with the later
 * transaction counts. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "tracker/map/kv.h"

#define MAGIC        0xBEEFC0DEu
#define DATA_VERSION 1u
#define FREE_FLAGS   8u /* keys are integers */

enum {
    AT_MAGIC = 16,
    AT_VERSION = 20,
    AT_PAGE_BYTES = 40,
    AT_FREE = 40,
    AT_MAIN = 88,
    AT_LAST_PAGE = 136,
    AT_TXN = 144,
    HEADER_BYTES = 152,
    PAGE_MIN = 512,
    PAGE_MAX = 65536,
};

struct header {
    bool valid;
    uint64_t page_bytes, last_page, txn;
    struct kv_tree free, main;
};

/* u32 │ u16 flags │ u16 depth │ u64 branches, leaves, overflow pages, entries, root */
static struct kv_tree read_tree(const uint8_t *b) {
    return (struct kv_tree){.depth = bytes_get_u16(b + 6),
                            .branches = bytes_get_u64(b + 8),
                            .leaves = bytes_get_u64(b + 16),
                            .overflows = bytes_get_u64(b + 24),
                            .entries = bytes_get_u64(b + 32),
                            .root = bytes_get_u64(b + 40)};
}

/* LMDB writes numbers in the machine's byte order; this reads them on little-endian machines. */
static struct header read_header(int fd, off_t at) {
    uint8_t b[HEADER_BYTES];
    struct header h = {0};
    if (pread(fd, b, sizeof b, at) != (ssize_t)sizeof b)
        return h;
    if (bytes_get_u32(b + AT_MAGIC) != MAGIC || bytes_get_u32(b + AT_VERSION) != DATA_VERSION)
        return h;
    h.page_bytes = bytes_get_u32(b + AT_PAGE_BYTES);
    h.last_page = bytes_get_u64(b + AT_LAST_PAGE);
    h.txn = bytes_get_u64(b + AT_TXN);
    h.free = read_tree(b + AT_FREE);
    h.main = read_tree(b + AT_MAIN);
    bool plain =
        bytes_get_u16(b + AT_FREE + 4) == FREE_FLAGS && bytes_get_u16(b + AT_MAIN + 4) == 0;
    h.valid = plain && h.page_bytes >= PAGE_MIN && h.page_bytes <= PAGE_MAX &&
              (h.page_bytes & (h.page_bytes - 1)) == 0 && h.last_page < UINT64_C(1) << 48;
    return h;
}

enum status kv_check_file(const char *path, struct kv_file *out, struct err *err) {
    *out = (struct kv_file){0};
    enum status st = STATUS_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? STATUS_OK : err_errno(err, errno, "open %s", path);
    struct stat sb;
    if (fstat(fd, &sb) != 0)
        TRY(err_errno(err, errno, "look at %s", path));
    if (!S_ISREG(sb.st_mode))
        TRY(err_set(err, STATUS_CORRUPT,
                    "%s is not a regular file; move it away, or open another store", path));
    if (sb.st_size == 0)
        goto out; /* LMDB makes an empty file into a new map */

    struct header h = read_header(fd, 0);
    if (!h.valid)
        TRY(err_set(err, STATUS_CORRUPT,
                    "%s is not a store's file, or its first page is damaged; restore a backup",
                    path));
    struct header other = read_header(fd, (off_t)h.page_bytes);
    if (!other.valid || other.page_bytes != h.page_bytes)
        TRY(err_set(err, STATUS_CORRUPT, "%s: its second page is damaged; restore a backup", path));
    /* Each transaction writes the header whose turn it is: another number is not its own, and the
     * older header would be taken for the newer one. */
    bool first = h.txn == 0 && other.txn == 0;
    if (!first && (h.txn > other.txn ? h.txn - other.txn : other.txn - h.txn) != 1)
        TRY(err_set(err, STATUS_CORRUPT,
                    "%s: its two header pages do not follow one another; restore a backup", path));
    if (other.txn > h.txn)
        h = other;
    *out = (struct kv_file){.page_bytes = h.page_bytes,
                            .free = h.free,
                            .main = h.main,
                            .pages_used = h.last_page + 1,
                            .pages_there = (uint64_t)sb.st_size / h.page_bytes};
out:
    (void)close(fd);
    return st;
}
