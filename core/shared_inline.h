/* Functions that host code in C and device code in CUDA share: one text, the same bits. */
#ifndef CORE_SHARED_INLINE_H
#define CORE_SHARED_INLINE_H

#ifdef __CUDACC__
#define SHARED_INLINE static inline __host__ __device__
#else
#define SHARED_INLINE static inline
#endif

#endif
