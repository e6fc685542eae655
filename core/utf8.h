/* Well-formed UTF-8 (Unicode 15, table 3-7: no overlong forms, no surrogates, nothing over 10FFFF).
 * All inline: this header has no .c file. */
#ifndef CORE_UTF8_H
#define CORE_UTF8_H

#include <stddef.h>

/* Bytes (1 to 4) of the character that `bytes` starts with; 0 where none of `len` bytes is whole.
 */
static inline size_t utf8_length(const void *bytes, size_t len) {
    const unsigned char *p = bytes;
    if (len > 0 && p[0] < 0x80)
        return 1;
    size_t n = len == 0 || p[0] < 0xC2 ? 0
               : p[0] < 0xE0           ? 2
               : p[0] < 0xF0           ? 3
               : p[0] < 0xF5           ? 4
                                       : 0;
    if (n == 0 || len < n)
        return 0;
    unsigned char low = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return n;
}

#endif
