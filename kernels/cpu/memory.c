/* Plain memory: what operators keep, and the backend's table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/cpu/ops.h"

#define HUGE_PAGE ((size_t)2 << 20)

/* Large buffers ask for huge pages: a new engine touches tens of MiB, a fault a 4 KiB page. */
void *cpu_alloc(size_t bytes) {
    size_t align = bytes >= HUGE_PAGE / 2 ? HUGE_PAGE : 64;
    size_t whole = bytes ? (bytes + align - 1) / align * align : align;
    void *p = whole < bytes ? NULL : aligned_alloc(align, whole);
    if (p != NULL && align == HUGE_PAGE)
        (void)madvise(p, whole, MADV_HUGEPAGE); /* a wish, no more */
    if (p != NULL)
        memset(p, 0, whole);
    return p;
}

void cpu_free(void *p) {
    free(p);
}

enum status cpu_part(struct node *n, int64_t count, size_t size, void **out, struct err *err) {
    size_t bytes = (size_t)count * size;
    *out = n->planned ? NULL : cpu_alloc(bytes);
    if (*out == NULL && !n->planned)
        return err_set(err, STATUS_NOMEM, "no memory for %zu bytes of workspace", bytes);
    n->state_bytes += bytes;
    return STATUS_OK;
}

enum status cpu_state(struct node *n, size_t bytes, void **out, struct err *err) {
    *out = cpu_alloc(bytes);
    if (*out == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for %zu bytes of state", bytes);
    n->state = *out;
    n->state_bytes += bytes;
    return STATUS_OK;
}

/* ---- the table ---- */

static void *alloc(struct device *d, size_t bytes) {
    (void)d;
    return cpu_alloc(bytes);
}

static void release(struct device *d, void *p) {
    (void)d;
    cpu_free(p);
}

static void move(struct device *d, enum queue q, void *dst, const void *src, size_t bytes) {
    (void)d;
    (void)q;
    memcpy(dst, src, bytes);
}

static void copy(struct device *d, void *dst, const void *src, size_t bytes) {
    (void)d;
    memcpy(dst, src, bytes);
}

/* The number after `name` at a line's beginning; −1: none ("max" is none). */
static int64_t number_in(const char *file, const char *name) {
    char line[128];
    size_t n = strlen(name);
    int64_t found = -1;
    FILE *f = fopen(file, "re");
    while (f != NULL && found < 0 && fgets(line, sizeof line, f) != NULL) {
        char *end = NULL;
        long long value = strncmp(line, name, n) == 0 ? strtoll(line + n, &end, 10) : -1;
        if (end != NULL && end != line + n)
            found = value;
    }
    if (f != NULL)
        (void)fclose(f);
    return found;
}

/* What can be had without swapping: free pages alone would not count what the cache gives back. A
 * container may allow less than the machine has. */
static void room(struct device *d, int64_t *available, int64_t *total) {
    (void)d;
    int64_t kib = number_in("/proc/meminfo", "MemAvailable:");
    int64_t most = number_in("/sys/fs/cgroup/memory.max", "");
    int64_t left = most - number_in("/sys/fs/cgroup/memory.current", "") +
                   number_in("/sys/fs/cgroup/memory.stat", "inactive_file ");
    *available = kib >= 0 ? kib * 1024 : sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE);
    *total = sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    if (most > 0 && most < *total)
        *total = most;
    if (most > 0 && left < *available)
        *available = left > 0 ? left : 0;
}

const struct device_memory cpu_memory_table = {
    .alloc = alloc,
    .release = release,
    .host_alloc = alloc,
    .host_release = release,
    .room = room,
    .upload = copy,
    .download = copy,
    .copy = move,
};
