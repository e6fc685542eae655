/* Walks both trees of a data.mdb before LMDB maps it: LMDB trusts what pages say, and stops the
 * process where they contradict one another, or answers from the wrong place.
 *
 *     page    u64 its number │ u16 │ u16 flags │ u16 lower │ u16 upper │ u16 places of nodes …
 *     branch  u16, u16, u16: 48 bits of a page's number │ u16 bytes of key │ key
 *     leaf    u16, u16: bytes of value │ u16 flags │ u16 bytes of key │ key │ value, or u64 number of
 *             its first overflow page
 *     overflow  u64 its number │ u16 │ u16 flags │ u32 pages of the run │ bytes
 *
 * (lmdb 0.9, 64 bits.) Checked: each page is what it says and lies within the file; no page has two
 * owners, nor is one that is in use on the free list; keys ascend, and lie between those of the
 * branch above; depth, pages and entries are those that the header counts. Values are left to their
 * own sums, when they are read; of records with heads (seal.h) the sum of the key is checked here,
 * for what stands under a wrong key would be missed without a word.
 *
 * The heads of large values, most of a store's pages, are left to lmdb.c, which looks at
 * them when it reads the value. What a branch refers to is asked for ahead, in one go, for a disk
 * that is asked for one page after the other would take minutes. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "tracker/map/kv.h"
#include "tracker/map/seal.h"

#define PAGE_HEADER 16
#define NODE_HEADER 8
#define DEPTH_MAX   32
#define IS_BRANCH   1
#define IS_LEAF     2
#define IS_OVERFLOW 4
#define IS_BIG      1 /* of a node: its value is on overflow pages */
#define NO_PAGE     UINT64_MAX

struct level {
    uint8_t *page;
    unsigned nodes, at;
};

struct walk {
    int fd;
    const struct kv_file *file;
    uint8_t *seen; /* a bit for each page: it has an owner */
    struct level levels[DEPTH_MAX];
    unsigned depth; /* levels in use */
    bool numbers;   /* keys are page numbers' transactions: the free list */
    bool sealed;    /* the format record says that records have heads */
    uint64_t wrong; /* records whose heads are of other keys */
    uint8_t last[KV_KEY_MAX];
    size_t last_len;
    bool any; /* `last` is set */
    uint64_t branches, leaves, overflows, entries;
    struct kv_walk *how;
    int64_t end_ns;
    struct err *err;
};

static enum status broken(const struct walk *w, uint64_t page, const char *what) {
    return err_set(w->err, STATUS_CORRUPT,
                   "page %llu of data.mdb is damaged (%s); restore a backup",
                   (unsigned long long)page, what);
}

static enum status own(struct walk *w, uint64_t first, uint64_t count) {
    for (uint64_t p = first; p < first + count; p++) {
        if (p < 2 || p >= w->file->pages_used)
            return broken(w, p, "there is no such page");
        uint8_t bit = (uint8_t)(1u << (p & 7));
        if ((w->seen[p >> 3] & bit) != 0)
            return broken(w, p, "it is in use twice");
        w->seen[p >> 3] |= bit;
    }
    return STATUS_OK;
}

static enum status read_at(struct walk *w, uint64_t page, void *out, size_t len) {
    off_t at = (off_t)(page * w->file->page_bytes);
    ssize_t n = pread(w->fd, out, len, at);
    if (n < 0)
        return err_errno(w->err, errno, "read page %llu of data.mdb", (unsigned long long)page);
    return (size_t)n == len ? STATUS_OK : broken(w, page, "the file is truncated before it");
}

/* ---- nodes ---- */

static const uint8_t *node_at(const struct level *l, unsigned i) {
    return l->page + bytes_get_u16(l->page + PAGE_HEADER + 2 * (size_t)i);
}

static size_t key_len(const uint8_t *node) {
    return bytes_get_u16(node + 6);
}

static size_t value_len(const uint8_t *node) {
    return (size_t)bytes_get_u16(node) | (size_t)bytes_get_u16(node + 2) << 16;
}

static bool is_big(const uint8_t *node) {
    return (bytes_get_u16(node + 4) & IS_BIG) != 0;
}

