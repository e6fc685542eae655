/* A grid on the CPU: blocks one after the other, their threads as fibers on one processor.
 *
 *     scheduler ──▶ worker fiber: thread 0, thread 1, thread 2 … until one waits
 *        ▲                              │ thread k waits at a barrier
 *        └──────────────────────────────┘ and keeps the fiber's stack; another fiber goes on with
 * k+1
 *
 * A kernel without barriers is thus a plain loop on one stack. Threads only switch where they wait,
 * so that atomics are plain operations; the order of threads and blocks is TRIREME_STANDIN_ORDER's,
 * and a kernel with a race gives other bits in another order. */
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tests/standin/runtime.h"

#ifndef __x86_64__
#include <ucontext.h>
#endif

__attribute__((visibility("default"))) uint3 threadIdx, blockIdx;
__attribute__((visibility("default"))) dim3 blockDim, gridDim;

namespace standin {
namespace {

constexpr unsigned THREADS_MAX = 1024, LANES = 32;
constexpr size_t STACK_BYTES = 256 << 10, PAGE = 4096;

/* ---- fibers ---- */

#ifdef __x86_64__

struct context {
    void *sp;
};

/* Saves what a call keeps on the stack, and goes on where `to` was saved. */
extern "C" void standin_switch(context *from, context *to);
asm(R"(
.text
.hidden standin_switch
.type standin_switch, @function
standin_switch:
    endbr64
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size standin_switch, .-standin_switch
)");

void context_make(context *c, void *stack, size_t bytes, void (*entry)()) {
    /* As standin_switch leaves it: six registers and where to go; above them a return address for
     * `entry`, which never returns, so that the stack is aligned as after a call. */
    void **top = (void **)((char *)stack + bytes);
    *--top = nullptr;
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    c->sp = top;
}

#else

using context = ucontext_t;

void standin_switch(context *from, context *to) {
    swapcontext(from, to);
}
void context_make(context *c, void *stack, size_t bytes, void (*entry)()) {
    getcontext(c);
    c->uc_stack.ss_sp = stack;
    c->uc_stack.ss_size = bytes;
    c->uc_link = nullptr;
    makecontext(c, entry, 0);
}

#endif

struct fiber {
    context at;
};

/* ---- one block ---- */

enum state { FRESH, RUNNING, AT_BARRIER, AT_EXCHANGE, READY, ENDED };

struct thread {
    uint3 id;
    state now;
    fiber *on; /* while it waits */
    const char *file;
    int line;
};

struct warp {
    unsigned arrived;
    unsigned turn; /* of the two buffers: a lane is at most one exchange ahead of the others */
    unsigned long long value[2][LANES];
    const char *file;
    int line;
};

struct block_now {
    const char *kernel;
    void (*call)(void *);
    void *args;
    unsigned count, live, at_barrier;
    unsigned next; /* the next of `order` to start */
    unsigned order[THREADS_MAX];
    thread threads[THREADS_MAX];
    warp warps[THREADS_MAX / LANES];
    unsigned current;
    unsigned ready[THREADS_MAX], ready_head, ready_count; /* a ring */
    const char *barrier_file;
    int barrier_line;
    fiber *fiber_now;
    std::vector<fiber *> idle;
    context scheduler;
};
block_now &b = *new block_now(); /* never destroyed: its fibers are in use until the end */

const char *state_name(state s) {
    switch (s) {
    case FRESH:
        return "has not begun";
    case RUNNING:
        return "runs";
    case AT_BARRIER:
        return "waits at __syncthreads in";
    case AT_EXCHANGE:
        return "waits at a shuffle in";
    case READY:
        return "goes on after";
    case ENDED:
        return "has ended; last wait in";
    }
    return "?";
}

[[noreturn]] void fail(const char *what) {
    fprintf(stderr,
            "stand-in: kernel %s, grid (%u, %u, %u), block (%u, %u, %u) of %u threads: %s\n",
            b.kernel ? b.kernel : "-", gridDim.x, gridDim.y, gridDim.z, blockIdx.x, blockIdx.y,
            blockIdx.z, b.count, what);
    int shown = 0;
    for (unsigned i = 0; i < b.count && shown < 48; i++) {
        const thread *t = &b.threads[i];
        bool again = i > 0 && t->now == t[-1].now && t->line == t[-1].line;
        if (again)
            continue; /* like the thread before it */
        shown++;
        fprintf(stderr, "stand-in:   from thread (%u, %u, %u) on: %s %s:%d\n", t->id.x, t->id.y,
                t->id.z, state_name(t->now), t->file ? t->file : "-", t->line);
    }
    abort();
}

void shuffle_order(unsigned *v, unsigned n) {
    if (order_of_work() == order::reverse)
        std::reverse(v, v + n);
    if (order_of_work() == order::random)
        for (unsigned i = n; i > 1; i--)
            std::swap(v[i - 1], v[random_word() % i]);
}

void make_ready(unsigned *which, unsigned n) {
    shuffle_order(which, n);
    for (unsigned i = 0; i < n; i++) {
        b.threads[which[i]].now = READY;
        b.ready[(b.ready_head + b.ready_count++) % THREADS_MAX] = which[i];
    }
}

/* Leaves the calling thread waiting; returns when it is its turn again. */
void wait() {
    thread *t = &b.threads[b.current];
    t->on = b.fiber_now;
    standin_switch(&t->on->at, &b.scheduler);
    t->now = RUNNING;
}

/* All that are left stand at the barrier: they go on, but for `but` (−1: none), who runs. */
void open_barrier(int but) {
    unsigned which[THREADS_MAX], n = 0;
    for (unsigned i = 0; i < b.count; i++)
        if (b.threads[i].now == AT_BARRIER && (int)i != but)
            which[n++] = i;
    b.at_barrier = 0;
    make_ready(which, n);
}

void worker() {
    for (;;) {
        while (b.next < b.count) {
            b.current = b.order[b.next++];
            thread *t = &b.threads[b.current];
            t->now = RUNNING;
            threadIdx = t->id;
            b.call(b.args);
            t = &b.threads[b.current];
            t->now = ENDED;
            b.live--;
            if (b.live > 0 && b.at_barrier == b.live)
                open_barrier(-1);
            if (b.ready_count > 0)
                break; /* those first: they hold stacks */
        }
        fiber *self = b.fiber_now;
        b.idle.push_back(self);
        standin_switch(&self->at, &b.scheduler);
    }
}

fiber *worker_new() {
    void *stack = mmap(nullptr, STACK_BYTES + PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack, PAGE, PROT_NONE) != 0)
        fail("no memory for a stack");
    fiber *f = new fiber();
    context_make(&f->at, (char *)stack + PAGE, STACK_BYTES, worker);
    return f;
}

void resume(fiber *f) {
    b.fiber_now = f;
    standin_switch(&b.scheduler, &f->at);
}

void start() {
    if (b.idle.empty())
        b.idle.push_back(worker_new());
    fiber *f = b.idle.back();
    b.idle.pop_back();
    resume(f);
}

void resume_ready() {
    unsigned i = b.ready[b.ready_head];
    b.ready_head = (b.ready_head + 1) % THREADS_MAX;
    b.ready_count--;
    b.current = i;
    threadIdx = b.threads[i].id;
    resume(b.threads[i].on);
}

void run_block() {
    b.live = b.count;
    b.at_barrier = b.next = b.ready_head = b.ready_count = 0;
    for (unsigned i = 0; i < b.count; i++) {
        b.order[i] = i;
        b.threads[i].now = FRESH;
        b.threads[i].file = nullptr;
        b.threads[i].line = 0;
    }
    shuffle_order(b.order, b.count);
    for (warp &w : b.warps)
        w.arrived = 0;
    while (b.live > 0) {
        bool fresh = b.next < b.count;
        bool either = fresh && b.ready_count > 0 && order_of_work() == order::random;
        if (b.ready_count > 0 && !(either && random_word() % 2 == 0))
            resume_ready();
        else if (fresh)
            start();
        else
            fail("threads wait for others that will not come");
    }
}

} // namespace

