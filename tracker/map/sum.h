/* A sum that notices damage, not malice: 8 bytes at a time, multiplied and mixed (constants of
 * splitmix64, Steele, Lea, Flood 2014). A stretch is cut at its own start, so that the sum of two
 * stretches is not that of both as one. */
#ifndef TRACKER_MAP_SUM_H
#define TRACKER_MAP_SUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/bytes.h"

static inline uint64_t sum_begin(size_t len) {
    return UINT64_C(0x9e3779b97f4a7c15) + len;
}

static inline uint64_t sum_add(uint64_t h, const void *bytes, size_t len) {
    const uint8_t *p = bytes;
    while (len > 0) {
        uint8_t word[8] = {0};
        size_t n = len < 8 ? len : 8;
        memcpy(word, p, n);
        h = (h ^ bytes_get_u64(word)) * UINT64_C(0xbf58476d1ce4e5b9);
        h = h << 31 | h >> 33;
        p += n;
        len -= n;
    }
    return h;
}

static inline uint32_t sum_end(uint64_t h) {
    return (uint32_t)(h * UINT64_C(0x94d049bb133111eb) >> 32);
}

#endif