static int compare(const struct walk *w, const uint8_t *a, size_t a_len, const uint8_t *b,
                   size_t b_len) {
    if (w->numbers) {
        uint64_t x = bytes_get_u64(a), y = bytes_get_u64(b);
        return (x > y) - (x < y);
    }
    int c = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return c != 0 ? c : (a_len > b_len) - (a_len < b_len);
}

/* Every node lies within its page, and its key has a length that a key may have. A branch's first
 * key is empty. */
static enum status check_nodes(struct walk *w, uint64_t number, const struct level *l, bool leaf) {
    size_t size = (size_t)w->file->page_bytes, upper = bytes_get_u16(l->page + 14);
    for (unsigned i = 0; i < l->nodes; i++) {
        size_t at = bytes_get_u16(l->page + PAGE_HEADER + 2 * (size_t)i);
        if (at < upper || at + NODE_HEADER > size)
            return broken(w, number, "a node lies outside of it");
        const uint8_t *node = l->page + at;
        size_t bytes = NODE_HEADER + key_len(node);
        if (leaf)
            bytes += is_big(node) ? 8 : value_len(node);
        bool empty = !leaf && i == 0;
        if (at + bytes > size || key_len(node) > KV_KEY_MAX || (key_len(node) == 0) != empty ||
            (w->numbers && !empty && key_len(node) != 8) ||
            (leaf && bytes_get_u16(node + 4) > IS_BIG))
            return broken(w, number, "a node has impossible lengths");
    }
    return STATUS_OK;
}

static uint64_t child_of(const uint8_t *node) {
    return (uint64_t)bytes_get_u16(node) | (uint64_t)bytes_get_u16(node + 2) << 16 |
           (uint64_t)bytes_get_u16(node + 4) << 32;
}

/* What a page refers to is spread over the file: all of it is asked for before the first is read. */
static void read_ahead(const struct walk *w, const struct level *l, bool leaf) {
    uint64_t size = w->file->page_bytes;
    for (unsigned i = 0; i < l->nodes; i++) {
        const uint8_t *node = node_at(l, i);
        uint64_t page = leaf ? 0 : child_of(node);
        if (leaf && is_big(node))
            page = bytes_get_u64(node + NODE_HEADER + key_len(node));
        if (page > 0 && page < w->file->pages_there)
            (void)posix_fadvise(w->fd, (off_t)(page * size), (off_t)size, POSIX_FADV_WILLNEED);
    }
}

static enum status enter_page(struct walk *w, uint64_t number) {
    enum status st = STATUS_OK;
    if (w->depth == DEPTH_MAX)
        return broken(w, number, "the tree is too deep");
    struct level *l = &w->levels[w->depth];
    size_t size = (size_t)w->file->page_bytes;
    if (l->page == NULL && (l->page = malloc(size)) == NULL)
        return err_set(w->err, STATUS_NOMEM, "out of memory while the store was checked");
    TRY(own(w, number, 1));
    TRY(read_at(w, number, l->page, size));
    unsigned flags = bytes_get_u16(l->page + 10);
    size_t lower = bytes_get_u16(l->page + 12), upper = bytes_get_u16(l->page + 14);
    if (bytes_get_u64(l->page) != number || (flags != IS_BRANCH && flags != IS_LEAF) ||
        lower < PAGE_HEADER || lower % 2 != 0 || upper < lower || upper > size)
        TRY(broken(w, number, "its header"));
    l->nodes = (unsigned)(lower - PAGE_HEADER) / 2;
    l->at = 0;
    if (l->nodes < (flags == IS_BRANCH ? 2u : 1u))
        TRY(broken(w, number, "it is empty"));
    TRY(check_nodes(w, number, l, flags == IS_LEAF));
    if (flags == IS_BRANCH || w->how->heads)
        read_ahead(w, l, flags == IS_LEAF);
    w->how->pages++;
    *(flags == IS_LEAF ? &w->leaves : &w->branches) += 1;
    w->depth++;
out:
    return st;
}

/* ---- leaves ---- */

