/* Damage on disk, by a seed: flipped bits, other bytes, zeroed pages, pages of another place,
 * truncated files. Whatever the store then says with ok is what it said before; all else is an
 * error, and nothing crashes. TRIREME_DAMAGE=300 tries more (the default is short), TRIREME_SEED
 * another course. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "core/bytes.h"
#include "core/path.h"
#include "tests/unit/tracker/store_fixture.h"

#define CASES_DEFAULT 60
#define HEX           "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const char *const questions[][2] = {
    {"experiment.list", "{}"},
    {"run.get", "{'run':'" RUN_A "'}"},
    {"run.get", "{'run':'" RUN_B "'}"},
    {"run.list", "{}"},
    {"run.list", "{'sweep':'" SWEEP "'}"},
    {"run.list", "{'state':'completed'}"},
    {"run.list", "{'experiment':'e2','newest_first':false}"},
    {"run.resolve", "{'prefix':'01J8'}"},
    {"run.metrics", "{'run':'" RUN_A "','key':'loss'}"},
    {"run.metrics", "{'run':'" RUN_A "','key':'loss','points':50}"},
    {"run.metrics", "{'run':'" RUN_A "','key':'error','rank':1}"},
    {"artifact.get", "{'run':'" RUN_A "','path':'bytes'}"},
    {"artifact.get", "{'run':'" RUN_A "','path':'empty'}"},
    {"sweep.get", "{'sweep':'" SWEEP "'}"},
    {"sweep.list", "{}"},
    {"event.read", "{'sweep':'" SWEEP "'}"},
    {"model.get", "{'name':'m','alias':'live'}"},
    {"model.list", "{}"},
    {"audit.list", "{}"},
};
#define QUESTIONS (sizeof questions / sizeof questions[0])

struct answers {
    struct digest said[QUESTIONS]; /* of header and bytes */
};

