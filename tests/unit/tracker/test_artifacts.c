/* Artifacts: in chunks, resumed, verified, shared, removed; in LMDB and as files. */
#include "tests/unit/tracker/store_fixture.h"

#include <sys/stat.h>

#include "tracker/ops/store_private.h"

#define BYTES (2 * STORE_CHUNK + 12345)

struct world {
    struct fixture f;
    char dir[96]; /* of artifact files; "" for LMDB */
    uint8_t *data;
    char hex[DIGEST_HEX];
};

static void digest_text(const void *bytes, size_t len, char out[DIGEST_HEX]) {
    struct digest d;
    hash_bytes(bytes, len, &d);
    hash_hex(&d, out);
}

static int setup_world(void **state, bool files) {
    struct world *w = calloc(1, sizeof *w);
    fixture_init(&w->f);
    if (files) {
        (void)snprintf(w->dir, sizeof w->dir, "%s/artifacts", w->f.dir);
        w->f.options.artifact_dir = w->dir;
        fixture_reopen(&w->f);
    }
    fixture_run(&w->f, RUN_A);
    fixture_run(&w->f, RUN_B);
    w->data = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++)
        w->data[i] = (uint8_t)(i * 2654435761u >> 13);
    digest_text(w->data, BYTES, w->hex);
    *state = w;
    return 0;
}

static int setup(void **state) {
    return setup_world(state, false);
}

static int setup_files(void **state) {
    return setup_world(state, true);
}

static int teardown(void **state) {
    struct world *w = *state;
    fixture_release(&w->f);
    free(w->data);
    free(w);
    return 0;
}

static enum status begin(struct world *w, const char *run, const char *path, size_t size) {
    char text[400];
    (void)snprintf(text, sizeof text,
                   "{'run':'%s','path':'%s','size':%zu,'digest':'%s','meta':{'k':1}}", run, path,
                   size, w->hex);
    return fixture_write(&w->f, "artifact.begin", text, NULL, 0);
}

static enum status chunk(struct world *w, size_t offset, size_t len) {
    char text[200];
    (void)snprintf(text, sizeof text, "{'digest':'%s','offset':%zu}", w->hex, offset);
    struct net_frame frame = {w->data + offset, len};
    return fixture_write(&w->f, "artifact.chunk", text, &frame, 1);
}

static enum status commit(struct world *w, const char *run, const char *path) {
    char text[300];
    (void)snprintf(text, sizeof text, "{'run':'%s','path':'%s','digest':'%s'}", run, path, w->hex);
    return fixture_write(&w->f, "artifact.commit", text, NULL, 0);
}

static void upload(struct world *w, const char *run, const char *path) {
    assert_int_equal(begin(w, run, path, BYTES), STATUS_OK);
    assert_false(value_get_bool(w->f.reply, "complete", true));
    for (size_t at = 0; at < BYTES; at += STORE_CHUNK)
        assert_int_equal(chunk(w, at, BYTES - at < STORE_CHUNK ? BYTES - at : STORE_CHUNK),
                         STATUS_OK);
    assert_int_equal(value_get_int(w->f.reply, "offset", 0), BYTES);
    assert_int_equal(commit(w, run, path), STATUS_OK);
}

static enum status get(struct world *w, const char *run, const char *path, size_t offset,
                       size_t length) {
    char text[300];
    (void)snprintf(text, sizeof text, "{'run':'%s','path':'%s','offset':%zu,'length':%zu}", run,
                   path, offset, length);
    return fixture_read(&w->f, "artifact.get", text);
}

static void compare(struct world *w, const char *run, const char *path) {
    static const size_t ranges[][2] = {{0, BYTES}, {5, 10}, {STORE_CHUNK - 3, 7}, {BYTES - 1, 99}};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(get(w, run, path, ranges[i][0], ranges[i][1]), STATUS_OK);
        size_t rest = BYTES - ranges[i][0];
        assert_int_equal(w->f.frame_lens[0], ranges[i][1] < rest ? ranges[i][1] : rest);
        assert_memory_equal(w->f.bytes.data, w->data + ranges[i][0], w->f.frame_lens[0]);
    }
    assert_int_equal(value_get_int(w->f.reply, "size", 0), BYTES);
    assert_string_equal(value_get_string(w->f.reply, "digest", ""), w->hex);
}

