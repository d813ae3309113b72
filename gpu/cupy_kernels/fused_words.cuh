// Tiles of 32-bit words in shared memory, and their products on tensor cores.
//
// A word is one number of float32, or two of 16 bits that are neighbours along the axis that a
// product sums over. So a fragment of `mma` is the same words for all dtypes: words t and t + 4 of
// eight along that axis, row or column `group` (see tensor_cores.cuh).
#pragma once

#include "numbers.cuh"
#include "tensor_cores.cuh"

const int PER_WORD = 4 / sizeof(T);  // numbers
const int DEPTH = 16;                // words of a step along the axis of the sum

struct alignas(16) Words {
    unsigned at[4];
};

// The word of one number, or of two neighbours.
__device__ __forceinline__ unsigned word_of(const float (&value)[1], float) {
#if EXACT
    return __float_as_uint(value[0]);
#else
    return to_tf32(value[0]);
#endif
}
__device__ __forceinline__ unsigned word_of(const float (&value)[2], half) {
    return two_halves(value[0], value[1]);
}
__device__ __forceinline__ unsigned word_of(const float (&value)[2], bfloat16) {
    return two_bfloats(value[0], value[1]);
}

// d += a b, of fragments that are words of tiles
__device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2], half) {
    mma_half(d, a, b);
}
__device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2], bfloat16) {
    mma_bfloat(d, a, b);
}

#if EXACT
// a = high + low with 11 bits each
template <int N>
__device__ __forceinline__ void split(const unsigned (&a)[N], unsigned (&high)[N],
                                      unsigned (&low)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
        high[i] = to_tf32(__uint_as_float(a[i]));
        low[i] = to_tf32(__uint_as_float(a[i]) - __uint_as_float(high[i]));
    }
}

// Three products of parts, the small ones first (Ootomo and Yokota 2022). They are added to d
// outside of the tensor cores, which would cut the bits below it off.
__device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2], float) {
    unsigned a_high[4], a_low[4], b_high[2], b_low[2];
    split(a, a_high, a_low), split(b, b_high, b_low);
    float sum[4] = {0, 0, 0, 0};
    mma_tf32(sum, a_low, b_high);
    mma_tf32(sum, a_high, b_low);
    mma_tf32(sum, a_high, b_high);
#pragma unroll
    for (int i = 0; i < 4; ++i) d[i] += sum[i];
}
#else
__device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2], float) {
    mma_tf32(d, a, b);
}
#endif

// N words, of(0) to of(N - 1), to a row of a tile from `column` on.
template <int N, class Of>
__device__ __forceinline__ void put_words(Words* row, int column, const Of& of) {
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4)
            row[(column + i) / 4] = {{of(i), of(i + 1), of(i + 2), of(i + 3)}};
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) row[(column + i) / 4].at[(column + i) % 4] = of(i);
    }
}
