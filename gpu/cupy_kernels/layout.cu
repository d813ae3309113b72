// Planes and pixels: N C S arrays (S pixels a plane), and channels last, where a pixel is a row.
//
// All kernels of the package work on rows. A block of 32 x 8 threads turns tiles of 32 x 32 numbers
// over in shared memory, so that reads and writes are both of neighbours.
#include "numbers.cuh"

const int TILE = 32;

template <class Row>
using Tile = Row[TILE][TILE + 1];  // a column more, so that a column is not in one bank of memory

struct Layout {
    Index C, S, G;  // channels and pixels of a plane; channel c = o G + g is column g C/G + o of a row
};

// The column of a channel: channels of one of G groups, such as a bin's score maps, side by side.
__device__ __forceinline__ Index column_of(Index c, const Layout& of) {
    return of.G == 1 ? c : c % of.G * (of.C / of.G) + c / of.G;
}

// rows[r - first, column_of(c)] = planes[n, c, s] for `count` rows r = n S + s from `first` on.
template <class Row>
__device__ __forceinline__ void turn_planes(const T* planes, Row* rows, Tile<Row>& tile,
                                            const Layout& of, Index first, Index count) {
    const Index across = (of.C + TILE - 1) / TILE, tiles = (count + TILE - 1) / TILE * across;
    for (Index t = blockIdx.x; t < tiles; t += gridDim.x) {
        const Index r0 = t / across * TILE, c0 = t % across * TILE;
        for (int i = threadIdx.y; i < TILE; i += blockDim.y) {
            const Index r = r0 + threadIdx.x, c = c0 + i, n = (first + r) / of.S;
            if (r < count && c < of.C)
                put(tile[i][threadIdx.x], number(planes[(n * of.C + c) * of.S + (first + r) % of.S]));
        }
        __syncthreads();
        for (int i = threadIdx.y; i < TILE; i += blockDim.y) {
            const Index r = r0 + i, c = c0 + threadIdx.x;
            if (r < count && c < of.C) rows[r * of.C + column_of(c, of)] = tile[threadIdx.x][i];
        }
        __syncthreads();
    }
}

extern "C" __global__ void to_rows(const T* planes, T* rows, Layout of, Index first, Index count) {
    __shared__ Tile<T> tile;
    turn_planes(planes, rows, tile, of, first, count);
}

// The same as numbers of A.
extern "C" __global__ void to_wide_rows(const T* planes, A* rows, Layout of, Index first,
                                        Index count) {
    __shared__ Tile<A> tile;
    turn_planes(planes, rows, tile, of, first, count);
}

// planes[n, c, s] = rows[r - first, column_of(c)] + bias[c], rounded once; bias may be null. With
// `by_rows` the planes are channels last too: planes[n, s, c].
template <class Row>
__device__ __forceinline__ void turn_rows(const Row* rows, const T* bias, T* planes, Tile<A>& tile,
                                          const Layout& of, Index first, Index count, int by_rows) {
    const Index across = (of.C + TILE - 1) / TILE, tiles = (count + TILE - 1) / TILE * across;
    for (Index t = blockIdx.x; t < tiles; t += gridDim.x) {
        const Index r0 = t / across * TILE, c0 = t % across * TILE;
        for (int i = threadIdx.y; i < TILE; i += blockDim.y) {
            const Index r = r0 + i, c = c0 + threadIdx.x;
            if (r < count && c < of.C) {
                const A value = number(rows[r * of.C + column_of(c, of)]);
                const A moved = bias ? value + number(bias[c]) : value;
                if (by_rows) put(planes[(first + r) * of.C + c], moved);
                else tile[i][threadIdx.x] = moved;
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

extern "C" __global__ void to_planes(const T* rows, const T* bias, T* planes, Layout of,
                                     Index first, Index count, int by_rows) {
    __shared__ Tile<A> tile;
    turn_rows(rows, bias, planes, tile, of, first, count, by_rows);
}

// The same from numbers of A.
extern "C" __global__ void from_wide_rows(const A* rows, const T* bias, T* planes, Layout of,
                                          Index first, Index count, int by_rows) {
    __shared__ Tile<A> tile;
    turn_rows(rows, bias, planes, tile, of, first, count, by_rows);
}

const int ACROSS = 8, DOWN = 64;

// total[c] += the sum of column c of `count` rows. A block of 8 x 64 threads adds up 8 columns at a
// time, 32 bytes of a row, so the order of the sum is fixed.
extern "C" __global__ void sum_rows(const T* rows, A* total, Index C, Index count) {
    __shared__ A partial[DOWN][ACROSS];
    for (Index c0 = static_cast<Index>(blockIdx.x) * ACROSS; c0 < C; c0 += gridDim.x * ACROSS) {
        const Index c = c0 + threadIdx.x;
        A value = 0;
        if (c < C)
            for (Index r = threadIdx.y; r < count; r += DOWN) value += number(rows[r * C + c]);
        partial[threadIdx.y][threadIdx.x] = value;
        __syncthreads();
        if (threadIdx.y == 0 && c < C) {
            for (int i = 1; i < DOWN; ++i) value += partial[i][threadIdx.x];
            total[c] += value;
        }
        __syncthreads();
    }
}
