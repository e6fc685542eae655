/* What can be said of an operator without a backend. */
#include "kernels/graph/operators.h"

static const struct {
    const char *name;
    int layer;
    enum op_layout layout;
    unsigned promises;
} rows[OP_KINDS] = {
#define OP_ROW(kind, name, layer, images, promises) [OP_##kind] = {#name, layer, images, promises},
    OPERATORS(OP_ROW)
#undef OP_ROW
};

const char *op_name(enum op_kind kind) {
    return rows[kind].name;
}

enum op_layout op_wants(enum op_kind kind) {
    return rows[kind].layout;
}

bool op_promises(enum op_kind kind, enum op_promise what) {
    return (rows[kind].promises & what) != 0;
}

enum op_kind op_of_layer(enum layer_kind kind) {
    for (int k = 0; k < OP_KINDS; k++)
        if (rows[k].layer == (int)kind)
            return (enum op_kind)k;
    return OP_KINDS;
}

const char *precision_name(enum precision p) {
    return p == PRECISION_FP32 ? "fp32" : p == PRECISION_TF32 ? "tf32" : "bf16";
}

size_t precision_bytes(enum precision p) {
    return p == PRECISION_BF16 ? 2 : sizeof(float);
}
