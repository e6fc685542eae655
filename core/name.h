/* Names that can also name a file or a directory: of registered models and their aliases.
 *
 * Letters and digits of ASCII, '.', '_' and '-', no '.' in front, 1 to NAME_BYTES_MAX bytes. So "a/b",
 * "../x", "m@a", a space and every control character are none, and whatever may be registered can be
 * exported under its own name. */
#ifndef CORE_NAME_H
#define CORE_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

#define NAME_BYTES_MAX 200

bool name_valid(const char *text, size_t len);

/* INVALID says which byte of the `what` ("model name") is wrong, and what is allowed. */
enum status name_check(const char *what, const char *text, size_t len, struct err *err) MUST_USE;

#endif
