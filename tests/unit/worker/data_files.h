/* Files for the tests of the data module: written into a directory of their own, removed at the
 * end. */
#ifndef TESTS_DATA_FILES_H
#define TESTS_DATA_FILES_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>

#include "core/bytes.h"
#include "core/json.h"
#include "worker/data/data.h"

static char files_dir[] = "/tmp/trireme-data-XXXXXX";
static struct arena files_arena;

static const char *file_path(const char *name) {
    static char path[8][512];
    static int next;
    char *p = path[next++ % 8];
    (void)snprintf(p, sizeof path[0], "%s/%s", files_dir, name);
    return p;
}

static const char *write_file(const char *name, const void *bytes, size_t len) {
    const char *path = file_path(name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    return path;
}

static __attribute__((unused)) const char *write_text(const char *name, const char *text) {
    return write_file(name, text, strlen(text));
}

static __attribute__((unused)) const char *write_gzip(const char *name, const void *bytes,
                                                      size_t len) {
    const char *path = file_path(name);
    gzFile f = gzopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(gzwrite(f, bytes, (unsigned)len), (int)len);
    assert_int_equal(gzclose(f), Z_OK);
    return path;
}

/* An IDX file of bytes; returns its length. `out` has room. */
static __attribute__((unused)) size_t make_idx(uint8_t *out, int dims, const uint32_t *dim,
                                               const uint8_t *elements, size_t count) {
    bytes_put_be32(out, 0x0800u + (uint32_t)dims);
    for (int i = 0; i < dims; i++)
        bytes_put_be32(out + 4 + 4 * i, dim[i]);
    memcpy(out + 4 + 4 * dims, elements, count);
    return 4 + 4 * (size_t)dims + count;
}

/* JSON, with @ for the directory and ' for ". */
static struct value *data_map(const char *text) {
    struct buf b = BUF_INIT(1 << 20);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '@')
            buf_addf(&b, "%s/", files_dir);
        else
            buf_addc(&b, *p == '\'' ? '"' : *p);
    }
    struct value *v = NULL;
    struct err err;
    if (json_parse(&files_arena, buf_text(&b), b.len, "test", &v, &err) != STATUS_OK)
        fail_msg("%s in %s", err.text, buf_text(&b));
    buf_release(&b);
    return v;
}

/* The same, read: what loading takes. */
static enum status data_try(const char *text, const struct spec_data **out, struct err *err) {
    struct spec_data *d = arena_take(&files_arena, sizeof *d);
    assert_non_null(d);
    *out = d;
    return spec_data_read(data_map(text), SPEC_TODAY("test"), d, err);
}

static __attribute__((unused)) const struct spec_data *data_spec(const char *text) {
    const struct spec_data *d = NULL;
    struct err err = {0};
    if (data_try(text, &d, &err) != STATUS_OK)
        fail_msg("%s in %s", err.text, text);
    return d;
}

static int files_setup(void **state) {
    (void)state;
    arena_init(&files_arena, (size_t)64 << 20);
    return mkdtemp(files_dir) == NULL;
}

static int files_teardown(void **state) {
    (void)state;
    DIR *d = opendir(files_dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.')
            unlink(file_path(e->d_name));
    if (d != NULL)
        closedir(d);
    rmdir(files_dir);
    arena_release(&files_arena);
    return 0;
}

#endif
