// Deformable convolution, equation (2), in one kernel: no columns in memory.
//
//   y[n, o, s] = bias[o] + sum over taps k and channels c of w[o, c, k] m[n, k, s] x(p)[n, c, k, s]
//
// Blocks share out tiles of output pixels and channels; where these are few, several blocks
// add up channels of their own each, and `add_sums` adds their sums in order. No atomics.
#include "fused.cuh"

// What a launch works on; y and the sums are N x O x S, or N x S x O `by_rows`.
struct Work {
    Index pixels, S;
    int O, sums, by_rows;  // output channels of a group, and into how many sums each sum is split
};

// Its share of the tiles: pixels fastest, then output channels, then the sums of it, then groups.
struct Tile {
    Index row;           // the first output pixel
    int column, group;   // the first output channel of a group
    int sum, begin, end;  // chunks of DEPTH channels

    __device__ __forceinline__ Tile(Index t, const Work& of, const Shape& s) {
        const int chunks = s.I / DEPTH;
        const Index down = (of.pixels + ROWS - 1) / ROWS;
        const int across = (of.O + COLUMNS - 1) / COLUMNS;
        row = t % down * ROWS, column = static_cast<int>(t / down % across) * COLUMNS;
        sum = static_cast<int>(t / down / across % of.sums);
        group = s.C == s.I ? 0 : static_cast<int>(t / down / across / of.sums);
        begin = chunks * sum / of.sums, end = chunks * (sum + 1) / of.sums;
    }
};

// The columns that are on their way: a tap of channels from `from` on.
struct Next {
    const Words* from;
    int tap;
    Gathered values;

    __device__ __forceinline__ void advance(const Shape& s) {
        if (++tap == s.K) tap = 0, from += ROW_VECTORS;
    }
};

// sums += the products of chunks `begin` to `end`, all of one offset group. While step i multiplies,
// the columns of the next turn are gathered and the weights of step i + STAGES - 1 are copied. A
// gather ends a branch or an iteration, so that no compiler moves it to where its values are used.
__device__ __forceinline__ void add_chunks(Sums& sums, const Memory& memory, const T* x,
                                           const T* weights, int begin, int end,
                                           const Shape& s) {
    const int steps = (end - begin) * s.K;
    weights += begin * s.K * OF_STEP;
    for (int stage = 0; stage < STAGES - 1; ++stage, weights += OF_STEP) {
        if (stage < steps) copy(memory, weights, stage);
        cp_async_commit();
    }
    Next next = {reinterpret_cast<const Words*>(x) + begin * ROW_VECTORS, 0};
    for (int turn = 0; turn < TURNS; ++turn) {
        gather(next.values, next.from, memory, next.tap, turn, s);
        store<T>(next.values, memory, next.tap, 0, turn);
    }
    next.advance(s);
    if (steps > 1) gather(next.values, next.from, memory, next.tap, 0, s);
    int stage = 0, free = STAGES - 1;
    #pragma unroll 1
    for (int i = 0; i < steps; ++i, weights += OF_STEP) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();  // the tiles of step i are whole, and nobody reads those of step i - 1
        if (i + STAGES - 1 < steps) copy(memory, weights, free);
        cp_async_commit();
        #pragma unroll
        for (int turn = 0; turn < TURNS; ++turn) {
            multiply(sums, memory, i % 2, stage, turn);
            if (i + 1 == steps) continue;
            store<T>(next.values, memory, next.tap, (i + 1) % 2, turn);
            const bool last = turn == TURNS - 1;
            if (last) next.advance(s);
            if (!last || i + 2 < steps)
                gather(next.values, next.from, memory, next.tap, last ? 0 : turn + 1, s);
        }
        free = stage, stage = stage == STAGES - 1 ? 0 : stage + 1;
    }
}

// The number of an output in y, and in each of several sums.
__device__ __forceinline__ Index number_of(Index pixel, Index o, Index O, const Work& of) {
    return of.by_rows ? pixel * O + o : (pixel / of.S * O + o) * of.S + pixel % of.S;
}

// to[0] = first and to[apart] = second, at once if `wide`; not the second if there is but one.
template <class N>
__device__ __forceinline__ void put_two(N* to, Index apart, bool wide, bool both, A first,
                                        A second) {
    if (wide) {
        Vec<N, 2> two;
        put(two.at[0], first), put(two.at[1], second);
        *reinterpret_cast<Vec<N, 2>*>(to) = two;
    } else {
        put(to[0], first);
        if (both) put(to[apart], second);
    }
}

