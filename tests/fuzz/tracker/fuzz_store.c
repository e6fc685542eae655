/* The store under random requests that the table allows: no crash, no INTERNAL, no CORRUPT, and
 * replies that the table promises. Then with damage between the requests: no crash. Few ids and names, so that requests meet. SEED=n repeats one. */
#include "tests/unit/tracker/store_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/ulid.h"

#define ROUNDS  6000
#define DAMAGES 60

static uint64_t rng_state;
static bool any_answer;   /* damaged on purpose */
static int done, refused; /* a fuzzer that is only refused tests little */

static uint64_t rng(void) { /* splitmix64 */
    uint64_t z = rng_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static size_t below(size_t n) {
    return (size_t)(rng() % n);
}

static const char *word(void) {
    static const char *const words[] = {
        "a",        "b",
        "a/b",      "../x",
        "",         "loss",
        "e1",       "live",
        "\xc3\xa9", "very long name, but within bounds: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "*",        "x y"};
    return words[below(sizeof words / sizeof words[0])];
}

static const char *id(void) {
    static const char *const ids[] = {RUN_A, RUN_B, RUN_C, SWEEP, "01j8aaaaaaaaaaaaaaaaaaaaa1"};
    return ids[below(sizeof ids / sizeof ids[0])];
}

static struct value *anything(struct arena *a, int depth) {
    switch (below(depth > 2 ? 5 : 7)) {
    case 0:
        return value_null(a);
    case 1:
        return value_bool(a, below(2) == 0);
    case 2:
        return value_int(a, (int64_t)rng() >> below(64));
    case 3:
        return value_real(a, (double)(int64_t)rng() / 7);
    case 4:
        return value_string(a, word());
    case 5: {
        struct value *list = value_list(a);
        for (size_t i = below(4); i > 0; i--)
            value_push(a, list, anything(a, depth + 1));
        return list;
    }
    default: {
        struct value *map = value_map(a);
        for (size_t i = below(4); i > 0; i--)
            value_set(a, map, word(), anything(a, depth + 1));
        return map;
    }
    }
}

static const char *const digests[] = {
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", /* of nothing */
    "0000000000000000000000000000000000000000000000000000000000000001",
};

static struct value *choice(struct arena *a, const char *choices) {
    size_t n = 1;
    for (const char *c = choices; *c != '\0'; c++)
        n += *c == '|';
    const char *at = choices;
    for (size_t skip = below(n); skip > 0; skip--)
        at = strchr(at, '|') + 1;
    return value_bytes(a, at, strcspn(at, "|"));
}

static struct value *fields_of(struct arena *a, const struct field *fields);

static struct value *field_value(struct arena *a, const struct field *f) {
    double min = f->min < f->max ? f->min : 0, max = f->min < f->max ? f->max : 10;
    switch (f->type) {
    case FIELD_BOOL:
        return value_bool(a, below(2) == 0);
    case FIELD_INT:
        return value_int(a, below(8) == 0 ? (int64_t)max
                                          : (int64_t)min + (int64_t)below(max - min < 5 ? 1 : 5));
    case FIELD_REAL:
        return value_real(a, min);
    case FIELD_STRING:
        return value_string(a, word());
    case FIELD_ULID:
        return value_string(a, id());
    case FIELD_PREFIX:
        return value_bytes(a, id(), 1 + below(ULID_LEN));
    case FIELD_DIGEST:
        return value_string(a, digests[below(2)]);
    case FIELD_ENUM:
        return choice(a, f->choices);
    case FIELD_LIST: {
        struct value *list = value_list(a);
        for (size_t i = below(4); i > 0; i--)
            value_push(a, list, f->fields != NULL ? field_value(a, f->fields) : anything(a, 1));
        return list;
    }
    case FIELD_MAP: {
        if (f->fields != NULL)
            return fields_of(a, f->fields);
        struct value *map = value_map(a);
        for (size_t i = below(4); i > 0; i--)
            value_set(a, map, word(), anything(a, 0));
        return map;
    }
    case FIELD_ANY:
        return anything(a, 0);
    }
    return NULL;
}

static struct value *fields_of(struct arena *a, const struct field *fields) {
    struct value *map = value_map(a);
    for (const struct field *f = fields; f != NULL && f->name != NULL; f++)
        if ((f->flags & REQUIRED) != 0 || below(2) == 0)
            value_set(a, map, f->name, field_value(a, f));
    return map;
}

static const struct message_type *any_type(size_t count) {
    for (;;) {
        const struct message_type *t = &message_table(SERVER_TRACKER)[below(count)];
        if (strcmp(t->op, "hello") != 0 && strcmp(t->op, "stats") != 0)
            return t;
    }
}

/* Columns as announced, mostly; whatever else is asked for, one short frame. */
static size_t frames_for(const struct value *request, struct net_frame frames[4]) {
    static uint64_t noise[3][40000];
    const struct value *series = value_get(request, "series");
    size_t points = 0;
    for (size_t i = 0; series != NULL && i < series->count; i++)
        points += (size_t)value_get_int(series->items[i], "count", 0);
    if (points > 40000)
        points = 40000;
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < 16; k++)
            noise[i][below(40000)] = rng();
        frames[i] = (struct net_frame){noise[i], points * 8};
    }
    if (below(10) == 0)
        frames[below(3)].len = below(1000);
    if (series == NULL)
        frames[0].len = below(3) == 0 ? STORE_CHUNK / 8 : below(1000);
    return series != NULL ? 3 - (below(20) == 0) : below(3);
}

