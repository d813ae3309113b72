// CUDA C++ on a CPU: what a kernel uses of the language. `fibers.cpp` runs it.
//
// All `__shared__` variables lie in one section of the program, which is filled with 0xcd before a
// block. A kernel is compiled with -fsanitize=thread,alignment, which puts calls before accesses to
// memory; `watch.cpp` has the functions that are called. What is UNSEEN is not part of a kernel.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static __attribute__((section("block_shared"), used))
#define __launch_bounds__(...)
#define UNSEEN __attribute__((no_sanitize("thread,alignment")))

using std::max;
using std::min;

struct Three {
    unsigned x, y, z;
};
extern Three threadIdx, blockIdx, blockDim, gridDim;

extern char __start_block_shared[] __attribute__((weak));
extern char __stop_block_shared[] __attribute__((weak));

namespace on_cpu {
void barrier();                    // waits for all threads of the block
void team_barrier(unsigned team);  // waits for these lanes of the warp
void exchange(unsigned team, const void* value, void* other, int lane);  // 16 bytes, with a lane
void add_seen(const void* sum, size_t size);                // an atomic addition is made
void check_aligned(const void* sum);                        // of four numbers: fails if not to 16

template <class... Parameters>
struct Call {
    static inline void (*kernel)(Parameters...);
    static inline void** given;

    template <size_t... i>
    UNSEEN static void expand(std::index_sequence<i...>) {
        kernel(*static_cast<Parameters*>(given[i])...);
    }
    UNSEEN static void run() { expand(std::index_sequence_for<Parameters...>()); }
};

// A function without arguments that calls the kernel with these.
template <class... Parameters>
UNSEEN auto bound(void (*kernel)(Parameters...), void** arguments) {
    Call<Parameters...>::kernel = kernel, Call<Parameters...>::given = arguments;
    return Call<Parameters...>::run;
}
}  // namespace on_cpu

UNSEEN inline void __syncthreads() { on_cpu::barrier(); }
UNSEEN inline void __syncwarp(unsigned team) { on_cpu::team_barrier(team); }

template <class N>
UNSEEN N __shfl_xor_sync(unsigned team, N value, int mask) {
    alignas(16) char mine[16], other[16];
    memcpy(mine, &value, sizeof value);
    on_cpu::exchange(team, mine, other, static_cast<int>(threadIdx.x % 32) ^ mask);
    memcpy(&value, other, sizeof value);
    return value;
}

UNSEEN inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

UNSEEN inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// In global memory, where a GPU adds float32 (RED.E.ADD.F32.FTZ) with no subnormal numbers: each
// that goes in or comes out is zero, of its sign. Those of float64 are as they are.
UNSEEN inline float flushed(float value) {
    return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value;
}
UNSEEN inline double flushed(double value) { return value; }

template <class N>
UNSEEN N atomicAdd(N* sum, N value) {
    on_cpu::add_seen(sum, sizeof(N));
    const N before = *sum;
    *sum = flushed(flushed(before) + flushed(value));
    return before;
}
