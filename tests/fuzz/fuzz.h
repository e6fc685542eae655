/* What fuzzers share: a seeded generator, mutations of bytes, a budget of time.
 *
 * FUZZ_SEED repeats a run (the seed is printed first), FUZZ_MS sets its length. A broken promise
 * aborts with the round's number and the input, so that the run may go into a unit test. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

struct fuzz {
    uint64_t seed, state;
    uint64_t rounds;
    int64_t ends_ns;
    const void *input; /* of this round, for the report */
    size_t input_len;
};

/* SplitMix64 (Steele, Lea, Flood 2014). */
static inline uint64_t fuzz_next(struct fuzz *f) {
    uint64_t z = f->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* 0 to n - 1; n > 0. */
static inline size_t fuzz_below(struct fuzz *f, size_t n) {
    return (size_t)(fuzz_next(f) % n);
}

static inline bool fuzz_chance(struct fuzz *f, size_t one_in) {
    return fuzz_below(f, one_in) == 0;
}

static inline uint64_t fuzz_env(const char *name, uint64_t fallback) {
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? strtoull(text, NULL, 0) : fallback;
}

static inline struct fuzz fuzz_start(const char *name) {
    uint64_t random_seed = (uint64_t)clock_wall_ns(&clock_system) & 0xffffffff;
    struct fuzz f = {.seed = fuzz_env("FUZZ_SEED", random_seed)};
    f.ends_ns = clock_mono_ns(&clock_system) + (int64_t)fuzz_env("FUZZ_MS", 2000) * NS_PER_MS;
    printf("%s: FUZZ_SEED=%llu\n", name, (unsigned long long)f.seed);
    (void)fflush(stdout);
    return f;
}

/* Each round starts from the seed and its own number. */
static inline bool fuzz_go_on(struct fuzz *f) {
    f->state = f->seed * UINT64_C(0x2545f4914f6cdd1d) + f->rounds++;
    return clock_mono_ns(&clock_system) < f->ends_ns;
}

#define FUZZ_CHECK(f, promise)                                                                     \
    do {                                                                                           \
        if (!(promise)) {                                                                          \
            fprintf(stderr, "%s:%d: FUZZ_SEED=%llu round %llu: broken promise: %s\n", __FILE__,    \
                    __LINE__, (unsigned long long)(f)->seed, (unsigned long long)(f)->rounds,      \
                    #promise);                                                                     \
            (void)fwrite((f)->input, 1, (f)->input_len, stderr);                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Changes bytes in place, up to `cap`; returns the new length. `words` are pieces that the format
 * gives a meaning to: inserted now and then. */
static inline size_t fuzz_mutate(struct fuzz *f, char *text, size_t len, size_t cap,
                                 const char *const *words, size_t word_count) {
    for (size_t n = 1 + fuzz_below(f, 6); n > 0; n--) {
        size_t at = fuzz_below(f, len + 1);
        size_t kind = fuzz_below(f, 6);
        if (kind == 0 && at < len) { /* flip a bit */
            text[at] = (char)(text[at] ^ (char)(1 << fuzz_below(f, 8)));
        } else if (kind == 1 && at < len) { /* any byte */
            text[at] = (char)fuzz_next(f);
        } else if (kind == 2) { /* remove a stretch */
            size_t gone = fuzz_below(f, len - at + 1) % 16;
            memmove(text + at, text + at + gone, len - at - gone);
            len -= gone;
        } else if (kind == 3) { /* cut the end off */
            len = fuzz_chance(f, 4) ? at : len;
        } else if (kind == 4) { /* repeat a stretch */
            size_t more = fuzz_below(f, len - at + 1) % 64;
            if (len + more <= cap) {
                memmove(text + at + more, text + at, len - at);
                len += more;
            }
        } else { /* insert a word */
            const char *word = words[fuzz_below(f, word_count)];
            size_t more = strlen(word);
            if (len + more <= cap) {
                memmove(text + at + more, text + at, len - at);
                memcpy(text + at, word, more);
                len += more;
            }
        }
    }
    return len;
}

/* The line that the test runners count. */
static inline int fuzz_end(const struct fuzz *f) {
    printf("%llu rounds\n%llu passed, 0 failed\n", (unsigned long long)f->rounds,
           (unsigned long long)f->rounds);
    return 0;
}

#endif
