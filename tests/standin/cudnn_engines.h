/* What the stand-in for libcudnn computes, and with what: programs, engines, numbers. Only cudnn.c
 * includes this. */
#ifndef TESTS_STANDIN_CUDNN_ENGINES_H
#define TESTS_STANDIN_CUDNN_ENGINES_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cudnn.h>

#include "tests/standin/standin.h"

#define TENSORS_MAX 8
#define STEPS_MAX   4
#define KNOBS       2

/* ---- programs ---- */

struct tensor {
    int64_t id, dim[4], stride[4], alignment;
    cudnnDataType_t type;
    bool inside;
};

enum step_kind { FORWARD, BACKWARD_WEIGHTS, BACKWARD_DATA, ADD, RELU };

/* x, w, y: numbers of tensors; w is b in ADD and −1 in RELU. */
struct step {
    enum step_kind kind;
    int x, w, y;
    int64_t stride[2], before[2], after[2], dilation[2];
};

/* What a graph computes: one convolution, then point by point. */
struct program {
    struct tensor tensors[TENSORS_MAX];
    int tensor_count;
    struct step steps[STEPS_MAX];
    int step_count;
};

/* ---- engines ---- */

#define NOTE(name) (1u << CUDNN_NUMERICAL_NOTE_##name)

static const struct engine {
    const char *name;
    int64_t index;
    uint32_t notes;
    int chains; /* product i goes into sum i mod chains */
    bool fuses;
    bool refused;  /* its plans do not finalize */
    bool compiled; /* at run time: takes types that are mixed */
    bool seven;    /* offered for seven filters only; a row's order of sums depends on its place */
    bool fallback; /* named by that mode too */
    int mute;      /* the attribute that cannot be read: nobody may use it then; 0: all can */
    int64_t workspace, alignment;
    int64_t knobs[KNOBS];
} engines[] = {
    {"no number", 10, 0, 3, .fuses = true, .mute = CUDNN_ATTR_ENGINE_GLOBAL_INDEX},
    {"no numerical notes", 11, 0, 3, .fuses = true, .mute = CUDNN_ATTR_ENGINE_NUMERICAL_NOTE},
    {"no behaviour notes", 12, 0, 3, .fuses = true, .mute = CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE},
    {"atomics", 1, NOTE(NONDETERMINISTIC), 3, .fuses = true},
    {"narrow", 2, NOTE(TENSOR_CORE) | NOTE(DOWN_CONVERT_INPUTS), 3, .fuses = true},
    {"winograd", 3, NOTE(WINOGRAD) | NOTE(WINOGRAD_TILE_4x4), 3, .fuses = true},
    {"greedy", 4, 0, 3, .fuses = true, .workspace = (int64_t)1 << 31},
    {"refused", 5, 0, 3, .fuses = true, .refused = true},
    {"compiled", 6, 0, 3, .fuses = true, .compiled = true},
    {"places", 7, 0, 2, .fuses = true, .seven = true},
    {"tensor cores", 8, NOTE(TENSOR_CORE), 8, .fuses = true, .workspace = 4096, .alignment = 16,
     .knobs = {5, 3}},
    {"plain", 9, 0, 1, .workspace = 512, .fallback = true, .knobs = {1, 1}},
};
enum { ENGINES = sizeof engines / sizeof *engines };

static const cudnnBackendKnobType_t knob_types[KNOBS] = {CUDNN_KNOB_TYPE_TILE_SIZE,
                                                         CUDNN_KNOB_TYPE_STAGES};

static bool offered(const struct engine *e, const struct program *p, bool fallback) {
    const struct tensor *w = &p->tensors[p->steps[0].w];
    if (fallback && !e->fallback)
        return false;
    if (e->seven && (w->dim[0] != 7 || p->steps[0].kind != FORWARD))
        return false;
    for (int i = 0; i < p->tensor_count; i++)
        if (!p->tensors[i].inside && p->tensors[i].alignment < e->alignment)
            return false;
    /* As with the library, not everything that can be written down is there. */
    for (int i = 0; i < p->tensor_count && !e->compiled; i++)
        if (!p->tensors[i].inside && p->tensors[i].type != w->type)
            return false;
    return p->step_count == 1 || (e->fuses && w->dim[0] % 2 == 0) || e->seven;
}

