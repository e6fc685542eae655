/* Data files of every format, whole ones broken byte by byte.
 *
 * Promises: a file gives a data set or a refusal that names it, never a crash or a huge allocation;
 * a data set has samples, finite features and labels within its classes; gathering one sample alone
 * or among others gives the same bits. */
#include <math.h>
#include <unistd.h>

#include <zlib.h>

#include "core/bytes.h"
#include "core/json.h"
#include "core/path.h"
#include "tests/fuzz/fuzz.h"
#include "worker/data/data.h"

#define FILE_CAP  ((size_t)1 << 12)
#define ARENA_CAP ((size_t)8 << 20)

static struct arena arena;
static char dir[] = "/tmp/trireme-fuzz-XXXXXX";
static char good[3][FILE_CAP], labels[3][FILE_CAP], file[FILE_CAP];
static size_t good_len[3], labels_len[3];

enum { IDX, NPY, CSV };
static const char *const names[] = {"idx", "npy", "csv"};
static const char *const words[] = {"\"",
                                    "\"\"",
                                    ",",
                                    "\r\n",
                                    "\n",
                                    "1e308",
                                    "-",
                                    "nan",
                                    "\x1f\x8b",
                                    "(2,)",
                                    "False",
                                    "True",
                                    "<f4",
                                    "|u1",
                                    "shape",
                                    "0x1",
                                    "\xff\xff\xff\xff",
                                    "red",
                                    "1",
                                    "\xef\xbb\xbf",
                                    "99999999999"};

