/* Who gets which GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/shell/placement.h"

static const int numbers[] = {0, 1, 2, 3, 4, 5, 6, 7};

static struct placement machine(size_t gpus, int64_t slots_per_gpu) {
    struct placement p;
    placement_init(&p, numbers, gpus, NULL, slots_per_gpu);
    return p;
}

/* Takes, and says what for CUDA_VISIBLE_DEVICES. */
static struct placed take(struct placement *p, int64_t ranks, const char *expected) {
    struct placed placed;
    char text[PLACEMENT_TEXT_MAX];
    assert_true(placement_take(p, ranks, &placed));
    placement_text(p, &placed, text);
    assert_string_equal(text, expected);
    return placed;
}

static void refuse(struct placement *p, int64_t ranks) {
    struct placed placed;
    struct placement before = *p;
    assert_false(placement_take(p, ranks, &placed));
    assert_memory_equal(&before, p, sizeof before);
}

static void without_gpus_all_fits(void **state) {
    (void)state;
    struct placement p = machine(0, 4);
    assert_int_equal(placement_slots(&p), 0);
    for (int i = 0; i < 100; i++) {
        struct placed placed = take(&p, 8, "");
        placement_give(&p, &placed);
    }
}

static void groups_are_spread(void **state) {
    (void)state;
    struct placement p = machine(2, 2);
    assert_int_equal(placement_slots(&p), 4);
    (void)take(&p, 1, "0");
    struct placed second = take(&p, 1, "1");
    (void)take(&p, 1, "0");
    (void)take(&p, 1, "1");
    refuse(&p, 1);
    placement_give(&p, &second);
    (void)take(&p, 1, "1");
    refuse(&p, 1);
}

static void ranks_have_a_card_each(void **state) {
    (void)state;
    struct placement p = machine(4, 1);
    struct placed first = take(&p, 2, "0,1");
    (void)take(&p, 2, "2,3");
    placement_give(&p, &first);
    (void)take(&p, 1, "0");
    refuse(&p, 2);
    (void)take(&p, 1, "1");
}

/* Two cards beat a free share on one: NCCL refuses two ranks on a card. */
static void cards_before_shares(void **state) {
    (void)state;
    struct placement p = machine(2, 2);
    struct placed a = take(&p, 1, "0");
    (void)take(&p, 1, "1");
    struct placed b = take(&p, 1, "0");
    (void)take(&p, 1, "1");
    placement_give(&p, &a);
    placement_give(&p, &b);
    (void)take(&p, 2, "0,1");
    assert_int_equal(p.ranks[0], 1);
    assert_int_equal(p.ranks[1], 3);
    refuse(&p, 1);
}

static void more_ranks_than_cards_share(void **state) {
    (void)state;
    struct placement p = machine(2, 4);
    (void)take(&p, 1, "0");
    struct placed four = take(&p, 4, "1,0");
    assert_int_equal(p.ranks[0], 3);
    assert_int_equal(p.ranks[1], 2);
    (void)take(&p, 3, "1,0");
    assert_int_equal(p.ranks[0], 4);
    assert_int_equal(p.ranks[1], 4);
    placement_give(&p, &four);
    assert_int_equal(p.ranks[0] + p.ranks[1], 4);
}

static void a_group_of_more_than_all_slots_is_alone(void **state) {
    (void)state;
    struct placement p = machine(1, 1);
    struct placed one = take(&p, 1, "0");
    refuse(&p, 4);
    placement_give(&p, &one);
    struct placed four = take(&p, 4, "0");
    refuse(&p, 1);
    placement_give(&p, &four);
    (void)take(&p, 1, "0");
}

static void names_are_mapped(void **state) {
    (void)state;
    struct placement p;
    placement_init(&p, numbers, 3, "5, GPU-3fa1,2", 1);
    (void)take(&p, 3, "5,GPU-3fa1,2");
    static const int second[] = {1}; /* the first one was of no use */
    placement_init(&p, second, 1, "5,GPU-3fa1,2", 1);
    (void)take(&p, 1, "GPU-3fa1");
    placement_init(&p, numbers, 3, "7", 1); /* cannot be: CUDA counts what is listed */
    (void)take(&p, 3, "7,1,2");
    placement_init(&p, numbers, 1, "", 1);
    (void)take(&p, 1, "0");
}

static void there_is_a_limit(void **state) {
    (void)state;
    static int many[PLACEMENT_GPUS_MAX + 10];
    struct placement p;
    placement_init(&p, many, PLACEMENT_GPUS_MAX + 10, NULL, 2);
    assert_int_equal(p.count, PLACEMENT_GPUS_MAX);
    assert_int_equal(placement_slots(&p), 2 * PLACEMENT_GPUS_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_gpus_all_fits),
        cmocka_unit_test(groups_are_spread),
        cmocka_unit_test(ranks_have_a_card_each),
        cmocka_unit_test(cards_before_shares),
        cmocka_unit_test(more_ranks_than_cards_share),
        cmocka_unit_test(a_group_of_more_than_all_slots_is_alone),
        cmocka_unit_test(names_are_mapped),
        cmocka_unit_test(there_is_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
