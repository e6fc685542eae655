/* --devices: asks the drivers, with a limit on how long. */
#include "worker/group/devices.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/value.h"
#include "kernels/devices.h"
#include "kernels/run/device.h"
#include "worker/group/share.h"

#define ARENA_MAX ((size_t)16 << 20)
#define GIB       1073741824.0

/* A driver may hang, and nothing can take a thread back from it: a thread of its own asks, and what
 * it knows when the time is over is what is told. Everything here is touched under the lock; calls
 * to the driver are made outside. */
struct survey {
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool done;
    struct arena arena;
    struct value *gpus;
    int count;      /* −1: not known yet */
    struct err why; /* there is no GPU */
};

/* ---- asking ---- */

static void take_card(struct survey *s, struct device *d, int index, const struct err *why) {
    struct value *v = NULL;
    (void)pthread_mutex_lock(&s->lock);
    if (d != NULL)
        v = device_describe(&s->arena, d);
    else {
        v = value_map(&s->arena);
        value_set_string(&s->arena, v, "error", why->text);
    }
    value_set_int(&s->arena, v, "index", index);
    value_push(&s->arena, s->gpus, v);
    (void)pthread_mutex_unlock(&s->lock);
}

static void *ask(void *arg) {
    struct survey *s = arg;
    struct err why = {0};
    const struct backend *backend = device_cuda_backend(&why);
    int count = backend != NULL ? backend->count(&why) : 0;
    (void)pthread_mutex_lock(&s->lock);
    s->count = count;
    s->why = why;
    (void)pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < count; i++) {
        struct device *d = NULL;
        if (backend->open(i, &d, &why) != STATUS_OK)
            d = NULL;
        take_card(s, d, i, &why);
        if (d != NULL)
            backend->close(d);
    }
    (void)pthread_mutex_lock(&s->lock);
    s->done = true;
    (void)pthread_cond_signal(&s->over);
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Holds the lock on return. */
static void await(struct survey *s) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += DEVICES_WAIT_MS / 1000;
    (void)pthread_mutex_lock(&s->lock);
    while (!s->done && pthread_cond_timedwait(&s->over, &s->lock, &until) == 0)
        continue;
    if (s->count < 0)
        (void)err_set(&s->why, STATUS_TIMEOUT,
                      "the GPU's driver did not answer in %d s: see nvidia-smi, or the kernel log "
                      "(dmesg)",
                      DEVICES_WAIT_MS / 1000);
    for (int i = (int)s->gpus->count; i < s->count; i++) { /* not reached */
        struct value *v = value_map(&s->arena);
        value_set_int(&s->arena, v, "index", i);
        value_push(&s->arena, s->gpus, v);
    }
}

/* ---- what else there is ---- */

static enum status cpu_value(struct arena *a, struct value **out, struct err *err) {
    struct device *d = NULL;
    enum status st = device_open("cpu", 0, &d, err);
    if (st != STATUS_OK)
        return st;
    *out = device_describe(a, d);
    value_set_int(a, *out, "cores", sysconf(_SC_NPROCESSORS_ONLN));
    device_close(&d);
    return STATUS_OK;
}

