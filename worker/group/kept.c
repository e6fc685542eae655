/* Kept weights against trained ones. */
#include "worker/group/kept.h"

#include <string.h>

#include "core/safetensors.h"
#include "wire/artifact.h"
#include "wire/weights.h"
#include "worker/train/checkpoint.h"

static bool has_file(const struct value *run, const char *path) {
    const struct value *files = value_get(run, "artifacts");
    for (size_t i = 0; files != NULL && i < files->count; i++)
        if (strcmp(value_get_string(files->items[i], "path", ""), path) == 0)
            return true;
    return false;
}

/* Every tensor of ours; a checkpoint has more. */
static bool same_tensors(const struct tensors *ours, const struct tensors *theirs) {
    for (size_t i = 0; i < ours->count; i++) {
        const struct tensor *a = &ours->list[i];
        const struct tensor *b = safetensors_find(theirs->list, theirs->count, a->name);
        if (b == NULL || a->dtype != b->dtype || a->bytes != b->bytes ||
            memcmp(a->data, b->data, a->bytes) != 0)
            return false;
    }
    return true;
}

enum status kept_compare(struct session *s, struct arena *a, const struct value *run,
                         struct trainer *t, const char **path, bool *same, struct err *err) {
    struct weights_ref ref = {.which = WEIGHTS_STEP, .step = trainer_steps(t)};
    struct buf mine = BUF_INIT(CHECKPOINT_BYTES_MAX), kept = BUF_INIT(CHECKPOINT_BYTES_MAX);
    struct tensors ours, theirs;
    struct weights w;
    enum status st = STATUS_OK;
    *path = NULL;
    *same = true;
    if (weights_choose(a, &ref, run, &w, NULL) != STATUS_OK || !has_file(run, w.path))
        goto out;
    struct artifact what = {.run = value_get_string(run, "run", ""), .path = w.path};
    TRY(artifact_get(s, &what, &kept, NULL, err));
    TRY(checkpoint_write_weights(t, NULL, &mine, err));
    TRY(safetensors_read(a, mine.data, mine.len, &ours, err));
    TRY(safetensors_read(a, kept.data, kept.len, &theirs, err));
    *path = w.path;
    *same = same_tensors(&ours, &theirs);
out:
    buf_release(&mine);
    buf_release(&kept);
    return st;
}