/* ---- numbers ---- */

/* A plan at work: a copy of all that it needs, for as often as it is played. */
struct run {
    struct program program;
    const struct engine *engine;
    void *pointers[TENSORS_MAX]; /* by number; NULL: inside */
    void *workspace;
    bool fmax;                    /* relu as fmaxf does it */
    float *operands[TENSORS_MAX]; /* while it runs: dense, in the order (N, H, W, C) */
};

static float from_bits(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* To nearest even, `cut` bits fewer. */
static uint32_t round_bits(float v, int cut) {
    uint32_t bits, half = (uint32_t)1 << (cut - 1);
    memcpy(&bits, &v, sizeof bits);
    if ((bits & 0x7f800000u) == 0x7f800000u)
        return bits & 0x7fffffu ? bits | 0x400000u : bits;
    return (bits + half - 1 + ((bits >> cut) & 1)) & ~(2 * half - 1);
}

static int64_t elements(const struct tensor *t) {
    return t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3];
}

/* Element i of the dense order as (n, c, h, w), and back. */
static void index_of(const struct tensor *t, int64_t i, int64_t at[4]) {
    at[1] = i % t->dim[1];
    at[3] = i / t->dim[1] % t->dim[3];
    at[2] = i / (t->dim[1] * t->dim[3]) % t->dim[2];
    at[0] = i / (t->dim[1] * t->dim[3] * t->dim[2]);
}
static int64_t dense(const struct tensor *t, int64_t n, int64_t c, int64_t h, int64_t w) {
    return ((n * t->dim[2] + h) * t->dim[3] + w) * t->dim[1] + c;
}

static int64_t place(const struct tensor *t, const int64_t i[4]) {
    int64_t at = 0;
    for (int k = 0; k < 4; k++)
        at += (t->dim[k] == 1 ? 0 : i[k]) * t->stride[k];
    return at;
}

static float read_at(const struct run *r, int tensor, const int64_t i[4]) {
    const struct tensor *t = &r->program.tensors[tensor];
    int64_t at = place(t, i);
    if (t->type == CUDNN_DATA_BFLOAT16)
        return from_bits((uint32_t)((const uint16_t *)r->pointers[tensor])[at] << 16);
    return ((const float *)r->pointers[tensor])[at];
}

static void write_at(const struct run *r, int tensor, const int64_t i[4], float v) {
    const struct tensor *t = &r->program.tensors[tensor];
    int64_t at = place(t, i);
    if (t->type == CUDNN_DATA_BFLOAT16)
        ((uint16_t *)r->pointers[tensor])[at] = (uint16_t)(round_bits(v, 16) >> 16);
    else
        ((float *)r->pointers[tensor])[at] = v;
}

/* Tensor cores read ten bits of a float's fraction. */
static void read_operand(struct run *r, int tensor) {
    const struct tensor *t = &r->program.tensors[tensor];
    bool narrow = r->engine->notes & NOTE(TENSOR_CORE);
    float *out = malloc((size_t)elements(t) * sizeof *out);
    if (!out)
        standin_trap("no memory for an operand", __FILE__, __LINE__);
    for (int64_t i = 0; i < elements(t); i++) {
        int64_t at[4];
        index_of(t, i, at);
        float v = read_at(r, tensor, at);
        out[i] = narrow ? from_bits(round_bits(v, 13)) : v;
    }
    r->operands[tensor] = out;
}

/* A sum in the engine's order. */
struct sum {
    float chain[8];
    int chains, next;
};

static void add_products(struct sum *s, const float *a, const float *b, int64_t b_stride,
                         int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        s->chain[s->next] += a[i] * b[i * b_stride];
        s->next = s->next + 1 == s->chains ? 0 : s->next + 1;
    }
}

static float total(const struct sum *s) {
    float sum = s->chain[0];
    for (int i = 1; i < s->chains; i++)
        sum += s->chain[i];
    return sum;
}

/* One tap of the window: whether output (p, q) sees an input through it, which is filled in. */
static bool tap(const struct step *s, const int64_t x[4], const int64_t out[2],
                const int64_t filter[2], int64_t in[2]) {
    for (int i = 0; i < 2; i++) {
        in[i] = out[i] * s->stride[i] + filter[i] * s->dilation[i] - s->before[i];
        if (in[i] < 0 || in[i] >= x[2 + i])
            return false;
    }
    return true;
}