static void put_and_get(void **state) {
    struct world *w = *state;
    upload(w, RUN_A, "ck/weights.safetensors");
    compare(w, RUN_A, "ck/weights.safetensors");
    fixture_reopen(&w->f);
    compare(w, RUN_A, "ck/weights.safetensors");
    READ_OK(&w->f, "run.get", "{'run':'" RUN_A "'}");
    struct value *list = value_get(value_get(w->f.reply, "run"), "artifacts");
    assert_int_equal(list->count, 1);
    assert_string_equal(value_get_string(list->items[0], "path", ""), "ck/weights.safetensors");
    assert_int_equal(value_get_int(list->items[0], "size", 0), BYTES);
    assert_int_equal(get(w, RUN_A, "ck/weights.safetensors", BYTES + 1, 1), STATUS_INVALID);
    assert_int_equal(get(w, RUN_A, "other", 0, 1), STATUS_NOT_FOUND);
    /* a second path costs no bytes */
    assert_int_equal(begin(w, RUN_B, "copy", BYTES), STATUS_OK);
    assert_true(value_get_bool(w->f.reply, "complete", false));
    assert_int_equal(commit(w, RUN_B, "copy"), STATUS_OK);
    compare(w, RUN_B, "copy");
}

static void resumed(void **state) {
    struct world *w = *state;
    assert_int_equal(begin(w, RUN_A, "w", BYTES), STATUS_OK);
    assert_int_equal(chunk(w, 0, STORE_CHUNK), STATUS_OK);
    assert_int_equal(chunk(w, 2 * STORE_CHUNK, 12345), STATUS_CONFLICT); /* a gap */
    assert_int_equal(commit(w, RUN_A, "w"), STATUS_CONFLICT);            /* not whole */
    assert_int_equal(get(w, RUN_A, "w", 0, 1), STATUS_NOT_FOUND);
    fixture_reopen(&w->f); /* the running digest is lost with the process */
    assert_int_equal(begin(w, RUN_A, "w", BYTES), STATUS_OK);
    assert_int_equal(value_get_int(w->f.reply, "offset", 0), STORE_CHUNK);
    assert_int_equal(chunk(w, 0, STORE_CHUNK), STATUS_OK); /* known already */
    assert_int_equal(value_get_int(w->f.reply, "offset", 0), STORE_CHUNK);
    assert_int_equal(chunk(w, STORE_CHUNK, 77), STATUS_INVALID);
    assert_int_equal(chunk(w, STORE_CHUNK + 1, STORE_CHUNK), STATUS_INVALID);
    assert_int_equal(chunk(w, STORE_CHUNK, STORE_CHUNK), STATUS_OK);
    assert_int_equal(chunk(w, 2 * STORE_CHUNK, 12345), STATUS_OK);
    assert_int_equal(commit(w, RUN_A, "w"), STATUS_OK);
    compare(w, RUN_A, "w");
}

static void aborted_transactions_do_not_count(void **state) {
    struct world *w = *state;
    char text[200];
    assert_int_equal(begin(w, RUN_A, "w", BYTES), STATUS_OK);
    (void)snprintf(text, sizeof text, "{'digest':'%s','offset':0}", w->hex);
    struct net_frame frame = {w->data, STORE_CHUNK};
    assert_int_equal(store_begin(w->f.s, &w->f.err), STATUS_OK);
    assert_int_equal(fixture_apply(&w->f, "artifact.chunk", text, &frame, 1), STATUS_OK);
    store_abort(w->f.s);
    upload(w, RUN_A, "w");
    compare(w, RUN_A, "w");
}

