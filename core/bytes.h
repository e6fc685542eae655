/* Little-endian numbers and checked sizes. All inline: this header has no .c file. */
#ifndef CORE_BYTES_H
#define CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void bytes_put_u16(void *p, uint16_t v) {
    uint8_t *b = p;
    for (int i = 0; i < 2; i++)
        b[i] = (uint8_t)(v >> (8 * i));
}
static inline void bytes_put_u32(void *p, uint32_t v) {
    uint8_t *b = p;
    for (int i = 0; i < 4; i++)
        b[i] = (uint8_t)(v >> (8 * i));
}
static inline void bytes_put_u64(void *p, uint64_t v) {
    uint8_t *b = p;
    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> (8 * i));
}
static inline uint16_t bytes_get_u16(const void *p) {
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t bytes_get_u32(const void *p) {
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t bytes_get_u64(const void *p) {
    const uint8_t *b = p;
    return (uint64_t)bytes_get_u32(b) | (uint64_t)bytes_get_u32(b + 4) << 32;
}
static inline void bytes_put_f64(void *p, double v) {
    uint64_t u;
    memcpy(&u, &v, 8);
    bytes_put_u64(p, u);
}
static inline double bytes_get_f64(const void *p) {
    uint64_t u = bytes_get_u64(p);
    double v;
    memcpy(&v, &u, 8);
    return v;
}

/* Big-endian, for keys that must sort as numbers do. */
static inline void bytes_put_be32(void *p, uint32_t v) {
    uint8_t *b = p;
    for (int i = 0; i < 4; i++)
        b[i] = (uint8_t)(v >> (24 - 8 * i));
}
static inline void bytes_put_be64(void *p, uint64_t v) {
    uint8_t *b = p;
    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> (56 - 8 * i));
}
static inline uint32_t bytes_get_be32(const void *p) {
    const uint8_t *b = p;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | (uint32_t)b[3];
}
static inline uint64_t bytes_get_be64(const void *p) {
    const uint8_t *b = p;
    return (uint64_t)bytes_get_be32(b) << 32 | bytes_get_be32(b + 4);
}

/* *out = a * b (a + b) and true, or false on overflow. */
static inline bool bytes_mul(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool bytes_add(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

#endif
