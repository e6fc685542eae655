/* What leaves with a model: card, example row with its answer, weights, registration. One run on a server in a thread; the
 * answers were worked out by hand. */
#include <stdio.h>
#include <stdlib.h>

#include "core/version.h"
#include "serving/export/card.h"
#include "serving/export/example.h"
#include "serving/export/export.h"
#include "serving/export/handoff.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/peer.h"

#define RUN  "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define DATA "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"
#define LAST "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define BEST "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define INPUTS                                                                                     \
    "[{'name':'colour','kind':'words','first':0,'count':2,'words':['red','blue'],'example':"       \
    "'blue'},{'name':'a','kind':'number','first':2,'count':1,'example':4.25},"                     \
    "{'name':'b','kind':'number','first':3,'count':1}]"
#define OUTPUTS    "{'name':'y','kind':'classes','classes':['no','yes']}"
#define TRANSFORMS "[{'normalize':{'mean':[0.5,0.5,3,7.5],'std':[0.5,1,2,4]}}]"
#define LAYERS     "[{'dense':{'out':2}}]"
#define RECORD                                                                                     \
    "{'run':'" RUN "','experiment':'exp','state':'completed','config':{'language':3,'metric_of':"  \
    "'best','model':" LAYERS ",'training':{'loss':'cross_entropy'}},'manifest':{'data':{"          \
    "'shape':[4],'digest':'" DATA "','classes':2,'class_names':['no','yes'],'inputs':" INPUTS      \
    ",'outputs':" OUTPUTS ",'transforms':" TRANSFORMS "}},'metrics':["                             \
    "{'key':'val_loss','rank':0,'last':0.75},{'key':'val_error','rank':0,'last':0.25},"            \
    "{'key':'late','rank':0,'last':9.0},{'key':'val_loss','rank':1,'last':8.0}],'artifacts':["     \
    "{'path':'model.safetensors'},{'path':'best.safetensors'}],'summary':{'steps':40,"             \
    "'weights_digest':'" LAST "','metrics':{'val_error':0.25},'replay':{'verdict':'exact'},"       \
    "'best':{'step':30,'metric':'val_error','value':0.125,'weights_digest':'" BEST "'}}}"

struct fixture {
    struct peer peer;
    struct net *net;
    struct session *session;
    struct arena arena;
    char last[DIGEST_HEX], best[DIGEST_HEX]; /* of the files */
    size_t size;
};

/* ' for " */
static struct value *parse(struct arena *a, const char *text) {
    struct value *v = NULL;
    struct err err;
    char *t = arena_strdup(a, text);
    for (char *c = t; *c != '\0'; c++)
        *c = *c == '\'' ? '"' : *c;
    if (json_parse(a, t, strlen(t), "test", &v, &err) != STATUS_OK)
        fail_msg("%s: %s", err.text, text);
    return v;
}

static void must(enum status st, const struct err *err) {
    if (st != STATUS_OK)
        fail_msg("%s: %s", status_name(st), err->text);
}

static void same(struct fixture *f, const struct value *have, const char *want) {
    struct buf text = BUF_INIT(1 << 20), wanted = BUF_INIT(1 << 20);
    assert_int_equal(json_dump(have, JSON_COMPACT, &text, NULL), STATUS_OK);
    assert_int_equal(json_dump(parse(&f->arena, want), JSON_COMPACT, &wanted, NULL), STATUS_OK);
    if (strcmp(buf_text(&text), buf_text(&wanted)) != 0) {
        (void)fprintf(stderr, "have %s\nwant %s\n", buf_text(&text), buf_text(&wanted));
        fail();
    }
    buf_release(&text);
    buf_release(&wanted);
}

static enum status answer(void *arg, const char *op, const struct value *request, struct arena *a,
                          struct value *reply, struct err *why) {
    (void)arg;
    if (strcmp(op, "run.resolve") == 0) {
        if (strncmp(RUN, value_get_string(request, "prefix", "?"), 6) != 0)
            return err_set(why, STATUS_NOT_FOUND, "no such run");
        value_set_string(a, reply, "resolved", RUN);
    } else if (strcmp(op, "model.promote") == 0) {
        value_set_string(a, reply, "name", "digits");
        value_set_int(a, reply, "version", 3);
        value_set_string(a, reply, "audit", "01ARZ3NDEKTSV4RRFFQ69G5FAZ");
    }
    return STATUS_OK;
}

