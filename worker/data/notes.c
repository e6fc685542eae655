/* Notes: said, not refused. */
#include "worker/data/notes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/utf8.h"

void notes_mend(char *text) {
    for (char *p = text; *p != '\0';) {
        size_t n = utf8_length(p, strlen(p));
        if (n == 0 || (unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
        p += n > 0 ? n : 1;
    }
}

void notes_add(struct notes *n, const char *format, ...) {
    if (n->count == NOTES_MAX) {
        n->more++;
        return;
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(n->text[n->count], NOTE_TEXT_MAX, format, args);
    va_end(args);
    notes_mend(n->text[n->count++]);
}

void notes_list(struct arena *a, const struct notes *n, struct value *list) {
    for (int i = 0; i < n->count; i++)
        value_push(a, list, value_string(a, n->text[i]));
    if (n->more > 0)
        value_push(a, list, value_string(a, arena_printf(a, "%d more of this kind", n->more)));
}