static void forward_at(const struct run *r, const int64_t at[4], struct sum *sum) {
    const struct step *s = r->program.steps;
    const struct tensor *x = &r->program.tensors[s->x], *w = &r->program.tensors[s->w];
    if (r->engine->seven)
        sum->chains += (int)(at[0] % 2);
    for (int64_t i = 0; i < w->dim[2] * w->dim[3]; i++) {
        int64_t filter[2] = {i / w->dim[3], i % w->dim[3]}, in[2];
        if (tap(s, x->dim, at + 2, filter, in))
            add_products(sum, r->operands[s->x] + dense(x, at[0], 0, in[0], in[1]),
                         r->operands[s->w] + dense(w, at[1], 0, filter[0], filter[1]), 1,
                         w->dim[1]);
    }
}

static void weight_at(const struct run *r, const int64_t at[4], struct sum *sum) {
    const struct step *s = r->program.steps;
    const struct tensor *x = &r->program.tensors[s->x], *y = &r->program.tensors[s->y];
    for (int64_t i = 0; i < y->dim[0] * y->dim[2] * y->dim[3]; i++) {
        int64_t n = i / (y->dim[2] * y->dim[3]), in[2];
        int64_t out[2] = {i / y->dim[3] % y->dim[2], i % y->dim[3]};
        if (tap(s, x->dim, out, at + 2, in))
            add_products(sum, r->operands[s->x] + dense(x, n, at[1], in[0], in[1]),
                         r->operands[s->y] + dense(y, n, at[0], out[0], out[1]), 1, 1);
    }
}

static void data_at(const struct run *r, const int64_t at[4], struct sum *sum) {
    const struct step *s = r->program.steps;
    const struct tensor *x = &r->program.tensors[s->x], *y = &r->program.tensors[s->y];
    const struct tensor *w = &r->program.tensors[s->w];
    for (int64_t i = 0; i < w->dim[2] * w->dim[3]; i++) {
        int64_t filter[2] = {i / w->dim[3], i % w->dim[3]}, out[2], in[2];
        for (int k = 0; k < 2; k++)
            out[k] = (at[2 + k] + s->before[k] - filter[k] * s->dilation[k]) / s->stride[k];
        if (out[0] >= 0 && out[1] >= 0 && out[0] < y->dim[2] && out[1] < y->dim[3] &&
            tap(s, x->dim, out, filter, in) && in[0] == at[2] && in[1] == at[3])
            add_products(sum, r->operands[s->y] + dense(y, at[0], 0, out[0], out[1]),
                         r->operands[s->w] + dense(w, 0, at[1], filter[0], filter[1]),
                         w->dim[1] * w->dim[2] * w->dim[3], w->dim[0]);
    }
}

static float relu(const struct run *r, float v) {
    return v < 0.0f || (r->fmax && isnan(v)) ? 0.0f : v;
}

static void run_plan(void *arg) {
    struct run *r = arg;
    const struct program *p = &r->program;
    const struct step *first = p->steps, *last = &p->steps[p->step_count - 1];
    bool forward = first->kind == FORWARD, weights = first->kind == BACKWARD_WEIGHTS;
    int result = forward ? last->y : weights ? first->w : first->x;
    const struct tensor *t = &p->tensors[result];
    if (r->engine->mute)
        standin_trap("an engine that does not say what it does", __FILE__, __LINE__);
    if (r->workspace)
        memset(r->workspace, 0xa5, (size_t)r->engine->workspace);
    read_operand(r, forward || weights ? first->x : first->y);
    read_operand(r, weights ? first->y : first->w);
    for (int64_t i = 0; i < elements(t); i++) {
        struct sum sum = {.chains = r->engine->chains};
        int64_t at[4];
        index_of(t, i, at);
        (forward ? forward_at : weights ? weight_at : data_at)(r, at, &sum);
        float v = total(&sum);
        for (const struct step *s = first + 1; s <= last; s++)
            v = s->kind == ADD ? v + read_at(r, s->w, at) : relu(r, v);
        write_at(r, result, at, v);
    }
    for (int i = 0; i < TENSORS_MAX; i++) {
        free(r->operands[i]);
        r->operands[i] = NULL;
    }
}

#endif