/* Weights `first`, first + 1, … and biases 0.5 and 1. */
static void put_weights(struct fixture *f, const char *path, float first, char hex[DIGEST_HEX]) {
    static const float biases[] = {0.5F, 1};
    float w[8];
    struct buf bytes = BUF_INIT(1 << 20);
    struct digest d;
    struct err err;
    for (int i = 0; i < 8; i++)
        w[i] = first + (float)i;
    struct tensor list[] = {{.name = "0.weight",
                             .dtype = TENSOR_F32,
                             .dims = 2,
                             .dim = {2, 4},
                             .data = w,
                             .bytes = sizeof w},
                            {.name = "0.bias",
                             .dtype = TENSOR_F32,
                             .dims = 1,
                             .dim = {2},
                             .data = biases,
                             .bytes = sizeof biases}};
    must(safetensors_write(&bytes, list, 2, NULL, &err), &err);
    peer_put(&f->peer, RUN, path, bytes.data, bytes.len);
    hash_bytes(bytes.data, bytes.len, &d);
    hash_hex(&d, hex);
    f->size = bytes.len;
    buf_release(&bytes);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};
    arena_init(&f->arena, (size_t)16 << 20);
    if (peer_open(&f->peer) != 0)
        return -1;
    peer_lock(&f->peer);
    f->peer.answer = answer;
    put_weights(f, "model.safetensors", 1, f->last);
    put_weights(f, "best.safetensors", 10, f->best);
    f->peer.series[0] = (struct peer_series){RUN, "val_loss", {20, 30, 40}, {0.5, 0.625, 0.75}, 3};
    f->peer.series[1] = (struct peer_series){RUN, "val_error", {29, 30, 40}, {0.5, 0.126, 0.25}, 3};
    f->peer.series[2] = (struct peer_series){RUN, "late", {29, 31}, {1, 9}, 2};
    value_set(&f->peer.arena, f->peer.runs, RUN, parse(&f->peer.arena, RECORD));
    peer_unlock(&f->peer);
    struct session_options o = {.endpoint = f->peer.endpoint, .clock = &clock_system};
    must(net_new(&f->net, &err), &err);
    must(session_open(f->net, &o, &f->session, &err), &err);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    (void)session_close(&f->session, 0, NULL);
    net_destroy(&f->net);
    peer_close(&f->peer);
    assert_string_equal(f->peer.bad.text, "");
    arena_release(&f->arena);
    free(f);
    return 0;
}

static void record(struct fixture *f, const char *path, const char *key, const char *value) {
    peer_lock(&f->peer);
    struct value *v = value_get(f->peer.runs, RUN);
    struct value *at = path[0] != '\0' ? (struct value *)(uintptr_t)value_at(v, path) : v;
    if (value != NULL)
        value_set(&f->peer.arena, at, key, parse(&f->peer.arena, value));
    else
        value_remove(at, key);
    peer_unlock(&f->peer);
}

static void load(struct fixture *f, const char *what, struct handoff *h) {
    struct err err = {0};
    must(handoff_load(f->session, &(struct handoff_ask){.what = what}, h, &err), &err);
}

/* ---- the example ---- */

#define ROW "'row':{'colour':'blue','a':4.25,'b':7.5},"
#define REQUEST(type, data)                                                                        \
    "'request':{'inputs':[{'name':'input','datatype':'" type "','shape':[1,4],'data':" data "}]},"
#define ABOUT "{'about':'how an input row is built, and the model\\u0027s answer to it',"

static void example_is(struct fixture *f, const char *what, const char *want) {
    struct handoff h;
    struct value *v = NULL;
    struct err err = {0};
    load(f, what, &h);
    must(example_make(&h, &v, &err), &err);
    same(f, v, want);
    handoff_release(&h);
}

