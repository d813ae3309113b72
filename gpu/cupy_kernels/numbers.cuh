// Numbers in memory and in registers, and vectors of them.
//
// The launcher chooses the types by macros, and VEC, the numbers of T that a thread reads at once.
#pragma once

#include "primitives.cuh"

struct half {
    unsigned short bits;
};

struct bfloat16 {
    unsigned short bits;
};

typedef OF_MEMORY T;         // x, weight, mask and y: float, double, half or bfloat16
typedef OF_POSITIONS P;      // offset and rois: T, or float where T has 16 bits
typedef OF_ARITHMETIC A;     // all arithmetic: double for double, else float
typedef OF_INDICES Index;    // numbers in an array: int, or long long where 32 bits do not reach

__device__ __forceinline__ float number(float value) { return value; }
__device__ __forceinline__ double number(double value) { return value; }
__device__ __forceinline__ float number(half value) { return half_to_float(value.bits); }
__device__ __forceinline__ float number(bfloat16 value) { return bfloat_to_float(value.bits); }

__device__ __forceinline__ void put(float& to, float value) { to = value; }
__device__ __forceinline__ void put(float& to, double value) { to = static_cast<float>(value); }
__device__ __forceinline__ void put(double& to, double value) { to = value; }
__device__ __forceinline__ void put(half& to, float value) { to.bits = float_to_half(value); }
__device__ __forceinline__ void put(bfloat16& to, float value) { to.bits = float_to_bfloat(value); }

template <class N, int COUNT>
struct alignas(sizeof(N) * COUNT) Vec {
    N at[COUNT];
};

// a vector that may be wider than one load, as of A where T has 16 bits
template <class N, int COUNT>
struct alignas(sizeof(N) * COUNT > 16 ? 16 : sizeof(N) * COUNT) Wide {
    N at[COUNT];
};

template <class N>
__device__ __forceinline__ Vec<N, VEC> load(const N* from) {
    return *reinterpret_cast<const Vec<N, VEC>*>(from);
}

// sum[i] += value[i], in no order with what other threads add; the last bits differ between runs.
// Atomic additions of float32 take subnormal numbers, below 2^-126, for zero, and make none.
__device__ __forceinline__ void add(float* sum, const Wide<float, VEC>& value) {
    if constexpr (VEC % 4 == 0) {
        for (int i = 0; i < VEC; i += 4) {
            const float four[4] = {value.at[i], value.at[i + 1], value.at[i + 2], value.at[i + 3]};
            add_four(sum + i, four);
        }
    } else {
        for (int i = 0; i < VEC; ++i) atomicAdd(sum + i, value.at[i]);
    }
}

__device__ __forceinline__ void add(double* sum, const Wide<double, VEC>& value) {
    for (int i = 0; i < VEC; ++i) atomicAdd(sum + i, value.at[i]);
}

__device__ __forceinline__ bool is_nan(A value) { return value != value; }

// The grid-stride loop of a kernel: `for (Index t = FIRST; t < count; t += STEP)`.
#define FIRST (static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x)
#define STEP (static_cast<Index>(gridDim.x) * blockDim.x)