static uint64_t random_next(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* ---- a store with one of everything ---- */

static void log_points(struct fixture *f, const char *fields, size_t n, uint64_t seed) {
    uint8_t *columns = malloc(n * 24);
    for (size_t i = 0; i < n; i++) {
        double v = (double)(random_next(&seed) >> 11) * 0x1p-53;
        uint64_t bits;
        memcpy(&bits, &v, sizeof bits);
        bytes_put_u64(columns + 8 * i, i);
        bytes_put_u64(columns + 8 * (n + i), i * 1000 + seed % 100);
        bytes_put_u64(columns + 8 * (2 * n + i), bits);
    }
    const struct net_frame frames[3] = {
        {columns, 8 * n}, {columns + 8 * n, 8 * n}, {columns + 16 * n, 8 * n}};
    if (fixture_write(f, "run.log", fields, frames, 3) != STATUS_OK)
        fail_msg("%s", f->err.text);
    free(columns);
}

static void put_bytes(struct fixture *f, const char *path, size_t len) {
    char hex[DIGEST_HEX], text[400], *bytes = calloc(len + 1, 1);
    struct digest d;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(i * i >> 5);
    hash_bytes(bytes, len, &d);
    hash_hex(&d, hex);
    (void)snprintf(text, sizeof text, "{'run':'" RUN_A "','path':'%s','size':%zu,'digest':'%s'}",
                   path, len, hex);
    WRITE_OK(f, "artifact.begin", text);
    (void)snprintf(text, sizeof text, "{'digest':'%s','offset':0}", hex);
    struct net_frame frame = {bytes, len};
    if (len > 0)
        assert_int_equal(fixture_write(f, "artifact.chunk", text, &frame, 1), STATUS_OK);
    (void)snprintf(text, sizeof text, "{'run':'" RUN_A "','path':'%s','digest':'%s'}", path, hex);
    WRITE_OK(f, "artifact.commit", text);
    free(bytes);
}

static void fill(struct fixture *f) {
    char text[3000];
    WRITE_OK(f, "sweep.create", "{'sweep':'" SWEEP "','name':'s','config':{'x':1}}");
    (void)snprintf(text, sizeof text, "{'long':'%02000d'}", 7);
    char *events = malloc(4096);
    (void)snprintf(events, 4096, "{'sweep':'" SWEEP "','first':1,'events':[{'a':1},%s,{'b':2}]}",
                   text);
    WRITE_OK(f, "event.append", events);
    free(events);
    WRITE_OK(f, "run.create",
             "{'run':'" RUN_A "','experiment':'e1','sweep':'" SWEEP "','trial':1,'attempt':1,"
             "'params':{'a':1,'b':'two'},'tags':{'t':'x','u':'y'},'config':{'c':[1,2,3]}}");
    log_points(f, "{'run':'" RUN_A "','series':[{'key':'loss','count':9000}]}", 9000, 7);
    log_points(f, "{'run':'" RUN_A "','rank':1,'series':[{'key':'error','count':30}]}", 30, 8);
    put_bytes(f, "bytes", 300000);
    put_bytes(f, "empty", 0);
    WRITE_OK(f, "run.update",
             "{'run':'" RUN_A "','state':'completed','summary':{'s':1},'manifest':{'m':{}}}");
    for (int i = 0; i < 120; i++) { /* enough for trees of several pages */
        (void)snprintf(text, sizeof text,
                       "{'run':'01J8BBBBBBBBBBBBBBBBBBB%03d','experiment':'e2','params':{'n':%d}}",
                       i, i);
        WRITE_OK(f, "run.create", text);
    }
    WRITE_OK(f, "run.create", "{'run':'" RUN_B "','experiment':'e2','name':'b'}");
    WRITE_OK(f, "sweep.update", "{'sweep':'" SWEEP "','state':'completed','summary':{'x':1}}");
    WRITE_OK(f, "model.promote",
             "{'name':'m','run':'" RUN_A "','alias':'live','actor':'me','card':{'c':1}}");
    WRITE_OK(f, "model.alias", "{'name':'m','alias':'old','version':1,'actor':'me'}");
}

/* ---- asked ---- */

static enum status ask(struct fixture *f, size_t i, struct digest *out) {
    enum status st = fixture_read(f, questions[i][0], questions[i][1]);
    struct buf all = BUF_INIT((size_t)64 << 20);
    struct err err;
    if (st == STATUS_OK) {
        assert_int_equal(json_dump(f->reply, JSON_COMPACT, &all, &err), STATUS_OK);
        buf_add(&all, f->bytes.data, f->bytes.len);
        hash_bytes(all.data, all.len, out);
    }
    buf_release(&all);
    return st;
}

/* ---- damaged ---- */

static const char *const files[] = {"meta/data.mdb", "blobs/data.mdb"};

struct whole {
    struct buf bytes[2]; /* of the files, undamaged */
};

static void path_of(const struct fixture *f, size_t i, char out[128]) {
    (void)snprintf(out, 128, "%.40s/%s", f->dir, files[i]);
}

static void put_back(struct fixture *f, const struct whole *w) {
    char path[128];
    for (size_t i = 0; i < 2; i++) {
        path_of(f, i, path);
        int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, w->bytes[i].data, w->bytes[i].len), (ssize_t)w->bytes[i].len);
        (void)close(fd);
    }
}

static void write_at(int fd, const void *bytes, size_t len, uint64_t at) {
    assert_int_equal(pwrite(fd, bytes, len, (off_t)at), (ssize_t)len);
}

