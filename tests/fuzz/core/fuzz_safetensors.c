/* safetensors files, whole ones broken byte by byte.
 *
 * Promises: bytes give tensors or a refusal with words, never a read beyond the end; tensors lie
 * inside of the file, without a gap or an overlap; what was read, written again, reads the same. */
#include "core/bytes.h"
#include "core/safetensors.h"
#include "tests/fuzz/fuzz.h"

#define FILE_CAP  ((size_t)1 << 12)
#define ARENA_CAP ((size_t)8 << 20)

static struct arena arena;
static char text[FILE_CAP];

static const char *const seeds[] = {
    "{\"__metadata__\":{\"run\":\"01J\"},\"0.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],"
    "\"data_offsets\":[0,24]},\"0.bias\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[24,40]}"
    "}",
    "{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[8,12]},"
    "\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
    "\"e\":{\"dtype\":\"U8\",\"shape\":[0,9],\"data_offsets\":[12,12]}}  ",
};
static const size_t seed_data[] = {40, 12};
static const char *const words[] = {"\"F32\"",    "\"U8\"",     "-1",  "9223372036854775807",
                                    "4294967296", "[]",         "{}",  "0,",
                                    "[",          "\"shape\":", "1e9", "null"};

/* The bytes are at the very end of an allocation, so that a sanitizer sees one byte too many. */
static void check(struct fuzz *f, const char *bytes, size_t len) {
    char *exact = malloc(len + 1);
    FUZZ_CHECK(f, exact != NULL);
    memcpy(exact + 1, bytes, len);
    struct tensors file, again;
    size_t total = 0;
    struct err err = {0};
    arena_clear(&arena);
    enum status st = safetensors_read(&arena, exact + 1, len, &file, &err);
    FUZZ_CHECK(f, st == STATUS_OK || err.text[0] != '\0');
    if (st == STATUS_OK) {
        struct buf out = BUF_INIT(FILE_CAP * 8);
        for (size_t i = 0; i < file.count; i++) {
            const char *begin = file.list[i].data;
            FUZZ_CHECK(f, begin >= exact + 1 && begin + file.list[i].bytes <= exact + 1 + len);
            total += file.list[i].bytes;
        }
        FUZZ_CHECK(f, total + 8 + (size_t)bytes_get_u64(exact + 1) == len);
        FUZZ_CHECK(f, safetensors_write(&out, file.list, file.count, file.metadata, &err) ==
                          STATUS_OK);
        FUZZ_CHECK(f, safetensors_read(&arena, out.data, out.len, &again, &err) == STATUS_OK);
        FUZZ_CHECK(f, again.count == file.count);
        for (size_t i = 0; i < file.count; i++) {
            const struct tensor *same =
                safetensors_find(again.list, again.count, file.list[i].name);
            FUZZ_CHECK(f, same != NULL && same->bytes == file.list[i].bytes);
            FUZZ_CHECK(f, memcmp(same->data, file.list[i].data, file.list[i].bytes) == 0);
        }
        buf_release(&out);
    }
    free(exact);
}

int main(void) {
    struct fuzz f = fuzz_start("safetensors");
    arena_init(&arena, ARENA_CAP);
    while (fuzz_go_on(&f)) {
        size_t which = fuzz_below(&f, 2), len = strlen(seeds[which]);
        memcpy(text + 8, seeds[which], len);
        if (!fuzz_chance(&f, 8))
            len = fuzz_mutate(&f, text + 8, len, FILE_CAP - 128, words,
                              sizeof words / sizeof words[0]);
        bytes_put_u64(text, fuzz_chance(&f, 16) ? fuzz_next(&f) >> fuzz_below(&f, 64) : len);
        len += 8;
        size_t data = fuzz_chance(&f, 8) ? fuzz_below(&f, 64) : seed_data[which];
        for (size_t i = 0; i < data; i++)
            text[len++] = (char)i;
        f.input = text;
        f.input_len = len;
        check(&f, text, len);
    }
    arena_release(&arena);
    return fuzz_end(&f);
}