static void wrong_bytes(void **state) {
    struct world *w = *state;
    assert_int_equal(begin(w, RUN_A, "w", BYTES), STATUS_OK);
    assert_int_equal(chunk(w, 0, STORE_CHUNK), STATUS_OK);
    w->data[STORE_CHUNK + 5] ^= 1;
    assert_int_equal(chunk(w, STORE_CHUNK, STORE_CHUNK), STATUS_OK);
    w->data[STORE_CHUNK + 5] ^= 1;
    assert_int_equal(chunk(w, 2 * STORE_CHUNK, 12345), STATUS_OK);
    assert_int_equal(commit(w, RUN_A, "w"), STATUS_CORRUPT);
    assert_int_equal(commit(w, RUN_A, "w"), STATUS_NOT_FOUND); /* forgotten: begin again */
    assert_int_equal(begin(w, RUN_A, "w", BYTES + 1), STATUS_OK);
    assert_int_equal(begin(w, RUN_A, "w", BYTES), STATUS_INVALID); /* one digest, two sizes */
    assert_int_equal(begin(w, RUN_A, "../w", BYTES), STATUS_INVALID);
    assert_int_equal(begin(w, RUN_A, "/w", BYTES), STATUS_INVALID);
    assert_int_equal(begin(w, RUN_A, "a//w", BYTES), STATUS_INVALID);
    assert_int_equal(begin(w, "01J8AAAAAAAAAAAAAAAAAAAAZZ", "w", BYTES), STATUS_NOT_FOUND);
}

static void again_after_wrong_bytes(void **state) {
    struct world *w = *state;
    assert_int_equal(begin(w, RUN_A, "w", BYTES), STATUS_OK);
    for (size_t at = 0; at < BYTES; at += STORE_CHUNK) {
        w->data[at] ^= 1;
        assert_int_equal(chunk(w, at, BYTES - at < STORE_CHUNK ? BYTES - at : STORE_CHUNK),
                         STATUS_OK);
        w->data[at] ^= 1;
    }
    assert_int_equal(commit(w, RUN_A, "w"), STATUS_CORRUPT);
    upload(w, RUN_A, "w");
    compare(w, RUN_A, "w");
}

static void empty(void **state) {
    struct world *w = *state;
    digest_text("", 0, w->hex);
    assert_int_equal(begin(w, RUN_A, "none", 0), STATUS_OK);
    assert_int_equal(commit(w, RUN_A, "none"), STATUS_OK);
    assert_int_equal(get(w, RUN_A, "none", 0, 10), STATUS_OK);
    assert_int_equal(w->f.frame_lens[0], 0);
    assert_int_equal(w->f.frame_count, 1);
}

static uint64_t blob_entries(struct world *w) {
    /* What is left is seen by what a fresh begin says. */
    assert_int_equal(begin(w, RUN_A, "probe", BYTES), STATUS_OK);
    return (uint64_t)value_get_int(w->f.reply, "offset", 0);
}

static void removed(void **state) {
    struct world *w = *state;
    upload(w, RUN_A, "w");
    assert_int_equal(begin(w, RUN_B, "w", BYTES), STATUS_OK);
    assert_int_equal(commit(w, RUN_B, "w"), STATUS_OK);
    WRITE_OK(&w->f, "artifact.delete", "{'run':'" RUN_A "','path':'w'}");
    WRITE_FAILS(&w->f, STATUS_NOT_FOUND, "artifact.delete", "{'run':'" RUN_A "','path':'w'}");
    w->f.now_ns += 48 * 3600 * NS_PER_S;
    assert_int_equal(store_maintain(w->f.s, &w->f.err), STATUS_OK);
    compare(w, RUN_B, "w"); /* still referred to */
    WRITE_OK(&w->f, "artifact.delete", "{'run':'" RUN_B "','path':'w'}");
    assert_int_equal(get(w, RUN_B, "w", 0, 1), STATUS_NOT_FOUND);
    assert_int_equal(store_maintain(w->f.s, &w->f.err), STATUS_OK);
    assert_int_equal(blob_entries(w), 0);
    upload(w, RUN_A, "w");
    compare(w, RUN_A, "w");
}