static const char *damage(const char *path, uint64_t *random) {
    uint8_t page[4096] = {0}, byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat sb;
    assert_true(fd >= 0 && fstat(fd, &sb) == 0);
    uint64_t size = (uint64_t)sb.st_size, pages = size / sizeof page;
    uint64_t at = random_next(random) % size, place = random_next(random) % pages * sizeof page;
    const char *what = "";
    switch (random_next(random) % 6) {
    case 0:
    case 1:
        what = "a flipped bit";
        assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
        byte ^= (uint8_t)(1u << random_next(random) % 8);
        write_at(fd, &byte, 1, at);
        break;
    case 2:
        what = "other bytes";
        for (size_t i = 0; i < 16; i++)
            page[i] = (uint8_t)random_next(random);
        write_at(fd, page, at + 16 > size ? (size_t)(size - at) : 16, at);
        break;
    case 3:
        what = "a zeroed page";
        write_at(fd, page, sizeof page, place);
        break;
    case 4:
        what = "a page of another place";
        at = random_next(random) % pages * sizeof page;
        assert_int_equal(pread(fd, page, sizeof page, (off_t)at), (ssize_t)sizeof page);
        write_at(fd, page, sizeof page, place);
        break;
    default:
        what = "a truncated file";
        assert_int_equal(ftruncate(fd, (off_t)at), 0);
    }
    (void)close(fd);
    return what;
}

/* 0: every answer is the old one or an error. Else the number of a question, or 100: it could not be
 * opened and that is no fault. In a process of its own, for it may crash. */
static int try_store(struct fixture *f, const struct answers *before) {
    if (store_open(f->dir, &f->options, &f->s, &f->err) != STATUS_OK)
        return 100;
    int wrong = 0;
    for (size_t i = 0; i < QUESTIONS && wrong == 0; i++) {
        struct digest d;
        arena_clear(&f->a);
        if (ask(f, i, &d) == STATUS_OK && memcmp(&d, &before->said[i], sizeof d) != 0)
            wrong = (int)i + 1;
    }
    return wrong;
}

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text != NULL ? strtol(text, NULL, 10) : otherwise;
}

struct tally {
    int refused, answered;
};

static void one_case(struct fixture *f, const struct answers *before, uint64_t seed,
                     struct tally *tally) {
    char to[128];
    uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    path_of(f, random_next(&random) % 8 == 0, to);
    const char *what = damage(to, &random);
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(try_store(f, before));
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == 100 || code == 6)
        tally->refused++;
    else if (code == 0)
        tally->answered++;
    else if (code < 0)
        fail_msg("seed %llu (%s in %s): killed by signal %d", (unsigned long long)seed, what, to,
                 WTERMSIG(status));
    else
        fail_msg("seed %llu (%s in %s): a wrong answer to %s %s", (unsigned long long)seed, what,
                 to, questions[code - 1][0], questions[code - 1][1]);
}

static void damaged_stores_never_answer_wrongly(void **state) {
    (void)state;
    struct fixture *f = calloc(1, sizeof *f);
    struct answers before;
    struct tally tally = {0};
    char text[128];
    struct whole w;
    fixture_init(f);
    fill(f);
    fixture_reopen(f);
    for (size_t i = 0; i < QUESTIONS; i++)
        if (ask(f, i, &before.said[i]) != STATUS_OK && strcmp(questions[i][0], "run.resolve") != 0)
            fail_msg("%s %s: %s", questions[i][0], questions[i][1], f->err.text);
    store_close(&f->s);
    for (size_t i = 0; i < 2; i++) {
        path_of(f, i, text);
        buf_init(&w.bytes[i], (size_t)64 << 20);
        assert_int_equal(path_read(text, &w.bytes[i], &f->err), STATUS_OK);
    }
    long cases = setting("TRIREME_DAMAGE", CASES_DEFAULT), seed = setting("TRIREME_SEED", 1);
    for (long i = 0; i < cases; i++) {
        put_back(f, &w);
        one_case(f, &before, (uint64_t)(seed + i), &tally);
    }
    printf(
        "result: %ld seeded flips, truncations, zeroed pages (seed %ld): %d refused, %d answered "
        "as before, none wrongly\n",
        cases, seed, tally.refused, tally.answered);
    for (size_t i = 0; i < 2; i++)
        buf_release(&w.bytes[i]);
    fixture_release(f);
    free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_stores_never_answer_wrongly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