static void test_example(void **state) {
    struct fixture *f = *state;
    example_is(f, RUN ":last",
               ABOUT ROW REQUEST(
                   "FP32", "[0.0,1.0,4.25,7.5]") "'answer':{'logits':[2.375,3.375],'probabilities':"
                                                 "[0.2689414213699951,0.7310585786300049],"
                                                 "'class':1,'name':'yes'},'tolerance':0.0001}");
    /* The best weights are 10, 11, …: −10 + 5.5 + 7.5 + 0.5, and −14 + 7.5 + 10 + 1. */
    record(f, "config.training", "loss", "'mse'");
    example_is(f, RUN,
               ABOUT ROW REQUEST("FP32", "[0.0,1.0,4.25,7.5]") "'answer':{'prediction':[3.5,4.5]},"
                                                               "'tolerance':0.0001}");
    record(f, "manifest.data", "inputs", NULL);
    example_is(f, RUN,
               ABOUT "'row':'unknown: the run does not name its columns'," REQUEST(
                   "FP32", "[0.5,0.5,3.0,7.5]") "'answer':{'prediction':[0.5,1.0]},"
                                                "'tolerance':0.0001}");
    record(f, "manifest.data", "inputs",
           "[{'name':'image','kind':'pixels','first':0,'count':4},{'name':'x','kind':'number',"
           "'first':4,'count':1},{'name':'z','kind':'words','first':3,'count':2,'words':['p']}]");
    record(f, "manifest.data", "transforms", "[]"); /* 0, 37, 74, 111 */
    example_is(f, RUN,
               ABOUT "'row':'pixels, or numbers without names: see the request'," REQUEST(
                   "FP32", "[0.0,37.0,74.0,111.0]") "'answer':{'prediction':[2738.5,3627.0]},"
                                                    "'tolerance':0.0001}");
    record(f, "manifest.data", "inputs",
           "[{'name':'c','kind':'words','first':1,'count':3,'words':['p','q','r'],'example':'s'}]");
    record(f, "manifest.data", "transforms", "[{'shift':-1700000000.5}]");
    struct handoff h;
    struct value *v = NULL;
    struct err err = {0};
    load(f, RUN, &h);
    must(example_make(&h, &v, &err), &err);
    same(f, value_get(v, "row"), "{'c':'p'}");
    same(f, value_get(v, "request"),
         "{'inputs':[{'name':'input','datatype':'FP64','shape':[1,4],'data':[1.0,1.0,0.0,0.0]}]}");
    handoff_release(&h);
}

/* ---- the card ---- */

static void card_is(struct fixture *f, const char *what, const char *which, const char *digest,
                    const char *metrics) {
    struct handoff h;
    struct value *v = NULL;
    struct err err = {0};
    struct card_file onnx = {.path = "model.onnx", .len = 77};
    load(f, what, &h);
    must(card_make(f->session, &h, &onnx, &v, &err), &err);
    same(f, v,
         arena_printf(&f->arena,
                      "{'format':1,'run':'" RUN "','experiment':'exp','model':" LAYERS
                      ",%s'weights':{'path':'%s.safetensors','digest':'%s','size':%zu},"
                      "'weights_digest':'%s','onnx':{'path':'model.onnx','digest':'%064d',"
                      "'size':77},'signature':{'inputs':[{'name':'input','dtype':'float32',"
                      "'shape':['N',4]}],'outputs':[{'name':'logits','dtype':'float32','shape':"
                      "['N',2]},{'name':'probabilities','dtype':'float32','shape':['N',2]}]},"
                      "'inputs':" INPUTS ",'outputs':" OUTPUTS ",'transforms':" TRANSFORMS
                      ",'classes':2,'class_names':['no','yes'],'metrics':%s,'data_digest':'" DATA
                      "','replay':{'verdict':'exact'},'trireme':{'version':'%s','build':'%s'}}",
                      which, strstr(which, "best") != NULL ? "best" : "model",
                      strstr(which, "best") != NULL ? f->best : f->last, f->size, digest, 0,
                      metrics, TRIREME_VERSION, trireme_build_id));
    handoff_release(&h);
}