static void replaced(void **state) {
    struct world *w = *state;
    upload(w, RUN_A, "w");
    assert_int_equal(commit(w, RUN_A, "w"), STATUS_OK); /* the same again */
    w->data[0] ^= 1;
    digest_text(w->data, BYTES, w->hex);
    upload(w, RUN_A, "w");
    compare(w, RUN_A, "w");
    w->f.now_ns += 48 * 3600 * NS_PER_S;
    assert_int_equal(store_maintain(w->f.s, &w->f.err), STATUS_OK);
    compare(w, RUN_A, "w");
    w->data[0] ^= 1;
    digest_text(w->data, BYTES, w->hex);
    assert_int_equal(blob_entries(w), 0); /* the old bytes went */
}

static void abandoned(void **state) {
    struct world *w = *state;
    assert_int_equal(begin(w, RUN_A, "w", BYTES), STATUS_OK);
    assert_int_equal(chunk(w, 0, STORE_CHUNK), STATUS_OK);
    w->f.now_ns += 23 * 3600 * NS_PER_S;
    assert_int_equal(store_maintain(w->f.s, &w->f.err), STATUS_OK);
    assert_int_equal(blob_entries(w), STORE_CHUNK);
    w->f.now_ns += 25 * 3600 * NS_PER_S;
    assert_int_equal(store_maintain(w->f.s, &w->f.err), STATUS_OK);
    assert_int_equal(blob_entries(w), 0);
}

static size_t chunks_in_lmdb(struct world *w) {
    struct kv_txn t;
    struct kv_cursor c;
    size_t n = 0;
    assert_int_equal(kv_begin(w->f.s->blobs_kv, NULL, false, &t, &w->f.err), STATUS_OK);
    assert_int_equal(kv_cursor_open(&t, &c, &w->f.err), STATUS_OK);
    enum status st = kv_seek(&c, (struct kv_bytes){"", 1}, &w->f.err);
    for (; st == STATUS_OK && c.key.data != NULL; st = kv_next(&c, &w->f.err))
        n += c.key.len == DIGEST_BYTES + 8;
    kv_cursor_close(&c);
    kv_abort(&t);
    return n;
}

/* The bytes are durable, the reference is not: they go with the next maintenance. */
static void crash_between_the_commits(void **state) {
    struct world *w = *state;
    char text[300];
    struct net_frame frame = {w->data, STORE_CHUNK};
    assert_int_equal(store_begin(w->f.s, &w->f.err), STATUS_OK);
    (void)snprintf(text, sizeof text, "{'run':'" RUN_A "','path':'w','size':%zu,'digest':'%s'}",
                   (size_t)BYTES, w->hex);
    assert_int_equal(fixture_apply(&w->f, "artifact.begin", text, NULL, 0), STATUS_OK);
    (void)snprintf(text, sizeof text, "{'digest':'%s','offset':0}", w->hex);
    assert_int_equal(fixture_apply(&w->f, "artifact.chunk", text, &frame, 1), STATUS_OK);
    assert_int_equal(blobs_sync(&w->f.s->blobs, &w->f.err), STATUS_OK);
    store_abort(w->f.s);
    assert_int_equal(chunks_in_lmdb(w), 1);
    fixture_reopen(&w->f);
    assert_int_equal(begin(w, RUN_A, "w", BYTES), STATUS_OK);
    assert_int_equal(value_get_int(w->f.reply, "offset", -1), 0);
    assert_int_equal(store_maintain(w->f.s, &w->f.err), STATUS_OK);
    assert_int_equal(chunks_in_lmdb(w), 1); /* somebody has begun it again */
    w->f.now_ns += 48 * 3600 * NS_PER_S;
    assert_int_equal(store_maintain(w->f.s, &w->f.err), STATUS_OK);
    assert_int_equal(chunks_in_lmdb(w), 0);
}