static enum status check_head(struct walk *w, uint64_t first, uint64_t need) {
    uint8_t head[PAGE_HEADER];
    enum status st = read_at(w, first, head, sizeof head);
    if (st != STATUS_OK)
        return st;
    bool right = bytes_get_u64(head) == first && bytes_get_u16(head + 10) == IS_OVERFLOW &&
                 bytes_get_u32(head + 12) == need;
    return right ? STATUS_OK : broken(w, first, "it should hold a large value");
}

static enum status take_overflow(struct walk *w, const uint8_t *node, uint64_t *first) {
    enum status st = STATUS_OK;
    *first = bytes_get_u64(node + NODE_HEADER + key_len(node));
    if (*first >= w->file->pages_used)
        TRY(broken(w, *first, "there is no such page"));
    uint64_t need = (PAGE_HEADER + value_len(node) + w->file->page_bytes - 1) / w->file->page_bytes;
    if (*first + need > w->file->pages_there)
        TRY(broken(w, *first, "the file is truncated before its end"));
    if (w->how->heads || w->numbers)
        TRY(check_head(w, *first, need));
    TRY(own(w, *first, need));
    w->overflows += need;
out:
    return st;
}

/* The pages that the free list names must have no other owner. */
static enum status take_free(struct walk *w, const uint8_t *node, uint64_t overflow) {
    size_t len = value_len(node);
    enum status st = STATUS_OK;
    uint8_t *list = malloc(len + 1);
    if (list == NULL)
        return err_set(w->err, STATUS_NOMEM, "out of memory while the store was checked");
    if (overflow == NO_PAGE)
        memcpy(list, node + NODE_HEADER + key_len(node), len);
    else if (pread(w->fd, list, len, (off_t)(overflow * w->file->page_bytes + PAGE_HEADER)) !=
             (ssize_t)len)
        TRY(broken(w, overflow, "it is missing"));
    if (len % 8 != 0 || len < 8 || bytes_get_u64(list) > len / 8 - 1)
        TRY(err_set(w->err, STATUS_CORRUPT,
                    "the list of free pages of data.mdb is damaged; restore a backup"));
    for (uint64_t i = 1; i <= bytes_get_u64(list); i++)
        TRY(own(w, bytes_get_u64(list + 8 * i), 1));
out:
    free(list);
    return st;
}

/* A record whose key has changed: the one that is missing would not be missed. Whether there are
 * heads is known only when the format record has been passed. */
static enum status check_key(struct walk *w, const uint8_t *node, uint64_t overflow) {
    struct kv_bytes key = {node + NODE_HEADER, key_len(node)};
    const uint8_t *value = node + NODE_HEADER + key.len;
    uint8_t head[SEAL_BYTES];
    if (overflow == NO_PAGE && seal_is_in(key, (struct kv_bytes){value, value_len(node)}))
        w->sealed = true;
    if (!seal_covers(key))
        return STATUS_OK;
    if (value_len(node) < SEAL_BYTES) {
        w->wrong++;
        return STATUS_OK;
    }
    if (overflow == NO_PAGE)
        memcpy(head, value, sizeof head);
    else if (pread(w->fd, head, sizeof head,
                   (off_t)(overflow * w->file->page_bytes + PAGE_HEADER)) != (ssize_t)sizeof head)
        return broken(w, overflow, "it is missing");
    w->wrong += !seal_is_key(key, head);
    return STATUS_OK;
}

static enum status take_entry(struct walk *w, const uint8_t *node) {
    const uint8_t *key = node + NODE_HEADER;
    uint64_t overflow = NO_PAGE;
    enum status st = STATUS_OK;
    if (w->any && compare(w, w->last, w->last_len, key, key_len(node)) >= 0)
        TRY(err_set(w->err, STATUS_CORRUPT,
                    "the keys of data.mdb are out of order: a page is damaged; restore a backup"));
    memcpy(w->last, key, key_len(node));
    w->last_len = key_len(node);
    w->any = true;
    w->entries++;
    if (is_big(node))
        TRY(take_overflow(w, node, &overflow));
    if (w->numbers)
        TRY(take_free(w, node, overflow));
    else
        TRY(check_key(w, node, overflow));
out:
    return st;
}

/* ---- trees ---- */

