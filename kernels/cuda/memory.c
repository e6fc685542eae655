/* Blocks of memory that outlive the engines that used them: a driver takes milliseconds to give or
 * take back a block, a trial asks for a hundred, and the next trial asks for the same sizes.
 *
 *     take ─▶ an idle block of that size, or a new one; when the driver has none left, all idle
 *             blocks go back to it and it is asked again
 *     give ─▶ idle; above POOL_IDLE_MAX the ones that lay longest go back to the driver
 *
 * Sizes are powers of two up to 2 MiB (what drivers map at once), then multiples of it. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.h"

#define POOL_IDLE_MAX ((size_t)1 << 30) /* ranks that share a GPU leave each other room */

struct cuda_block {
    void *p;
    size_t bytes; /* rounded up */
    bool used;
    uint64_t since; /* the pool's clock when it became idle */
};

static void drop(struct cuda_pool *pool, int i) {
    struct cuda_block *b = &pool->blocks[i];
    if (pool->host)
        (void)cudaFreeHost(b->p);
    else
        (void)cudaFree(b->p);
    if (!b->used)
        pool->idle -= b->bytes;
    *b = pool->blocks[--pool->count];
}

void cuda_pool_trim(struct cuda_pool *pool) {
    for (int i = pool->count - 1; i >= 0; i--)
        if (!pool->blocks[i].used)
            drop(pool, i);
}

void cuda_pool_clear(struct cuda_pool *pool) {
    while (pool->count > 0)
        drop(pool, pool->count - 1);
    free(pool->blocks);
    *pool = (struct cuda_pool){.host = pool->host};
}

static struct cuda_block *find_idle(struct cuda_pool *pool, size_t bytes) {
    for (int i = 0; i < pool->count; i++)
        if (!pool->blocks[i].used && pool->blocks[i].bytes == bytes)
            return &pool->blocks[i];
    return NULL;
}

static cudaError_t ask(const struct cuda_pool *pool, size_t bytes, void **out) {
    cudaError_t code =
        pool->host ? cudaHostAlloc(out, bytes, cudaHostAllocMapped) : cudaMalloc(out, bytes);
    if (code == cudaErrorMemoryAllocation)
        (void)cudaGetLastError(); /* NULL says so; it is not an error of the device */
    return code;
}

static struct cuda_block *make(struct cuda_device *c, struct cuda_pool *pool, size_t bytes) {
    if (pool->count == pool->room) {
        int room = pool->room ? 2 * pool->room : 64;
        struct cuda_block *more = realloc(pool->blocks, (size_t)room * sizeof *more);
        if (more == NULL)
            return NULL;
        pool->blocks = more;
        pool->room = room;
    }
    void *p = NULL;
    cudaError_t code = ask(pool, bytes, &p);
    if (code == cudaErrorMemoryAllocation && pool->idle > 0) {
        cuda_pool_trim(pool);
        code = ask(pool, bytes, &p);
    }
    if (code == cudaErrorMemoryAllocation || !cuda_ok(&c->base, code, "memory"))
        return NULL;
    struct cuda_block *b = &pool->blocks[pool->count++];
    *b = (struct cuda_block){.p = p, .bytes = bytes};
    pool->idle += bytes;
    return b;
}

/* Whoever had a block before may have work queued on it, and whoever takes it may use it first on
 * either queue: zeros are written after the one and before the other. */
static void clear(struct cuda_device *c, const struct cuda_pool *pool, void *p, size_t bytes) {
    if (pool->host) {
        memset(p, 0, bytes);
        return;
    }
    cuda_order(c, QUEUE_COMPUTE, QUEUE_EXCHANGE);
    (void)cuda_ok(&c->base, cudaMemsetAsync(p, 0, bytes, c->stream[QUEUE_COMPUTE]), "memory");
    cuda_order(c, QUEUE_EXCHANGE, QUEUE_COMPUTE);
}

void *cuda_pool_take(struct cuda_device *c, struct cuda_pool *pool, size_t bytes) {
    size_t whole = cuda_block_bytes(bytes);
    if (whole == 0 || cuda_failed(&c->base))
        return NULL;
    struct cuda_block *b = find_idle(pool, whole);
    if (b == NULL)
        b = make(c, pool, whole);
    if (b == NULL)
        return NULL;
    b->used = true;
    pool->idle -= whole;
    pool->used += whole;
    if (pool->used > pool->peak)
        pool->peak = pool->used;
    void *p = b->p;
    clear(c, pool, p, bytes);
    return p;
}

static void drop_oldest(struct cuda_pool *pool) {
    int oldest = -1;
    for (int i = 0; i < pool->count; i++)
        if (!pool->blocks[i].used &&
            (oldest < 0 || pool->blocks[i].since < pool->blocks[oldest].since))
            oldest = i;
    if (oldest >= 0)
        drop(pool, oldest);
}

