// What CUDA C++ cannot say without a header of the toolkit: 16-bit numbers and vector reductions.
//
// Each is one PTX instruction. tests/cuda_on_cpu has a file of this name with the same functions in
// plain C++, which comes first where the kernels are built for a CPU.
#pragma once

// float16: 1 sign, 5 exponent, 10 mantissa bits; rounded to nearest, ties to even
__device__ __forceinline__ float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ unsigned short float_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// bfloat16: the upper half of a float32
__device__ __forceinline__ float bfloat_to_float(unsigned short bits) {
    return __uint_as_float(static_cast<unsigned>(bits) << 16);
}

__device__ __forceinline__ unsigned short float_to_bfloat(float value) {
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// sum[i] += value[i] for four neighbours at once; sum is aligned to 16 bytes
__device__ __forceinline__ void add_four(float* sum, const float (&value)[4]) {
#if __CUDA_ARCH__ >= 900
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};"
                 :: "l"(sum), "f"(value[0]), "f"(value[1]), "f"(value[2]), "f"(value[3])
                 : "memory");
#else
    for (int i = 0; i < 4; ++i) atomicAdd(sum + i, value[i]);
#endif
}