// Writes a warp's sums to y, or among several sums of the same if there are such.
__device__ __forceinline__ void write(const Sums& sums, const Tile& tile, const Work& of,
                                      const T* bias, T* y, A* several, const Shape& s) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Index O = s.C / s.I * of.O, apart = of.by_rows ? 1 : of.S;
    const Index m = tile.row + warp % WARPS_DOWN * (M_TILES * 16) + lane / 4;
    const int n = tile.column + warp / WARPS_DOWN * (N_TILES * 8) + lane % 4 * 2;
    const bool wide = of.by_rows && of.O % 2 == 0;
    #pragma unroll
    for (int i = 0; i < 2 * M_TILES; ++i) {
        const Index pixel = m + i * 8;
        if (pixel >= of.pixels) continue;
        #pragma unroll
        for (int j = 0; j < N_TILES; ++j) {
            const int column = n + j * 8, o = tile.group * of.O + column;
            if (column >= of.O) continue;
            const bool both = column + 1 < of.O;
            const Index at = number_of(pixel, o, O, of);
            const A *sum = sums.at[i / 2][j] + i % 2 * 2, none = 0;
            if (several) {
                put_two(several + tile.sum * (of.pixels * O) + at, apart, wide, both, sum[0],
                        sum[1]);
            } else {
                put_two(y + at, apart, wide, both, sum[0] + (bias ? number(bias[o]) : none),
                        sum[1] + (bias && both ? number(bias[o + 1]) : none));
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    fused(const T* x, const P* offset, const T* mask, const T* weights, const T* bias, T* y,
          A* several, Shape given, Work of, Index tiles) {
    const Shape s = known(given);
    const Memory memory(s);
    for (Index t = blockIdx.x; t < tiles; t += gridDim.x) {
        const Tile tile(t, of, s);
        const int across = (of.O + COLUMNS - 1) / COLUMNS;
        const T* of_tile = weights + (tile.group * across + tile.column / COLUMNS) *
                                         (s.I / DEPTH * s.K * OF_STEP);
        const int in_group = s.C / s.G;  // channels of an offset group
        Sums sums = {};
        for (int begin = tile.begin; begin < tile.end;) {
            const int c = tile.group * s.I;
            const int offset_group = s.G == 1 ? 0 : (c + begin * DEPTH) / in_group;
            const int last = ((offset_group + 1) * in_group - c) / DEPTH;
            const int end = s.G == 1 ? tile.end : min(tile.end, last);
            find(memory, offset, mask, s, offset_group, tile.row, of.pixels);
            __syncthreads();  // before they are read, and tiles are written again
            add_chunks(sums, memory, x + c, of_tile, begin, end, s);
            begin = end;
        }
        write(sums, tile, of, bias, y, several, s);
    }
}

// The weights in the order of their steps, tiles x I / DEPTH x K x COLUMNS x DEPTH; each group
// has tiles of its own, and zeros where it has no channel. w is O x I x K, or O x K x I `by_rows`.
extern "C" __global__ void pack(const T* w, T* packed, Shape given, Work of, Index tiles) {
    const Shape s = known(given);
    const int across = (of.O + COLUMNS - 1) / COLUMNS, chunks = s.I / DEPTH;
    for (Index t = FIRST; t < tiles * COLUMNS * s.K * s.I; t += STEP) {
        const int d = t % DEPTH, k = t / DEPTH % s.K, i = t / DEPTH / s.K % chunks * DEPTH + d;
        const Index row = t / (s.K * s.I), tile = row / COLUMNS, o = row % (across * COLUMNS);
        const Index from = row / (across * COLUMNS) * of.O + o;
        A value = 0;
        if (o < of.O) value = number(w[of.by_rows ? (from * s.K + k) * s.I + i
                                               : (from * s.I + i) * s.K + k]);
        const Index step = (tile * chunks + i / DEPTH) * s.K + k;
        put(packed[step * OF_STEP + row % COLUMNS * DEPTH + d],
            sizeof(T) == 4 ? __uint_as_float(operand(value)) : value);
    }
}

// y = bias + all sums of an output, first to last; N x O x S, or N x S x O `by_rows`.
extern "C" __global__ void add_sums(const A* sums, const T* bias, T* y, Shape given, Work of) {
    const Shape s = known(given);
    const Index O = s.C / s.I * of.O, size = of.pixels * O;
    for (Index t = FIRST; t < size; t += STEP) {
        A sum = sums[t];
        for (int i = 1; i < of.sums; ++i) sum += sums[i * size + t];
        const Index o = of.by_rows ? t % O : t / of.S % O;
        put(y[t], bias ? sum + number(bias[o]) : sum);
    }
}
