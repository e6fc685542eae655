/* Makes allocations fail on demand and counts what stays allocated.
 *
 *     static enum status scenario(void *arg) { …one public function, everything released… }
 *     alloc_fail_each(scenario, &arg);
 *
 * runs the scenario with its 1st, 2nd, 3rd … allocation failing (once with only that one, once with
 * all that follow) until a run meets no failure. Each failed run must answer NOMEM (with
 * alloc_fail_each_or_ok also OK, where a library has a way without memory) and leave nothing
 * allocated. Inside a scenario no cmocka call is made: the failure would hit cmocka.
 *
 * The test executable defines malloc and its family over glibc's own, so libraries are hit too.
 * Under a sanitizer, which needs its own malloc, the scenario runs once and nothing fails.
 *
 * Include it once, after cmocka.h. Only allocations of the arming thread fail. */
#ifndef TESTS_UNIT_ALLOC_FAIL_H
#define TESTS_UNIT_ALLOC_FAIL_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/status.h"

#ifdef __has_feature
#define ALLOC_FAIL_FEATURE(x) __has_feature(x)
#else
#define ALLOC_FAIL_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ALLOC_FAIL_ON 0
#else
#define ALLOC_FAIL_ON                                                                              \
    (!ALLOC_FAIL_FEATURE(address_sanitizer) && !ALLOC_FAIL_FEATURE(thread_sanitizer) &&            \
     !ALLOC_FAIL_FEATURE(memory_sanitizer))
#endif

/* The allocation that fails next, from 1; 0: none. Then `sticky` says whether the rest fail too. */
static _Thread_local long alloc_fail_at;
static _Thread_local bool alloc_fail_sticky;
static _Thread_local long alloc_fail_hits;
static _Atomic long alloc_fail_live; /* blocks allocated and not freed */

#if ALLOC_FAIL_ON
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *p);

static bool alloc_fail_now(void) {
    if (alloc_fail_at == 0 || --alloc_fail_at > 0)
        return false;
    alloc_fail_at = alloc_fail_sticky ? 1 : 0;
    alloc_fail_hits++;
    errno = ENOMEM;
    return true;
}

static void *alloc_fail_count(void *p) {
    alloc_fail_live += p != NULL;
    return p;
}

void *malloc(size_t bytes) {
    return alloc_fail_now() ? NULL : alloc_fail_count(__libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes) {
    return alloc_fail_now() ? NULL : alloc_fail_count(__libc_calloc(count, bytes));
}

void *realloc(void *old, size_t bytes) {
    if (alloc_fail_now())
        return NULL;
    void *p = __libc_realloc(old, bytes);
    if (old == NULL)
        alloc_fail_count(p);
    else if (bytes == 0 && p == NULL)
        alloc_fail_live--;
    return p;
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    return alloc_fail_now() ? NULL : alloc_fail_count(__libc_memalign(alignment, bytes));
}

int posix_memalign(void **out, size_t alignment, size_t bytes) {
    *out = aligned_alloc(alignment, bytes);
    return *out != NULL ? 0 : ENOMEM;
}

void free(void *p) {
    alloc_fail_live -= p != NULL;
    __libc_free(p);
}
#endif

typedef enum status alloc_fail_scenario(void *arg);

/* One run with the n-th allocation failing; whether a failure was met. */
static bool alloc_fail_run(alloc_fail_scenario *scenario, void *arg, long n, bool sticky,
                           bool may_succeed) {
    long before = alloc_fail_live;
    alloc_fail_hits = 0;
    alloc_fail_sticky = sticky;
    alloc_fail_at = n;
    enum status st = scenario(arg);
    alloc_fail_at = 0;
    bool hit = alloc_fail_hits > 0;
    bool as_expected =
        hit ? st == STATUS_NOMEM || (may_succeed && st == STATUS_OK) : st == STATUS_OK;
    if (!as_expected || alloc_fail_live != before)
        print_error("allocation %ld failing (%s): %s, %ld blocks left\n", n,
                    sticky ? "and all behind it" : "alone", status_name(st),
                    alloc_fail_live - before);
    assert_true(as_expected);
    assert_int_equal(alloc_fail_live, before);
    return hit;
}

/* Returns how many allocations the scenario makes (0 under a sanitizer). */
static long alloc_fail_all(alloc_fail_scenario *scenario, void *arg, bool may_succeed) {
    assert_int_equal(scenario(arg), STATUS_OK); /* what libraries keep for ever is made here */
    long n = 1;
    for (; alloc_fail_run(scenario, arg, n, false, may_succeed); n++)
        alloc_fail_run(scenario, arg, n, true, may_succeed);
    return n - 1;
}

__attribute__((unused)) static long alloc_fail_each(alloc_fail_scenario *scenario, void *arg) {
    return alloc_fail_all(scenario, arg, false);
}

__attribute__((unused)) static long alloc_fail_each_or_ok(alloc_fail_scenario *scenario,
                                                          void *arg) {
    return alloc_fail_all(scenario, arg, true);
}

/* For assertions on the count, which is 0 where nothing can be made to fail. */
#define assert_allocations_failed(count, at_least)                                                 \
    assert_true(!ALLOC_FAIL_ON || (count) >= (at_least))

#endif
