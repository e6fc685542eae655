/* What the planner knows of the GPU backend. Plain data and arithmetic: built on every machine, so
 * that a net can be planned for a card that is not here. No CUDA header is needed. */
#ifndef KERNELS_CUDA_TRAITS_H
#define KERNELS_CUDA_TRAITS_H

#include "kernels/graph/operators.h"

extern const struct traits cuda_traits;

#endif
