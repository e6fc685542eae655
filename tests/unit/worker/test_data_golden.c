/* The digest of data, in literal bits: a replay asks for the same digest as years ago, so that a change
 * of how it is computed, consistent in itself, would refuse every old run. Never edit a digest: give
 * what is new a version of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/worker/data_files.h"

static size_t npy(uint8_t *out, const char *descr, const char *shape, const void *data,
                  size_t len) {
    int text = snprintf((char *)out + 10, 200,
                        "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }\n", descr, shape);
    memcpy(out, "\x93NUMPY\1\0", 8);
    bytes_put_u16(out + 8, (uint16_t)text);
    memcpy(out + 10 + text, data, len);
    return 10 + (size_t)text + len;
}

static int write_inputs(void **state) {
    (void)state;
    static uint8_t file[4096], bytes[40], classes[5] = {0, 1, 2, 1, 0};
    float x[10];
    double wide[10], y[5];
    for (int i = 0; i < 40; i++)
        bytes[i] = (uint8_t)(i * 37 + 11);
    for (int i = 0; i < 10; i++) {
        x[i] = (float)(i * i) / 8.0F - 3.0F;
        wide[i] = 1764320000.0 + 7 * i;
    }
    for (int i = 0; i < 5; i++)
        y[i] = 0.25 * i - 0.5;
    if (files_setup(state) != 0)
        return 1;
    write_file("i.idx", file, make_idx(file, 3, (uint32_t[]){5, 2, 4}, bytes, 40));
    write_file("l.idx", file, make_idx(file, 1, (uint32_t[]){5}, classes, 5));
    write_file("i.npy", file, npy(file, "<f4", "5, 2", x, sizeof x));
    write_file("w.npy", file, npy(file, "<f8", "5, 2", wide, sizeof wide));
    write_file("y.npy", file, npy(file, "<f8", "5,", y, sizeof y));
    write_text("f.csv", "a,colour,y\n1.5,red,cat\n2,blue,dog\n-3.25,red,cat\n0.1,green,dog\n");
    write_text("n.csv", "a,b,y\n1,2,0\n3,4.5,1\n5,6,2\n");
    return 0;
}

#define NORMALIZE ",'transforms':[{'scale':0.5},{'normalize':'fit'}]"

static const struct {
    const char *data;
    const char *digest[4]; /* by the language; [0]: none */
} goldens[] = {
    {"{'train':{'format':'csv','file':'@f.csv','label':'y'}}",
     {NULL, "187d385bcce211e5c8341fdd1e7c303032de8152074e4bb6e180b5da2099ea66",
      "187d385bcce211e5c8341fdd1e7c303032de8152074e4bb6e180b5da2099ea66",
      "c88a74b1aa54b9b172b1462027098049e3a6675b0f35efbe1c25dec1f19a4323"}},
    {"{'train':{'format':'csv','file':'@f.csv','label':'y'}" NORMALIZE "}",
     {NULL, "df409d58bdad4c5a33ce2ea85d884f9da336a2fb307b16dc41a16bef1a751f9a",
      "df409d58bdad4c5a33ce2ea85d884f9da336a2fb307b16dc41a16bef1a751f9a",
      "56e17879b8c568d0065beeaaee16441e3be897539e9bee3af5cd6211b4728321"}},
    {"{'train':{'format':'csv','file':'@n.csv','label':'y','task':'regress'}}",
     {NULL, "2962943c38c93211e697332fe373e46317ee511a587ef0da8a68ccc817461636",
      "2962943c38c93211e697332fe373e46317ee511a587ef0da8a68ccc817461636",
      "2962943c38c93211e697332fe373e46317ee511a587ef0da8a68ccc817461636"}},
    {"{'train':{'format':'npy','images':'@i.npy','labels':'@y.npy'}}",
     {NULL, "8b6c4513dddda227be5e3cb4513b7fa58260a628671e48f6132ff09c0fe0b687",
      "8b6c4513dddda227be5e3cb4513b7fa58260a628671e48f6132ff09c0fe0b687",
      "8b6c4513dddda227be5e3cb4513b7fa58260a628671e48f6132ff09c0fe0b687"}},
    {"{'train':{'format':'npy','images':'@w.npy','labels':'@y.npy'}" NORMALIZE "}",
     {NULL, "62a5c3795a5a9d4a8bd7b2dd3e6303e9d08e76b77fb2d2dbfbf6a2ce571994ad",
      "62a5c3795a5a9d4a8bd7b2dd3e6303e9d08e76b77fb2d2dbfbf6a2ce571994ad",
      "70367773eb3dde38195e3dc6d4a1d587735aea7037217c9f13aed9424af882bd"}},
    {"{'train':{'format':'idx','images':'@i.idx','labels':'@l.idx'}" NORMALIZE "}",
     {NULL, "fd6123ea1d1c34423683f53308e8d7b2500e38e99da14ce9c6ec9f75d18daaef",
      "fd6123ea1d1c34423683f53308e8d7b2500e38e99da14ce9c6ec9f75d18daaef",
      "fd6123ea1d1c34423683f53308e8d7b2500e38e99da14ce9c6ec9f75d18daaef"}},
};

static void digests_are_what_they_were(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof goldens[0]; i++)
        for (int language = 1; language <= 3; language++) {
            const struct schema_source source = {.file = "s.yaml", .language = language};
            struct spec_data data;
            struct dataset *d = NULL;
            struct err err = {0};
            enum status st = spec_data_read(data_map(goldens[i].data), source, &data, &err);
            if (st == STATUS_OK)
                st = data_load(&(struct data_request){.data = &data, .seed = 1}, &d, &err);
            if (st != STATUS_OK)
                fail_msg("%s: %s", goldens[i].data, err.text);
            if (strcmp(data_info(d)->digest, goldens[i].digest[language]) != 0)
                fail_msg("%s, language %d: %s", goldens[i].data, language, data_info(d)->digest);
            data_destroy(&d);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(digests_are_what_they_were)};
    return cmocka_run_group_tests(tests, write_inputs, files_teardown);
}
