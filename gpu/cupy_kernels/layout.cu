// Planes and pixels: N C S arrays (S pixels a plane), and channels last, where a pixel is a row.
//
// All kernels of the package work on rows. A block of 32 x 8 threads turns tiles of 32 x 32 numbers
// over in shared memory, so that reads and writes are both of neighbours.
#include "numbers.cuh"

const int TILE = 32;

struct Layout {
    Index C, S, G;  // channels and pixels of a plane; channel c = o G + g is column g C/G + o of a row
};

// The column of a channel: channels of one of G groups, such as a bin's score maps, side by side.
__device__ __forceinline__ Index column_of(Index c, const Layout& of) {
    return of.G == 1 ? c : c % of.G * (of.C / of.G) + c / of.G;
}

// rows[r - first, column_of(c)] = planes[n, c, s] for `count` rows r = n S + s from `first` on.
extern "C" __global__ void to_rows(const T* planes, T* rows, Layout of, Index first, Index count) {
    __shared__ T tile[TILE][TILE + 1];
    const Index across = (of.C + TILE - 1) / TILE, tiles = (count + TILE - 1) / TILE * across;
    for (Index t = blockIdx.x; t < tiles; t += gridDim.x) {
        const Index r0 = t / across * TILE, c0 = t % across * TILE;
        for (int i = threadIdx.y; i < TILE; i += blockDim.y) {
            const Index r = r0 + threadIdx.x, c = c0 + i, n = (first + r) / of.S;
            if (r < count && c < of.C)
                tile[i][threadIdx.x] = planes[(n * of.C + c) * of.S + (first + r) % of.S];
        }
        __syncthreads();
        for (int i = threadIdx.y; i < TILE; i += blockDim.y) {
            const Index r = r0 + i, c = c0 + threadIdx.x;
            if (r < count && c < of.C) rows[r * of.C + column_of(c, of)] = tile[threadIdx.x][i];
        }
        __syncthreads();
    }
}

// planes[n, c, s] = rows[r - first, column_of(c)] + bias[c], rounded once; bias may be null. With
// `by_rows` the planes are channels last too: planes[n, s, c].
extern "C" __global__ void to_planes(const A* rows, const T* bias, T* planes, Layout of,
                                     Index first, Index count, int by_rows) {
    __shared__ A tile[TILE][TILE + 1];
    const Index across = (of.C + TILE - 1) / TILE, tiles = (count + TILE - 1) / TILE * across;
    for (Index t = blockIdx.x; t < tiles; t += gridDim.x) {
        const Index r0 = t / across * TILE, c0 = t % across * TILE;
        for (int i = threadIdx.y; i < TILE; i += blockDim.y) {
            const Index r = r0 + i, c = c0 + threadIdx.x;
            if (r < count && c < of.C) {
                const A value = rows[r * of.C + column_of(c, of)] + (bias ? number(bias[c]) : A(0));
                if (by_rows) put(planes[(first + r) * of.C + c], value);
                else tile[i][threadIdx.x] = value;
            }
        }
        __syncthreads();
        for (int i = threadIdx.y; i < TILE && !by_rows; i += blockDim.y) {
            const Index r = r0 + threadIdx.x, c = c0 + i, n = (first + r) / of.S;
            if (r < count && c < of.C)
                put(planes[(n * of.C + c) * of.S + (first + r) % of.S], tile[threadIdx.x][i]);
        }
        __syncthreads();
    }
}

// total[c] += the sum of column c of `count` rows: a block of 32 x 8 threads adds up 32 columns at a
// time, so the order of the sum is fixed.
extern "C" __global__ void sum_rows(const T* rows, A* total, Index C, Index count) {
    __shared__ A partial[8][TILE];
    for (Index c0 = static_cast<Index>(blockIdx.x) * TILE; c0 < C; c0 += gridDim.x * TILE) {
        const Index c = c0 + threadIdx.x;
        A value = 0;
        if (c < C)
            for (Index r = threadIdx.y; r < count; r += 8) value += number(rows[r * C + c]);
        partial[threadIdx.y][threadIdx.x] = value;
        __syncthreads();
        if (threadIdx.y == 0 && c < C) {
            for (int i = 1; i < 8; ++i) value += partial[i][threadIdx.x];
            total[c] += value;
        }
        __syncthreads();
    }
}
