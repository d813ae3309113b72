// The functions of gpu/cupy_kernels/tensor_cores.cuh in plain C++.
//
// Fragments pass between lanes by `show`. Sums are those of a tensor core that has no bit to spare:
// every product and the sum so far are cut off, toward zero, at the last place of the largest.
// Copies begin when they are asked for and end as late as a wait allows.
#pragma once
#include "copies.h"
#include "primitives.cuh"

UNSEEN inline unsigned to_tf32(float value) {
    const unsigned bits = bits_of(value);
    return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
}

UNSEEN inline unsigned two_halves(float first, float second) {
    return float_to_half(first) | static_cast<unsigned>(float_to_half(second)) << 16;
}

UNSEEN inline unsigned two_bfloats(float first, float second) {
    return float_to_bfloat(first) | static_cast<unsigned>(float_to_bfloat(second)) << 16;
}

namespace on_cpu {
struct Fragments {
    unsigned a[4], b[2];
};

// The sum of `count` numbers as a tensor core makes it: aligned to the largest, cut off.
UNSEEN inline float cut_sum(const double* terms, int count) {
    double largest = 0, plain = 0;
    for (int i = 0; i < count; ++i) {
        largest = std::max(largest, std::fabs(terms[i]));
        plain += terms[i];
    }
    if (largest == 0 || !std::isfinite(plain)) return static_cast<float>(plain);
    int exponent;
    std::frexp(largest, &exponent);
    const int last = std::max(exponent, -125) - 24;  // 24 bits
    const double per_unit = std::ldexp(1.0, -last);
    double sum = 0;
    for (int i = 0; i < count; ++i) sum += std::trunc(terms[i] * per_unit);
    const int more = std::fabs(sum) >= 1 << 24 ? std::ilogb(sum) - 23 : 0;
    sum = std::ldexp(std::trunc(std::ldexp(sum, -more)), more + last);
    return static_cast<float>(sum);
}

// d += a b, where `number_a(fragments of a lane, row, k)` and `number_b` read a number of a or b.
template <int OF_K, class OfA, class OfB>
UNSEEN void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], OfA number_a,
                OfB number_b) {
    Fragments mine;
    memcpy(mine.a, a, sizeof a), memcpy(mine.b, b, sizeof b);
    show(&mine, sizeof mine);
    const int lane = threadIdx.x % 32, pairs = OF_K / 8;  // numbers of k in a register
    double number[2][2][OF_K];                            // of a and b, two rows or columns
    for (int i = 0; i < 2; ++i)
        for (int k = 0; k < OF_K; ++k) {
            const int t = k / pairs % 4, half = k / pairs / 4, part = k % pairs;
            const auto of_a = static_cast<const Fragments*>(shown(lane / 4 * 4 + t));
            const auto of_b = static_cast<const Fragments*>(shown((lane % 4 * 2 + i) * 4 + t));
            number[0][i][k] = number_a(of_a->a[i + 2 * half], part);
            number[1][i][k] = number_b(of_b->b[half], part);
        }
    for (int i = 0; i < 4; ++i) {
        double terms[OF_K + 1] = {d[i]};
        for (int k = 0; k < OF_K; ++k) terms[k + 1] = number[0][i / 2][k] * number[1][i % 2][k];
        d[i] = cut_sum(terms, OF_K + 1);
    }
}

UNSEEN inline const char* shown_bytes(int lane) { return static_cast<const char*>(shown(lane)); }
UNSEEN inline float of_tf32(unsigned bits, int) { return float_of(bits & ~0x1fffu); }
UNSEEN inline float of_half(unsigned bits, int part) {
    return half_to_float(bits >> 16 * part & 0xffffu);
}
UNSEEN inline float of_bfloat(unsigned bits, int part) {
    return bfloat_to_float(bits >> 16 * part & 0xffffu);
}
}  // namespace on_cpu

UNSEEN inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    on_cpu::mma<8>(d, a, b, on_cpu::of_tf32, on_cpu::of_tf32);
}

UNSEEN inline void mma_half(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    on_cpu::mma<16>(d, a, b, on_cpu::of_half, on_cpu::of_half);
}

UNSEEN inline void mma_bfloat(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    on_cpu::mma<16>(d, a, b, on_cpu::of_bfloat, on_cpu::of_bfloat);
}

UNSEEN inline void ldmatrix(unsigned (&four)[4], const void* row) {
    on_cpu::seen_of_shared(row, false);
    on_cpu::show(row, 16);
    const int lane = threadIdx.x % 32;
    for (int i = 0; i < 4; ++i)
        memcpy(&four[i], on_cpu::shown_bytes(i * 8 + lane / 4) + lane % 4 * 4, 4);
}

UNSEEN inline void ldmatrix_trans(unsigned (&four)[4], const void* row) {
    on_cpu::seen_of_shared(row, false);
    on_cpu::show(row, 16);
    const int lane = threadIdx.x % 32;
    for (int i = 0; i < 4; ++i) {
        unsigned short two[2];
        for (int j = 0; j < 2; ++j)
            memcpy(two + j, on_cpu::shown_bytes(i * 8 + lane % 4 * 2 + j) + lane / 4 * 2, 2);
        memcpy(&four[i], two, 4);
    }
}

UNSEEN inline void cp_async(void* shared, const void* global, bool there) {
    on_cpu::copy_later(shared, there ? global : nullptr);
}

UNSEEN inline void cp_async_commit() { on_cpu::commit(); }

template <int ALLOWED>
UNSEEN void cp_async_wait() {
    on_cpu::wait_for_copies(ALLOWED);
}

#ifdef BLOCK_BYTES  // not inline: all libraries of a process would have one memory
UNSEEN static char* block_memory() {
    __shared__ char memory[BLOCK_BYTES] __attribute__((aligned(128)));
    return memory;
}
#endif