static void test_card(void **state) {
    struct fixture *f = *state;
    card_is(f, RUN ":last", "'which':'last','step':40,", LAST, "{'val_error':0.25}");
    /* What the run measured at step 30, and the value that made it the best. */
    card_is(f, RUN, "'which':'best','step':30,", BEST, "{'val_loss':0.625,'val_error':0.125}");
    card_is(f, RUN ":best", "'which':'best','step':30,", BEST,
            "{'val_loss':0.625,'val_error':0.125}");
    record(f, "summary", "metrics", NULL);
    card_is(f, RUN ":last", "'which':'last','step':40,", LAST,
            "{'val_loss':0.75,'val_error':0.25,'late':9.0}");
}

/* ---- registration ---- */

static void test_promote(void **state) {
    struct fixture *f = *state;
    struct promote_request ask = {
        .run = RUN, .name = "digits@live", .actor = "me", .comment = "why not"};
    struct value *v = NULL;
    struct err err = {0};
    must(promote_run(f->session, &ask, &f->arena, &v, &err), &err);
    peer_lock(&f->peer);
    const struct value *seen = peer_last(&f->peer, "model.promote");
    assert_string_equal(value_get_string(seen, "name", ""), "digits");
    assert_string_equal(value_get_string(seen, "alias", ""), "live");
    assert_string_equal(value_get_string(seen, "run", ""), RUN);
    assert_string_equal(value_get_string(seen, "actor", ""), "me");
    assert_string_equal(value_get_string(seen, "comment", ""), "why not");
    assert_string_equal(value_at(seen, "card.weights.digest")->string, f->best);
    const struct peer_file *onnx = peer_find(&f->peer, RUN, "model.onnx", NULL);
    assert_non_null(onnx);
    assert_string_equal(value_at(seen, "card.onnx.digest")->string, onnx->digest);
    same(f, v,
         arena_printf(&f->arena,
                      "{'run':'" RUN "','name':'digits','version':3,'alias':'live','audit':"
                      "'01ARZ3NDEKTSV4RRFFQ69G5FAZ','which':'best','step':30,%s"
                      "'weights_digest':'" BEST "','file_digest':'%s','onnx_digest':'%s'}",

                      "'note':'run " RUN ": taking its best weights, of step 30 (val_error "
                      "0.125); " RUN ":last are its last weights, of step 40 (val_error 0.25)',",
                      f->best, onnx->digest));
    peer_unlock(&f->peer);
}

static void test_who_may_be_promoted(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *run, *name, *state;
        enum status status;
        const char *says;
    } rows[] = {
        {RUN, "digits", "'stopped'", STATUS_OK, ""},
        {RUN, "digits", "'running'", STATUS_CONFLICT, "it is running; only a completed or stopped"},
        {RUN, "digits", "'failed'", STATUS_CONFLICT, "it is failed; only"},
        {RUN, "digits@17", "'completed'", STATUS_INVALID, "'17' reads as a version number"},
        {RUN, "di/gits", "'completed'", STATUS_INVALID, "model's name"},
        {RUN, "digits@", "'completed'", STATUS_INVALID, "alias"},
        {RUN ":7", "digits", "'completed'", STATUS_NOT_FOUND, "step 7"},
        {"digits", "digits", "'completed'", STATUS_NOT_FOUND, "'digits' is not a run"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct promote_request ask = {.run = rows[i].run, .name = rows[i].name, .actor = "me"};
        struct value *v = NULL;
        struct err err = {0};
        record(f, "", "state", rows[i].state);
        int before = peer_count(&f->peer, "model.promote");
        enum status st = promote_run(f->session, &ask, &f->arena, &v, &err);
        if (st != rows[i].status || strstr(err.text, rows[i].says) == NULL)
            fail_msg("row %zu: %s: %s", i, status_name(st), err.text);
        assert_int_equal(peer_count(&f->peer, "model.promote") - before, st == STATUS_OK);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_example, setup, teardown),
        cmocka_unit_test_setup_teardown(test_card, setup, teardown),
        cmocka_unit_test_setup_teardown(test_promote, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_may_be_promoted, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
