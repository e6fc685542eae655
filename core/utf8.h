/* Well-formed UTF-8 (Unicode 15, table 3-7: no overlong forms, no surrogates, nothing over 10FFFF), and the
 * characters that may not be in a name. All inline: this header has no .c file. */
#ifndef CORE_UTF8_H
#define CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* The character in the `len` bytes that utf8_length gave. */
static inline uint32_t utf8_code(const void *bytes, size_t len) {
    static const unsigned char first[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    const unsigned char *p = bytes;
    uint32_t code = p[0] & first[len];
    for (size_t i = 1; i < len; i++)
        code = code << 6 | (p[i] & 0x3F);
    return code;
}

/* What a terminal obeys instead of showing: controls (C0, DEL, C1), line and paragraph separators, and
 * what turns the direction of text (U+202A to 202E, U+2066 to 2069). */
static inline bool utf8_is_control(uint32_t code) {
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || (code >= 0x2028 && code <= 0x202E) ||
           (code >= 0x2066 && code <= 0x2069);
}

/* The first byte that is not part of well-formed UTF-8, or begins a control character; `len` where there
 * is none: the text can be a name. */
static inline size_t utf8_printable(const void *bytes, size_t len) {
    const char *p = bytes;
    size_t i = 0, n;
    for (; i < len; i += n) {
        n = utf8_length(p + i, len - i);
        if (n == 0 || utf8_is_control(utf8_code(p + i, n)))
            break;
    }
    return i;
}

#endif