/* The library that a group of several GPUs would load (nccl.c); NULL: none. */
static const char *nccl_text(struct arena *a) {
    const char *name = getenv("TRIREME_NCCL");
    void *library =
        dlopen(name != NULL && *name != '\0' ? name : "libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    int (*get_version)(int *) = NULL;
    int v = 0;
    void *symbol = library != NULL ? dlsym(library, "ncclGetVersion") : NULL;
    memcpy(&get_version, &symbol, sizeof symbol); /* ISO C has no cast for this */
    if (get_version == NULL || get_version(&v) != 0)
        return NULL;
    return arena_printf(a, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
}

static struct value *libraries_of(struct arena *a, const struct value *gpus) {
    static const char *const names[] = {"driver", "cuda", "cublas", "cudnn"};
    struct value *v = value_map(a);
    for (size_t i = 0; i < gpus->count; i++)
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
            if (value_get(gpus->items[i], names[k]) != NULL)
                value_set_string(a, v, names[k], value_get_string(gpus->items[i], names[k], ""));
    if (gpus->count > 0)
        value_set_string(a, v, "nccl", nccl_text(a));
    return v;
}

/* ---- telling ---- */

static void print_gpu(const struct value *v) {
    int index = (int)value_get_int(v, "index", 0);
    const char *error = value_get_string(v, "error", NULL), *gpu = value_get_string(v, "gpu", NULL);
    if (gpu != NULL)
        (void)printf("gpu %-4d %s, %.1f GiB, %s, %lld multiprocessors%s%s\n", index, gpu,
                     (double)value_get_int(v, "memory", 0) / GIB, value_get_string(v, "isa", ""),
                     (long long)value_get_int(v, "sms", 0),
                     value_get(v, "bus") != NULL ? ", bus " : "", value_get_string(v, "bus", ""));
    else
        (void)printf("gpu %-4d %s\n", index,
                     error != NULL ? error : "did not say what it is in time");
}

static void print_text(const struct value *v) {
    const struct value *cpu = value_get(v, "cpu"), *gpus = value_get(v, "gpus");
    const struct value *libraries = value_get(v, "libraries");
    (void)printf("cpu      %s, %lld cores, %s, oneDNN %s\n", value_get_string(cpu, "cpu", ""),
                 (long long)value_get_int(cpu, "cores", 0), value_get_string(cpu, "isa", ""),
                 value_get_string(cpu, "onednn", ""));
    for (size_t i = 0; i < gpus->count; i++)
        print_gpu(gpus->items[i]);
    if (gpus->count == 0)
        (void)printf("gpu      none: %s\n", value_get_string(v, "no_gpu", ""));
    for (size_t i = 0; i < libraries->count; i++)
        (void)printf("%-8s %s\n", libraries->members[i].key, libraries->members[i].value->string);
}

static enum status tell(struct survey *s, struct value *cpu, bool json, struct err *err) {
    enum status st = STATUS_OK;
    struct arena *a = &s->arena;
    struct value *v = value_map(a);
    value_set(a, v, "cpu", cpu);
    value_set(a, v, "gpus", s->gpus);
    if (s->gpus->count == 0)
        value_set_string(a, v, "no_gpu", s->why.text);
    value_set(a, v, "libraries", libraries_of(a, s->gpus));
    if (json)
        TRY(worker_print(v, err));
    else
        print_text(v);
    if (fflush(stdout) != 0)
        return err_set(err, STATUS_IO, "standard output cannot be written");
out:
    return st;
}

enum status worker_devices(bool json, struct err *err) {
    enum status st = STATUS_OK;
    struct survey s = {.lock = PTHREAD_MUTEX_INITIALIZER, .count = -1};
    pthread_condattr_t attributes;
    pthread_t asker;
    struct value *cpu = NULL;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s.over, &attributes);
    arena_init(&s.arena, ARENA_MAX);
    TRY(cpu_value(&s.arena, &cpu, err)); /* before: a library that hangs holds the loader's lock */
    s.gpus = value_list(&s.arena);
    if (s.gpus == NULL || pthread_create(&asker, NULL, ask, &s) != 0) {
        st = err_set(err, STATUS_NOMEM, "no memory to ask for devices");
        goto out;
    }
    await(&s);
    st = tell(&s, cpu, json, err);
    if (!s.done) { /* the thread is the driver's and uses what is ours: nothing may be freed */
        if (st != STATUS_OK)
            (void)fprintf(stderr, "trireme-worker: %s\n", err->text);
        _exit(status_exit_code(st));
    }
    (void)pthread_mutex_unlock(&s.lock);
    (void)pthread_join(asker, NULL);
out:
    (void)pthread_cond_destroy(&s.over);
    (void)pthread_condattr_destroy(&attributes);
    arena_release(&s.arena);
    return st;
}
