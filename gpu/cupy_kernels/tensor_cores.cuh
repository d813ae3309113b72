// Tensor cores, and copies to shared memory that run by themselves: one PTX instruction each.
//
// tests/cuda_on_cpu has a file of this name with the same functions in plain C++. All of it is in
// sm_80 and later. A fragment is a warp's share of a matrix in registers, laid out as the PTX ISA
// says; with group = lane / 4 and t = lane % 4:
//
// a[4]  16 x k, row group + 8 (i % 2)       columns t + 4 (i / 2), or 2 t, 2 t + 1 (+ 8) of 16 bits
// b[2]  k x 8, column group                 rows t + 4 i, or 2 t, 2 t + 1 (+ 8) of 16 bits
// d[4]  16 x 8, row group + 8 (i / 2)       columns 2 t + i % 2
#pragma once

#include "primitives.cuh"

// float32 with 10 bits of mantissa: rounded to nearest, ties away from zero
__device__ __forceinline__ unsigned to_tf32(float value) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
}

// two numbers of 16 bits in a register, the first one in the lower half
__device__ __forceinline__ unsigned two_halves(float first, float second) {
    unsigned bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));
    return bits;
}

__device__ __forceinline__ unsigned two_bfloats(float first, float second) {
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));
    return bits;
}

// d += a b for 16 x 8, 8 x 8 and 16 x 8 numbers; of a and b the tensor cores read tf32
__device__ __forceinline__ void mma_tf32(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d += a b for 16 x 16, 16 x 8 and 16 x 8 numbers, two of a or b in a register
__device__ __forceinline__ void mma_half(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_bfloat(float (&d)[4], const unsigned (&a)[4],
                                           const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ unsigned in_shared(const void* address) {
    return static_cast<unsigned>(__cvta_generic_to_shared(address));
}

// Four matrices of 8 rows of 16 bytes in shared memory. Lane l names row l % 8 of matrix l / 8, and
// gets bytes 4 t to 4 t + 3 of row `group` of each: for tf32 too, one number of it.
__device__ __forceinline__ void ldmatrix(unsigned (&four)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(four[0]), "=r"(four[1]), "=r"(four[2]), "=r"(four[3])
                 : "r"(in_shared(row))
                 : "memory");
}

// The same of the transposes of 8 x 8 numbers of 16 bits: rows 2 t and 2 t + 1, column `group`.
__device__ __forceinline__ void ldmatrix_trans(unsigned (&four)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(four[0]), "=r"(four[1]), "=r"(four[2]), "=r"(four[3])
                 : "r"(in_shared(row))
                 : "memory");
}

// Begins to copy 16 bytes to shared memory, or zeros if not `there`; both addresses are aligned.
__device__ __forceinline__ void cp_async(void* shared, const void* global, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(in_shared(shared)), "l"(global), "r"(there ? 16 : 0)
                 : "memory");
}

// Ends a group of this thread's copies, which may be empty.
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most ALLOWED of this thread's last groups are under way; others' need a barrier.
template <int ALLOWED>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(ALLOWED) : "memory");
}

// The shared memory whose size the launch says, BLOCK_BYTES of it.
__device__ __forceinline__ char* block_memory() {
    extern __shared__ uint4 memory_of_block[];
    return reinterpret_cast<char*>(memory_of_block);
}