static void check(const struct fixture *f, const char *op, enum status st) {
    if (any_answer)
        return;
    if (st == STATUS_INTERNAL || st == STATUS_NOMEM || st == STATUS_IO ||
        (st == STATUS_CORRUPT && strcmp(op, "artifact.commit") != 0))
        fail_msg("%s: %s: %s", op, status_name(st), f->err.text);
}

static void one_request(struct fixture *f, size_t types) {
    const struct message_type *type = any_type(types);
    struct value *request = message_request(&f->a, type->op, "f"), *fields;
    struct net_frame frames[4];
    fields = fields_of(&f->a, type->request);
    for (size_t i = 0; i < fields->count; i++)
        value_set(&f->a, request, fields->members[i].key, fields->members[i].value);
    if (type->writes && below(4) == 0) {
        value_set_string(&f->a, request, "client", "c");
        value_set_int(&f->a, request, "seq", 1 + (int64_t)below(500));
    }
    if (type->request != NULL &&
        schema_check(type->request, fields, NULL, "", &f->err) != STATUS_OK)
        return;
    f->reply = message_reply(&f->a, "f");
    buf_clear(&f->bytes);
    struct store_request r = {.type = type, .header = request, .role = NET_ADMIN};
    if (type->writes)
        r.frames = (struct net_frames){frames, frames_for(request, frames)};
    enum status st = fixture_send(f, &r, &f->a, &f->err);
    check(f, type->op, st);
    if (st == STATUS_OK && !any_answer)
        fixture_check_reply(f, type);
    *(st == STATUS_OK ? &done : &refused) += 1;
}

static void random_requests(void **state) {
    struct fixture f;
    size_t types = 0;
    (void)state;
    while (message_table(SERVER_TRACKER)[types].op != NULL)
        types++;
    fixture_init(&f);
    for (int i = 0; i < ROUNDS; i += 20) {
        assert_int_equal(store_begin(f.s, &f.err), STATUS_OK);
        for (int k = 0; k < 20; k++) {
            one_request(&f, types);
            arena_clear(&f.a);
        }
        f.now_ns += (int64_t)below(3600) * NS_PER_S;
        if (below(10) == 0)
            store_abort(f.s);
        else
            assert_int_equal(store_commit(f.s, &f.err), STATUS_OK);
        if (below(10) == 0)
            assert_int_equal(store_maintain(f.s, &f.err), STATUS_OK);
        if (below(40) == 0)
            fixture_reopen(&f);
    }
    fixture_release(&f);
    printf("%d done, %d refused\n", done, refused);
    assert_true(done > ROUNDS / 10);
}

/* ---- damaged between requests ---- */

static const char *const halves[] = {"meta/data.mdb", "blobs/data.mdb"};

static void damage(const struct fixture *f) {
    char path[128];
    uint8_t page[4096] = {0};
    struct stat sb;
    (void)snprintf(path, sizeof path, "%.40s/%s", f->dir, halves[below(8) == 0]);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &sb) == 0 && sb.st_size > 0);
    size_t at = below((size_t)sb.st_size), len = below(3) == 0 ? sizeof page : 1 + below(8);
    if (len < sizeof page)
        for (size_t i = 0; i < len; i++)
            page[i] = (uint8_t)rng();
    else
        at -= at % sizeof page;
    if (at + len > (size_t)sb.st_size)
        len = (size_t)sb.st_size - at;
    assert_int_equal(pwrite(fd, page, len, (off_t)at), (ssize_t)len);
    (void)close(fd);
}

/* Any answer will do, but a crash. Whether answers are right is test_damage's business. */
static int use_damaged(struct fixture *f, size_t types) {
    if (store_open(f->dir, &f->options, &f->s, &f->err) != STATUS_OK)
        return 0;
    any_answer = true;
    for (int i = 0; i < 200; i += 10) {
        if (store_begin(f->s, &f->err) != STATUS_OK)
            return 0;
        for (int k = 0; k < 10; k++) {
            one_request(f, types);
            arena_clear(&f->a);
        }
        if (store_commit(f->s, &f->err) != STATUS_OK || store_maintain(f->s, &f->err) != STATUS_OK)
            return 0;
    }
    return 0;
}

static void requests_to_damaged_stores(void **state) {
    struct fixture f;
    size_t types = 0;
    (void)state;
    while (message_table(SERVER_TRACKER)[types].op != NULL)
        types++;
    for (int i = 0; i < DAMAGES; i++) {
        fixture_init(&f);
        assert_int_equal(store_begin(f.s, &f.err), STATUS_OK);
        for (int k = 0; k < 300; k++) {
            one_request(&f, types);
            arena_clear(&f.a);
        }
        assert_int_equal(store_commit(f.s, &f.err), STATUS_OK);
        store_close(&f.s);
        damage(&f);
        (void)fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            _exit(use_damaged(&f, types));
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFEXITED(status) ||
            (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != status_exit_code(STATUS_CORRUPT)))
            fail_msg("damage %d: ended with status %x", i, (unsigned)status);
        fixture_release(&f);
    }
}

int main(void) {
    const char *seed = getenv("SEED");
    rng_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    printf("SEED=%llu\n", (unsigned long long)rng_state);
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_requests),
                                       cmocka_unit_test(requests_to_damaged_stores)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
