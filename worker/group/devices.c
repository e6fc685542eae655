/* --devices: asks the drivers, with a limit on how long. */
#include "worker/group/devices.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/output.h"
#include "core/value.h"
#include "kernels/devices.h"
#include "kernels/run/device.h"
#include "worker/group/share.h"

#define ARENA_MAX  ((size_t)16 << 20)
#define GIB        1073741824.0
#define TRY_END_MS 5000 /* beyond its limit, until a try is killed */

/* A driver may hang, and nothing can take a thread back from it: a thread of its own asks, and what
 * it knows when the time is over is what is told. Everything here is touched under the lock; calls
 * to the driver are made outside. */
struct survey {
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool done, loaded; /* loaded: the backend and its libraries, or the reason why not */
    int wait_ms;
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
    (void)pthread_mutex_lock(&s->lock);
    s->loaded = true;
    (void)pthread_mutex_unlock(&s->lock);
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
    until.tv_sec += s->wait_ms / 1000;
    until.tv_nsec += s->wait_ms % 1000 * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    (void)pthread_mutex_lock(&s->lock);
    while (!s->done && pthread_cond_timedwait(&s->over, &s->lock, &until) == 0)
        continue;
    if (s->count < 0 && !s->loaded)
        (void)err_set(
            &s->why, STATUS_TIMEOUT,
            "CUDA's libraries were not loaded in %g s: a first load from a slow disk takes "
            "longer; ask again, or wait for it with --need-gpu",
            s->wait_ms / 1000.0);
    else if (s->count < 0)
        (void)err_set(&s->why, STATUS_TIMEOUT,
                      "the GPU's driver did not answer in %g s: see nvidia-smi, or the kernel log "
                      "(dmesg)",
                      s->wait_ms / 1000.0);
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
    st = output_finish(err);
out:
    return st;
}

/* ---- one try ---- */

static bool finds_gpu(const struct survey *s) {
    for (size_t i = 0; i < s->gpus->count; i++)
        if (value_get(s->gpus->items[i], "gpu") != NULL)
            return true;
    return false;
}

static int wait_ms(int usual) {
    const char *text = getenv(DEVICES_VARIABLE);
    long ms = text != NULL ? strtol(text, NULL, 10) : 0;
    return ms > 0 && ms < INT32_MAX / 2 ? (int)ms : usual;
}

/* `number`: of DEVICES_TRIES; the ones before the last that find no GPU say so on standard error and
 * leave the answer to those after them. */
struct attempt {
    bool json, need;
    int number;
    int exit_code; /* of what was found */
};

static enum status say(struct survey *s, struct value *cpu, struct attempt *try, struct err *err) {
    bool found = finds_gpu(s);
    try->exit_code = try->need && !found ? DEVICES_NO_GPU : 0;
    if (found || !try->need || try->number == DEVICES_TRIES)
        return tell(s, cpu, try->json, err);
    (void)fprintf(stderr, "trireme-worker: try %d of %d: no GPU: %s\n", try->number, DEVICES_TRIES,
                  s->count > 0 ? "none that was found can be used" : s->why.text);
    return STATUS_OK;
}

static enum status survey_machine(struct attempt *try, struct err *err) {
    enum status st = STATUS_OK;
    struct survey s = {.lock = PTHREAD_MUTEX_INITIALIZER, .count = -1};
    pthread_condattr_t attributes;
    pthread_t asker;
    struct value *cpu = NULL;
    s.wait_ms = wait_ms(try->need ? DEVICES_NEED_WAIT_MS : DEVICES_WAIT_MS);
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
    st = say(&s, cpu, try, err);
    if (!s.done) { /* the thread is the driver's and uses what is ours: nothing may be freed */
        if (st != STATUS_OK)
            (void)fprintf(stderr, "trireme-worker: %s\n", err->text);
        _exit(st != STATUS_OK ? status_exit_code(st) : try->exit_code);
    }
    (void)pthread_mutex_unlock(&s.lock);
    (void)pthread_join(asker, NULL);
out:
    (void)pthread_cond_destroy(&s.over);
    (void)pthread_condattr_destroy(&attributes);
    arena_release(&s.arena);
    return st;
}

