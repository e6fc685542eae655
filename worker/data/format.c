/* The list of data formats. */
#include "worker/data/format.h"

#include <string.h>

static const struct data_format *const formats[] = {&csv_format, &idx_format, &npy_format};

const struct data_format *data_format_find(const char *name) {
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(formats[i]->name, name) == 0)
            return formats[i];
    return NULL;
}