void run_grid(const char *kernel, dim3 grid, dim3 block, void (*call)(void *), void *args) {
    b.kernel = kernel;
    b.call = call;
    b.args = args;
    b.count = block.x * block.y * block.z;
    blockDim = block;
    gridDim = grid;
    for (unsigned i = 0; i < b.count; i++)
        b.threads[i].id = {i % block.x, i / block.x % block.y, i / block.x / block.y};
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    std::vector<uint64_t> mixed;
    if (order_of_work() == order::random) {
        for (uint64_t i = 0; i < blocks; i++)
            mixed.push_back(i);
        for (uint64_t i = blocks; i > 1; i--)
            std::swap(mixed[i - 1], mixed[random_word() % i]);
    }
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t k = order_of_work() == order::reverse ? blocks - 1 - i
                     : mixed.empty()                   ? i
                                                       : mixed[i];
        blockIdx = {(unsigned)(k % grid.x), (unsigned)(k / grid.x % grid.y),
                    (unsigned)(k / grid.x / grid.y)};
        run_block();
    }
}

} // namespace standin

using namespace standin;

STANDIN_API void standin_barrier(const char *file, int line) {
    thread *t = &b.threads[b.current];
    t->file = file;
    t->line = line;
    t->now = AT_BARRIER;
    if (b.at_barrier == 0) {
        b.barrier_file = file;
        b.barrier_line = line;
    }
    if (b.barrier_line != line)
        fail("threads wait at different __syncthreads");
    if (++b.at_barrier < b.live) {
        wait();
    } else {
        open_barrier((int)b.current);
        t->now = RUNNING;
    }
}

STANDIN_API const unsigned long long *standin_exchange(unsigned mask, unsigned long long mine,
                                                       const char *file, int line) {
    unsigned me = b.current;
    thread *t = &b.threads[me];
    warp *w = &b.warps[me / LANES];
    t->file = file;
    t->line = line;
    t->now = AT_EXCHANGE;
    if (mask != 0xffffffffu)
        fail("a shuffle's mask is not the full one");
    if (w->arrived == 0) {
        w->file = file;
        w->line = line;
    }
    if (w->line != line)
        fail("lanes of a warp wait at different shuffles");
    unsigned long long *all = w->value[w->turn];
    all[me % LANES] = mine;
    if (++w->arrived < LANES) {
        wait();
        return all;
    }
    unsigned which[LANES], n = 0;
    for (unsigned i = me / LANES * LANES; i < (me / LANES + 1) * LANES; i++)
        if (i != me)
            which[n++] = i;
    w->arrived = 0;
    w->turn ^= 1;
    make_ready(which, n);
    t->now = RUNNING;
    return all;
}

STANDIN_API void standin_trap(const char *what, const char *file, int line) {
    fprintf(stderr, "stand-in: %s:%d\n", file, line);
    fail(what);
}