void cuda_pool_give(struct cuda_device *c, struct cuda_pool *pool, void *p) {
    if (p == NULL)
        return;
    if (pool->host) /* a copy that is still queued reads or writes it, and take() would too */
        c->base.backend->order->sync(&c->base);
    for (int i = 0; i < pool->count; i++) {
        struct cuda_block *b = &pool->blocks[i];
        if (b->p != p || !b->used)
            continue;
        b->used = false;
        b->since = ++pool->clock;
        pool->used -= b->bytes;
        pool->idle += b->bytes;
        break;
    }
    while (pool->idle > POOL_IDLE_MAX)
        drop_oldest(pool);
}

/* ---- what the operators ask for ---- */

static enum status no_memory(struct device *d, size_t bytes, struct err *err) {
    struct cuda_device *c = cuda_of(d);
    int64_t available = 0, total = 0;
    if (cuda_failed(d))
        return err_set(err, c->failed, "%s", c->err.text);
    d->backend->memory->room(d, &available, &total);
    return err_set(err, STATUS_NOMEM,
                   "no memory for %zu bytes on GPU %d (%s): %lld of %lld MiB are free", bytes,
                   c->index, c->properties.name, (long long)(available >> 20),
                   (long long)(total >> 20));
}

enum status cuda_part(struct node *n, size_t bytes, void **out, struct err *err) {
    *out = n->device->backend->memory->alloc(n->device, bytes);
    if (*out == NULL)
        return no_memory(n->device, bytes, err);
    n->state_bytes += bytes;
    return STATUS_OK;
}

enum status cuda_state_new(struct node *n, size_t bytes, void **out, struct err *err) {
    *out = calloc(1, bytes);
    if (*out == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the state of an operator");
    n->state = *out;
    return STATUS_OK;
}

enum status cuda_dnn_reserve(struct device *d, size_t bytes, struct err *err) {
    struct cuda_device *c = cuda_of(d);
    if (bytes <= c->dnn_workspace_bytes)
        return STATUS_OK;
    if (bytes > CUDA_DNN_WORKSPACE)
        return err_set(err, STATUS_TOO_LARGE, "cuDNN asks for %zu bytes of workspace; at most %zu",
                       bytes, CUDA_DNN_WORKSPACE);
    size_t whole = CUDA_BLOCK_PAGE; /* doubling: all the smaller ones together are no larger */
    while (whole < bytes)
        whole *= 2;
    void *p = d->backend->memory->alloc(d, whole);
    if (p == NULL)
        return no_memory(d, whole, err);
    c->dnn_workspace = p;
    c->dnn_workspace_bytes = whole;
    return STATUS_OK;
}

/* ---- the table ---- */

void *cuda_alloc(struct device *d, size_t bytes) {
    return cuda_pool_take(cuda_of(d), &cuda_of(d)->pool, bytes);
}

static void cuda_release(struct device *d, void *p) {
    cuda_pool_give(cuda_of(d), &cuda_of(d)->pool, p);
}

static void *cuda_host_alloc(struct device *d, size_t bytes) {
    return cuda_pool_take(cuda_of(d), &cuda_of(d)->pinned, bytes);
}

static void cuda_host_release(struct device *d, void *p) {
    cuda_pool_give(cuda_of(d), &cuda_of(d)->pinned, p);
}

/* What lies idle is as good as free: it goes back before an allocation fails. */
static void cuda_memory(struct device *d, int64_t *available, int64_t *total) {
    size_t free_bytes = 0, all = 0;
    (void)cuda_ok(d, cudaMemGetInfo(&free_bytes, &all), "ask for free memory");
    *available = (int64_t)(free_bytes + cuda_of(d)->pool.idle);
    *total = (int64_t)all;
}

static void cuda_copy(struct device *d, enum queue q, void *dst, const void *src, size_t bytes) {
    cudaStream_t stream = cuda_of(d)->stream[q];
    if (bytes > 0 && !cuda_failed(d))
        (void)cuda_ok(d, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, stream), "copy");
}

/* These two wait, and so may as well wait for what the exchange wrote or still reads. */
void cuda_move(struct device *d, void *dst, const void *src, size_t bytes) {
    cuda_order(cuda_of(d), QUEUE_COMPUTE, QUEUE_EXCHANGE);
    cuda_copy(d, QUEUE_COMPUTE, dst, src, bytes);
    if (!cuda_failed(d))
        (void)cuda_ok(d, cudaStreamSynchronize(cuda_stream(d)), "copy");
}

static void cuda_convert(struct device *d, const float *src, void *dst, int64_t count,
                         enum precision precision) {
    if (count == 0 || cuda_failed(d))
        return;
    if (precision != PRECISION_BF16) {
        cuda_copy(d, QUEUE_COMPUTE, dst, src, (size_t)count * sizeof *src);
        return;
    }
    step_convert_bf16(src, dst, count, cuda_stream(d));
    cuda_launched(d, "launch of a conversion");
}

const struct device_memory cuda_memory_table = {
    .alloc = cuda_alloc,
    .release = cuda_release,
    .host_alloc = cuda_host_alloc,
    .host_release = cuda_host_release,
    .room = cuda_memory,
    .upload = cuda_move,
    .download = cuda_move,
    .copy = cuda_copy,
    .convert = cuda_convert,
    .table_new = cuda_table_new,
    .table_release = cuda_table_release,
    .gather_step = cuda_gather_step,
    .gather_rows = cuda_gather_rows,
};
