/* Names that can also name a file. */
#include "core/name.h"

static bool allowed(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

bool name_valid(const char *text, size_t len) {
    return name_check("name", text, len, NULL) == STATUS_OK;
}

enum status name_check(const char *what, const char *text, size_t len, struct err *err) {
    if (len == 0)
        return err_set(err, STATUS_INVALID, "the %s is empty", what);
    if (len > NAME_BYTES_MAX)
        return err_set(err, STATUS_INVALID, "the %s has %zu bytes; at most %d are allowed", what,
                       len, NAME_BYTES_MAX);
    if (text[0] == '.')
        return err_set(err, STATUS_INVALID, "the %s must not begin with '.'", what);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (allowed(text[i]))
            continue;
        if (c > 0x20 && c < 0x7F)
            return err_set(err, STATUS_INVALID,
                           "the %s has a '%c'; letters, digits and . _ - are allowed", what, c);
        return err_set(err, STATUS_INVALID,
                       "the %s has the byte 0x%02x at %zu; letters, digits and . _ - are allowed",
                       what, c, i);
    }
    return STATUS_OK;
}
