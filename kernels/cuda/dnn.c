/* Graphs of cuDNN: building, running, and what is known of their reproducibility. */
#include "kernels/cuda/dnn.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/dnn_plan.h"

#define PACKS 64 /* sets of pointers that are kept */

/* One set of pointers, as the library wants to see it. */
struct pack {
    cudnnBackendDescriptor_t descriptor; /* NULL: free */
    const void *pointers[DNN_TENSORS_MAX];
    void *workspace;
};

struct dnn_graph {
    struct device *device;
    char what[160];
    struct dnn_recipe recipe;
    struct dnn_plan *plan; /* the device's; NULL before dnn_compile */
    struct pack packs[PACKS];
    int next; /* pack to give up */
};

enum status dnn_graph_new(struct device *d, const char *what, struct dnn_graph **out,
                          struct err *err) {
    struct dnn_graph *g = calloc(1, sizeof *g);
    if (g == NULL)
        return err_set(err, STATUS_NOMEM, "no memory for the plan of %s", what);
    g->device = d;
    g->recipe.owner = CUDA_CACHE_DNN;
    (void)snprintf(g->what, sizeof g->what, "%s", what);
    *out = g;
    return STATUS_OK;
}

void dnn_graph_release(struct dnn_graph *g) {
    if (g == NULL)
        return;
    for (int i = 0; i < PACKS; i++)
        dnn_destroy(g->packs[i].descriptor);
    if (g->plan != NULL)
        cuda_cache_give(&cuda_of(g->device)->cache, g->plan);
    free(g);
}

/* ---- what is computed ---- */

int dnn_tensor(struct dnn_graph *g, const struct dnn_tensor *t) {
    struct dnn_recipe *r = &g->recipe;
    assert(r->tensor_count < DNN_TENSORS_MAX);
    int i = (int)r->tensor_count++;
    r->tensors[i].type = (int64_t)t->type;
    memcpy(r->tensors[i].dim, t->dim, sizeof t->dim);
    memcpy(r->tensors[i].stride, t->stride, sizeof t->stride);
    r->tensors[i].alignment = t->alignment;
    r->tensors[i].inside = t->inside;
    return i;
}

static int add_step(struct dnn_graph *g, bool pointwise, int64_t mode, int x, int w, int y) {
    struct dnn_recipe *r = &g->recipe;
    assert(r->step_count < DNN_STEPS_MAX);
    int i = (int)r->step_count++;
    r->steps[i].pointwise = pointwise;
    r->steps[i].mode = mode;
    r->steps[i].x = x;
    r->steps[i].w = w;
    r->steps[i].y = y;
    return i;
}

void dnn_convolve(struct dnn_graph *g, enum dnn_direction direction,
                  const struct dnn_window *window, int x, int w, int y) {
    int i = add_step(g, false, (int64_t)direction, x, w, y);
    memcpy(g->recipe.steps[i].stride, window->stride, sizeof window->stride);
    memcpy(g->recipe.steps[i].padding, window->padding, sizeof window->padding);
}

void dnn_pointwise(struct dnn_graph *g, cudnnPointwiseMode_t mode, int x, int b, int y) {
    (void)add_step(g, true, (int64_t)mode, x, b, y);
}

/* ---- the engine ---- */

enum status dnn_compile(struct dnn_graph *g, enum precision precision, struct err *err) {
    g->recipe.precision = (int64_t)precision;
    enum status st = dnn_plan_take(g->device, &g->recipe, &g->plan, err);
    if (st != STATUS_OK)
        return err_wrap(err, st, "%s", g->what);
    const struct dnn_plan *p = g->plan;
    if (!p->described)
        return err_set(err, STATUS_UNAVAILABLE, "cuDNN refuses %s: %s", g->what,
                       cudnnGetErrorString(p->code));
    if (p->plan == NULL)
        return err_set(err, STATUS_UNAVAILABLE,
                       "cuDNN %zu has no deterministic engine for %s within %zu MiB of workspace "
                       "(%s): change the layer, or train with device: cpu",
                       cudnnGetVersion(), g->what, CUDA_DNN_WORKSPACE >> 20,
                       cudnnGetErrorString(p->code));
    return cuda_dnn_reserve(g->device, (size_t)p->workspace, err);
}

enum dnn_proof dnn_proof(const struct dnn_graph *g) {
    return g->plan->proof;
}

void dnn_prove(struct dnn_graph *g, enum dnn_proof proof) {
    g->plan->proof = proof;
}

enum dnn_nan dnn_nan(const struct dnn_graph *g) {
    return g->plan->nan;
}

void dnn_nan_found(struct dnn_graph *g, enum dnn_nan nan) {
    g->plan->nan = nan;
}

struct value *dnn_describe(struct arena *a, const struct dnn_graph *g) {
    const struct dnn_plan *p = g->plan;
    struct value *out = value_map(a), *knobs = value_map(a);
    value_set_int(a, out, "engine", p->engine);
    for (int i = 0; i < p->knob_count; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "%d", p->knobs[i].type);
        value_set_int(a, knobs, arena_strdup(a, name), p->knobs[i].value);
    }
    value_set(a, out, "knobs", knobs);
    value_set_int(a, out, "workspace", p->workspace);
    return out;
}

/* ---- runs ---- */

static cudnnStatus_t fill_pack(const struct dnn_graph *g, struct pack *pack) {
    cudnnStatus_t code =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack->descriptor);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendSetAttribute(pack->descriptor, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
                                        CUDNN_TYPE_INT64, g->plan->id_count, g->plan->ids);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendSetAttribute(pack->descriptor, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                                        CUDNN_TYPE_VOID_PTR, g->plan->id_count, pack->pointers);
    if (code == CUDNN_STATUS_SUCCESS)
        code = cudnnBackendSetAttribute(pack->descriptor, CUDNN_ATTR_VARIANT_PACK_WORKSPACE,
                                        CUDNN_TYPE_VOID_PTR, 1, &pack->workspace);
    return code == CUDNN_STATUS_SUCCESS ? cudnnBackendFinalize(pack->descriptor) : code;
}

/* The pack of these pointers: a kept one, or a new one in the place of the oldest. */
static struct pack *find_pack(struct dnn_graph *g, const void *const *pointers) {
    size_t bytes = (size_t)g->plan->id_count * sizeof *pointers;
    void *workspace = cuda_of(g->device)->dnn_workspace;
    for (int i = 0; i < PACKS; i++) {
        struct pack *pack = &g->packs[i];
        if (pack->descriptor != NULL && pack->workspace == workspace &&
            memcmp(pack->pointers, pointers, bytes) == 0)
            return pack;
    }
    struct pack *pack = &g->packs[g->next];
    g->next = (g->next + 1) % PACKS;
    dnn_destroy(pack->descriptor);
    *pack = (struct pack){.workspace = workspace};
    memcpy(pack->pointers, pointers, bytes);
    if (!cuda_dnn_ok(g->device, fill_pack(g, pack), g->what)) {
        dnn_destroy(pack->descriptor);
        pack->descriptor = NULL;
        return NULL;
    }
    return pack;
}

void dnn_run(struct dnn_graph *g, const void *const *pointers) {
    if (cuda_failed(g->device))
        return;
    struct pack *pack = find_pack(g, pointers);
    if (pack != NULL)
        (void)cuda_dnn_ok(
            g->device,
            cudnnBackendExecute(cuda_of(g->device)->dnn, g->plan->plan, pack->descriptor), g->what);
}