/* A branch's key is above all before it and not above what follows: the first entry of its page. */
static enum status check_separator(struct walk *w) {
    const struct level *below = &w->levels[w->depth - 1];
    unsigned up = w->depth - 1;
    while (up > 0 && w->levels[up - 1].at == 1)
        up--; /* the first node of a branch has no key: the one above it counts */
    if (up == 0)
        return STATUS_OK;
    const struct level *above = &w->levels[up - 1];
    const uint8_t *separator = node_at(above, above->at - 1), *first = node_at(below, 0);
    bool low = w->any &&
               compare(w, w->last, w->last_len, separator + NODE_HEADER, key_len(separator)) >= 0;
    bool high = compare(w, separator + NODE_HEADER, key_len(separator), first + NODE_HEADER,
                        key_len(first)) > 0;
    return low || high ? broken(w, bytes_get_u64(above->page), "its keys do not fit those below")
                       : STATUS_OK;
}

static enum status count_all(const struct walk *w, const struct kv_tree *tree) {
    if (w->branches != tree->branches || w->leaves != tree->leaves ||
        w->overflows != tree->overflows || w->entries != tree->entries)
        return err_set(w->err, STATUS_CORRUPT,
                       "data.mdb has lost entries or pages: %llu entries of %llu are there; "
                       "restore a backup",
                       (unsigned long long)w->entries, (unsigned long long)tree->entries);
    return STATUS_OK;
}

static bool is_late(const struct walk *w) {
    return w->how->pages % 64 == 1 && clock_mono_ns(&clock_system) >= w->end_ns;
}

static enum status walk_tree(struct walk *w, const struct kv_tree *tree) {
    enum status st = STATUS_OK;
    w->depth = 0;
    w->any = false;
    w->branches = w->leaves = w->overflows = w->entries = w->wrong = 0;
    if (tree->root != NO_PAGE)
        TRY(enter_page(w, tree->root));
    while (w->depth > 0 && !w->how->cut) {
        struct level *l = &w->levels[w->depth - 1];
        bool leaf = bytes_get_u16(l->page + 10) == IS_LEAF;
        if (leaf && w->depth != tree->depth)
            TRY(broken(w, bytes_get_u64(l->page), "it is at the wrong depth"));
        if (leaf)
            TRY(check_separator(w));
        for (; leaf && l->at < l->nodes; l->at++)
            TRY(take_entry(w, node_at(l, l->at)));
        if (l->at == l->nodes)
            w->depth--;
        else
            TRY(enter_page(w, child_of(node_at(l, l->at++))));
        w->how->cut = is_late(w);
    }
    if (!w->how->cut)
        TRY(count_all(w, tree));
    if (w->sealed && w->wrong > 0)
        TRY(err_set(w->err, STATUS_CORRUPT,
                    "the keys of %llu stored records are damaged; restore a backup",
                    (unsigned long long)w->wrong));
out:
    return st;
}

enum status kv_check_trees(const char *path, const struct kv_file *file, struct kv_walk *walk,
                           struct err *err) {
    struct walk w = {.fd = -1, .file = file, .how = walk, .err = err};
    int64_t now = clock_mono_ns(&clock_system);
    enum status st = STATUS_OK;
    walk->cut = false;
    walk->pages = 0;
    w.end_ns = walk->limit_ns < INT64_MAX - now ? now + walk->limit_ns : INT64_MAX;
    if (file->pages_used == 0)
        return STATUS_OK;
    w.seen = calloc((size_t)(file->pages_used / 8 + 1), 1);
    if (w.seen == NULL)
        return err_set(err, STATUS_NOMEM, "out of memory while %s was checked", path);
    w.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (w.fd < 0)
        TRY(err_errno(err, errno, "open %s", path));
    (void)posix_fadvise(w.fd, 0, 0, POSIX_FADV_RANDOM);
    w.numbers = true; /* first: it is short, and its pages must have no other owner */
    TRY(walk_tree(&w, &file->free));
    w.numbers = false;
    if (!walk->cut)
        TRY(walk_tree(&w, &file->main));
out:
    for (size_t i = 0; i < DEPTH_MAX; i++)
        free(w.levels[i].page);
    free(w.seen);
    if (w.fd >= 0)
        (void)close(w.fd);
    return st;
}