enum status worker_devices(bool json, struct err *err) {
    struct attempt any = {.json = json};
    return survey_machine(&any, err);
}

/* ---- several ---- */

/* One file into the page cache, as long as there is time. */
static void warm_file(const char *path, int64_t until_ns) {
    static char chunk[1 << 20];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW); /* links would be read twice */
    if (fd < 0)
        return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
    while (clock_mono_ns(&clock_system) < until_ns && read(fd, chunk, sizeof chunk) > 0)
        continue;
    (void)close(fd);
}

static void warm_folder(const char *folder, int64_t until_ns) {
    static const char *const wanted[] = {"libcudart.", "libcublas", "libcudnn", "libnccl.",
                                         "libcuda.",   "libnvrtc",  "libnvJit", "libtrireme-cuda."};
    DIR *d = opendir(folder);
    const struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL) {
        char path[PATH_MAX];
        for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
            if (strncmp(e->d_name, wanted[i], strlen(wanted[i])) == 0 &&
                snprintf(path, sizeof path, "%s/%s", folder, e->d_name) < (int)sizeof path)
                warm_file(path, until_ns);
    }
    if (d != NULL)
        (void)closedir(d);
}

/* CUDA's libraries have over a gigabyte, of which the loader touches a page here and a page there:
 * read from beginning to end they are there sooner. They lie where this program's would be looked
 * for: LD_LIBRARY_PATH, its own run path, the system's folders. */
static void warm_libraries(void) {
    Dl_serinfo size, *all = NULL;
    void *self = dlopen(NULL, RTLD_NOW);
    int64_t until_ns = clock_mono_ns(&clock_system) + wait_ms(DEVICES_NEED_WAIT_MS) * NS_PER_MS;
    if (self != NULL && dlinfo(self, RTLD_DI_SERINFOSIZE, &size) == 0)
        all = calloc(1, size.dls_size);
    if (all != NULL) {
        *all = size;
        if (dlinfo(self, RTLD_DI_SERINFO, all) == 0)
            for (unsigned i = 0; i < all->dls_cnt; i++)
                warm_folder(all->dls_serpath[i].dls_name, until_ns);
    }
    free(all);
}

/* A child that hangs in the driver may not end even when it is killed: it is not waited for. */
static int await_child(pid_t pid, int limit_ms) {
    int64_t until_ns = clock_mono_ns(&clock_system) + limit_ms * NS_PER_MS;
    int how = 0;
    for (;;) {
        pid_t ended = waitpid(pid, &how, WNOHANG);
        if (ended == pid)
            return WIFEXITED(how) ? WEXITSTATUS(how) : DEVICES_NO_GPU;
        if (clock_mono_ns(&clock_system) >= until_ns) {
            (void)kill(pid, SIGKILL);
            return DEVICES_NO_GPU;
        }
        (void)poll(NULL, 0, 10);
    }
}

enum status worker_devices_needed(bool json, int *exit_code, struct err *err) {
    warm_libraries();
    for (int i = 1; i <= DEVICES_TRIES; i++) {
        (void)fflush(NULL);
        pid_t pid = fork();
        if (pid < 0)
            return err_errno(err, errno, "start a try");
        if (pid == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            struct attempt try = {.json = json, .need = true, .number = i};
            enum status st = survey_machine(&try, err);
            if (st != STATUS_OK)
                (void)fprintf(stderr, "trireme-worker: %s\n", err->text);
            (void)fflush(NULL);
            _exit(st != STATUS_OK ? status_exit_code(st) : try.exit_code);
        }
        *exit_code = await_child(pid, wait_ms(DEVICES_NEED_WAIT_MS) + TRY_END_MS);
        if (*exit_code != DEVICES_NO_GPU)
            break;
    }
    return STATUS_OK;
}
