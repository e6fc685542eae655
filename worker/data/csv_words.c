/* The words of a column: a sorted set. */
#include <stdlib.h>
#include <string.h>

#include "worker/data/csv_private.h"

void csv_words_release(struct csv_words *w) {
    for (size_t i = 0; i < w->count; i++)
        free(w->word[i]);
    free(w->word);
    free(w->rank);
    *w = (struct csv_words){.word = NULL};
}

static int compare(const char *word, const struct csv_field *f) {
    size_t len = strlen(word), n = len < f->len ? len : f->len;
    int c = memcmp(word, f->text, n);
    return c != 0 ? c : len < f->len ? -1 : len > f->len;
}

/* Where the word is, or where it belongs. */
size_t csv_words_find(const struct csv_words *w, const struct csv_field *f, bool *found) {
    size_t low = 0, high = w->count;
    *found = false;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = compare(w->word[mid], f);
        if (c == 0) {
            *found = true;
            return mid;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

enum status csv_words_add(struct csv_words *w, const struct csv_field *f, struct err *err) {
    bool found;
    size_t where = csv_words_find(w, f, &found);
    if (found)
        return STATUS_OK;
    if (w->count == w->cap) {
        size_t cap = w->cap == 0 ? 8 : w->cap * 2;
        char **more = realloc(w->word, cap * sizeof *more);
        if (more == NULL)
            return err_set(err, STATUS_NOMEM, "data: out of memory");
        w->word = more;
        w->cap = cap;
    }
    char *copy = strndup(f->text, f->len);
    if (copy == NULL)
        return err_set(err, STATUS_NOMEM, "data: out of memory");
    memmove(&w->word[where + 1], &w->word[where], (w->count - where) * sizeof *w->word);
    w->word[where] = copy;
    w->count++;
    return STATUS_OK;
}

/* ---- order of numbers ---- */

struct numbered {
    double value;
    size_t index; /* in the order of bytes, which decides between "1" and "01" */
};

static int by_value(const void *a, const void *b) {
    const struct numbered *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

enum status csv_words_order(struct csv_words *w, struct err *err) {
    struct numbered *order = malloc((w->count + 1) * sizeof *order);
    int32_t *rank = malloc((w->count + 1) * sizeof *rank);
    bool whole = order != NULL && rank != NULL;
    enum status st = whole ? STATUS_OK : err_set(err, STATUS_NOMEM, "data: out of memory");
    for (size_t i = 0; whole && i < w->count; i++) {
        const struct csv_field f = {.text = w->word[i], .len = strlen(w->word[i])};
        order[i].index = i;
        whole = csv_text_number(&f, '.', &order[i].value) && strpbrk(w->word[i], ".eE") == NULL;
    }
    if (whole) {
        qsort(order, w->count, sizeof *order, by_value);
        for (size_t i = 0; i < w->count; i++)
            rank[order[i].index] = (int32_t)i;
        free(w->rank);
        w->rank = rank;
        rank = NULL;
    }
    free(order);
    free(rank);
    return st;
}
