/* What a reader of data should say to people without refusing: a class that never occurs, digits that
 * float32 cannot keep. Shown by preview and before a run, kept in the manifest.
 *
 * Of fixed size: a note never fails. Notes beyond the last are counted. */
#ifndef WORKER_DATA_NOTES_H
#define WORKER_DATA_NOTES_H

#include "core/value.h"

#define NOTES_MAX     16
#define NOTE_TEXT_MAX 320

struct notes {
    int count, more;
    char text[NOTES_MAX][NOTE_TEXT_MAX];
};

void notes_add(struct notes *n, const char *format, ...) PRINTF(2, 3);

/* Makes text from a file fit for a message: what is not UTF-8 (a cut may have split a character) and
 * control characters become '?'. */
void notes_mend(char *text);

/* Pushes them to a list of strings. */
void notes_list(struct arena *a, const struct notes *n, struct value *list);

#endif