static enum status write_chunk(struct world *w, const struct digest *d, uint64_t number,
                               struct kv_bytes bytes) {
    return blobs_write(&w->f.s->blobs, (struct blob_chunk){d, number}, bytes, &w->f.err);
}

static void orphans_go(void **state) {
    struct world *w = *state;
    struct digest d = {{7}};
    upload(w, RUN_A, "w");
    assert_int_equal(store_begin(w->f.s, &w->f.err), STATUS_OK);
    assert_int_equal(write_chunk(w, &d, 0, (struct kv_bytes){w->data, 1000}), STATUS_OK);
    memset(&d, 0xff, sizeof d); /* the last digest there is */
    assert_int_equal(write_chunk(w, &d, 5, (struct kv_bytes){w->data, 1000}), STATUS_OK);
    assert_int_equal(blobs_sync(&w->f.s->blobs, &w->f.err), STATUS_OK);
    store_abort(w->f.s);
    assert_int_equal(chunks_in_lmdb(w), 5);
    fixture_reopen(&w->f);
    assert_int_equal(store_maintain(w->f.s, &w->f.err), STATUS_OK);
    assert_int_equal(chunks_in_lmdb(w), 3);
    compare(w, RUN_A, "w");
}

/* A bit that turned on the disk is found when it is read. */
static void damaged_chunk(void **state) {
    struct world *w = *state;
    struct digest d;
    upload(w, RUN_A, "w");
    assert_int_equal(hash_parse(w->hex, 64, &d, &w->f.err), STATUS_OK);
    assert_int_equal(store_begin(w->f.s, &w->f.err), STATUS_OK);
    w->data[STORE_CHUNK + 9] ^= 4;
    assert_int_equal(write_chunk(w, &d, 1, (struct kv_bytes){w->data + STORE_CHUNK, STORE_CHUNK}),
                     STATUS_OK);
    assert_int_equal(store_commit(w->f.s, &w->f.err), STATUS_OK);
    assert_int_equal(get(w, RUN_A, "w", STORE_CHUNK, 1), STATUS_CORRUPT);
    assert_non_null(strstr(w->f.err.text, w->hex));
    assert_int_equal(get(w, RUN_A, "w", 0, 100), STATUS_OK);
}

static void lost_file_comes_again(void **state) {
    struct world *w = *state;
    char path[300];
    upload(w, RUN_A, "w");
    (void)snprintf(path, sizeof path, "%s/%.2s/%s", w->dir, w->hex, w->hex);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(get(w, RUN_A, "w", 0, 1), STATUS_NOT_FOUND);
    upload(w, RUN_A, "w");
    compare(w, RUN_A, "w");
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    (void)fputc(w->data[0] ^ 1, file);
    (void)fclose(file);
    assert_int_equal(get(w, RUN_A, "w", 0, 1), STATUS_CORRUPT);
    assert_int_equal(get(w, RUN_A, "w", STORE_CHUNK, 1), STATUS_OK); /* another chunk */
    w->f.options.artifact_dir = NULL;
    fixture_reopen(&w->f);
    assert_int_equal(get(w, RUN_A, "w", 0, 1), STATUS_UNAVAILABLE);
}

int main(void) {
#define LMDB(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define FILES(fn)                                                                                  \
    { "files: " #fn, fn, setup_files, teardown, NULL }
    const struct CMUnitTest tests[] = {
        LMDB(put_and_get),
        LMDB(resumed),
        LMDB(aborted_transactions_do_not_count),
        LMDB(wrong_bytes),
        LMDB(again_after_wrong_bytes),
        LMDB(empty),
        LMDB(removed),
        LMDB(replaced),
        LMDB(abandoned),
        LMDB(crash_between_the_commits),
        LMDB(orphans_go),
        LMDB(damaged_chunk),
        FILES(put_and_get),
        FILES(resumed),
        FILES(aborted_transactions_do_not_count),
        FILES(wrong_bytes),
        FILES(again_after_wrong_bytes),
        FILES(empty),
        FILES(removed),
        FILES(replaced),
        FILES(abandoned),
        FILES(lost_file_comes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