static void write_whole(const char *name, const void *bytes, size_t len, bool gzip) {
    char path[PATH_TEXT_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    gzFile out = gzopen(path, gzip ? "wb1" : "wbT");
    if (out == NULL || gzwrite(out, bytes, (unsigned)len) != (int)len || gzclose(out) != Z_OK)
        abort();
}

static size_t npy(char *out, const char *dict, const void *data, size_t len) {
    size_t text = strlen(dict);
    memcpy(out, "\x93NUMPY\1", 8);
    bytes_put_u16(out + 8, (uint16_t)text);
    memcpy(out + 10, dict, text);
    memcpy(out + 10 + text, data, len);
    return 10 + text + len;
}

static void make_good(void) {
    static const float floats[24] = {1, 2, -3, 0.5F};
    static const int64_t classes[6] = {0, 1, 2, 0, 1, 2};
    static const char csv[] =
        "a,colour,\"y\"\n1,red,0\n2.5,\"blue, \"\"x\"\"\",1\n-3e2,red,2\n4,green,0\n";
    bytes_put_be32(good[IDX], 0x803);
    bytes_put_be32(good[IDX] + 4, 6);
    bytes_put_be32(good[IDX] + 8, 2);
    bytes_put_be32(good[IDX] + 12, 2);
    good_len[IDX] = 16 + 24;
    bytes_put_be32(labels[IDX], 0x801);
    bytes_put_be32(labels[IDX] + 4, 6);
    labels_len[IDX] = 8 + 6;
    good_len[NPY] =
        npy(good[NPY], "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 2, 2), }\n", floats,
            sizeof floats);
    labels_len[NPY] =
        npy(labels[NPY], "{'descr': '<i8', 'fortran_order': False, 'shape': (6,), }\n", classes,
            sizeof classes);
    good_len[CSV] = sizeof csv - 1;
    memcpy(good[CSV], csv, good_len[CSV]);
}

static void check(struct fuzz *f, const struct value *config) {
    struct dataset *d = NULL;
    struct err err = {0};
    struct spec_data data;
    const struct schema_source source = {.file = "fuzz",
                                         .language = fuzz_chance(f, 3) ? 2 : SPEC_LANGUAGE};
    enum status st = spec_data_read(config, source, &data, &err);
    if (st == STATUS_OK)
        st = data_load(&(struct data_request){.data = &data, .seed = f->seed}, &d, &err);
    FUZZ_CHECK(f, st == STATUS_OK || (err.text[0] != '\0' && d == NULL));
    if (st != STATUS_OK)
        return;
    const struct data_info *info = data_info(d);
    size_t width = (size_t)info->features;
    FUZZ_CHECK(f,
               info->train > 0 && info->features > 0 && (info->classes > 0) != (info->outputs > 0));
    float *x = malloc(width * 3 * sizeof *x),
          *targets = malloc(((size_t)info->outputs + 1) * 2 * sizeof *x);
    FUZZ_CHECK(f, x != NULL && targets != NULL);
    int64_t ids[2] = {info->train - 1, 0};
    int32_t label[2] = {0, 0};
    data_gather(d, DATA_TRAIN, ids, 2, &(struct data_rows){x, label, targets});
    data_gather(d, DATA_TRAIN, &ids[1], 1, &(struct data_rows){x + 2 * width, NULL, NULL});
    FUZZ_CHECK(f, memcmp(x + width, x + 2 * width, width * sizeof *x) == 0);
    for (size_t i = 0; i < 2 * width; i++)
        FUZZ_CHECK(f, isfinite(x[i]));
    struct value *about = data_describe(&arena, d);
    FUZZ_CHECK(f, about != NULL && !about->broken);
    struct buf text = BUF_INIT((size_t)1 << 20);
    FUZZ_CHECK(f, json_dump(about, JSON_CANONICAL, &text, &err) == STATUS_OK);
    buf_release(&text);
    FUZZ_CHECK(f, info->classes == 0 || (label[0] >= 0 && label[0] < info->classes));
    free(x);
    free(targets);
    data_destroy(&d);
}

static struct value *configure(struct fuzz *f, size_t format, bool more) {
    static const char *const keys[] = {"",
                                       ",\"missing\":\"mean\"",
                                       ",\"missing\":\"drop\"",
                                       ",\"missing\":0.1",
                                       ",\"exclude\":[0]",
                                       ",\"columns\":[1]",
                                       ",\"separator\":\";\",\"decimal\":\",\"",
                                       ",\"types\":{\"colour\":\"words\",\"y\":\"words\"}",
                                       ",\"types\":{\"1\":\"words\",\"0\":\"words\"}"};
    char text[2048];
    if (format == CSV)
        (void)snprintf(text, sizeof text,
                       "{\"train\":{\"format\":\"csv\",\"file\":\"%s/x\",\"label\":%s,"
                       "\"header\":%s%s}}",
                       dir, more ? "\"y\"" : "2", more ? "true" : "false",
                       keys[fuzz_below(f, sizeof keys / sizeof keys[0])]);
    else
        (void)snprintf(text, sizeof text,
                       "{\"train\":{\"format\":\"%s\",\"images\":\"%s/x\",\"labels\":\"%s/y\"}%s}",
                       names[format], dir, dir,
                       more ? ",\"validation_split\":0.5,\"transforms\":[{\"scale\":0.5}]" : "");
    struct value *v = NULL;
    if (json_parse(&arena, text, strlen(text), "fuzz", &v, NULL) != STATUS_OK)
        abort();
    return v;
}

int main(void) {
    struct fuzz f = fuzz_start("data files");
    arena_init(&arena, ARENA_CAP);
    if (mkdtemp(dir) == NULL)
        return 1;
    make_good();
    while (fuzz_go_on(&f)) {
        size_t format = fuzz_below(&f, 3);
        bool break_labels = format != CSV && fuzz_chance(&f, 4);
        size_t len = break_labels ? labels_len[format] : good_len[format];
        memcpy(file, break_labels ? labels[format] : good[format], len);
        if (!fuzz_chance(&f, 16))
            len = fuzz_mutate(&f, file, len, FILE_CAP, words, sizeof words / sizeof words[0]);
        f.input = file;
        f.input_len = len;
        bool gzip = fuzz_chance(&f, 4);
        write_whole("x", break_labels ? good[format] : file, break_labels ? good_len[format] : len,
                    gzip);
        if (format != CSV)
            write_whole("y", break_labels ? file : labels[format],
                        break_labels ? len : labels_len[format], false);
        arena_clear(&arena);
        check(&f, configure(&f, format, fuzz_chance(&f, 2)));
    }
    char path[PATH_TEXT_MAX];
    for (const char *leaf = "xy"; *leaf != '\0'; leaf++) {
        (void)snprintf(path, sizeof path, "%s/%c", dir, *leaf);
        unlink(path);
    }
    rmdir(dir);
    arena_release(&arena);
    return fuzz_end(&f);
}
