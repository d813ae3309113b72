// The parts of the fused kernel: what a block keeps, how tiles get there, and their products.
//
// deform_conv.cu            here                         why it differs
// points, in memory         find, in the block           all channels share them; none are written
// a weight per axis         four weights                 four products for a number, not six
// pixels clamped            patches moved into the map   one address, constant distances
// columns, in memory        gather, store                a tile of columns lives in a block
// cuBLAS                    multiply                     tensor cores
//
// A block makes ROWS output pixels x COLUMNS output channels. It adds up steps, each of DEPTH
// channels of a tap; taps run faster than channels, so that what a tile reads of x stays in L1.
#pragma once

#include "points.cuh"
#include "tensor_cores.cuh"

const int THREADS = 32 * WARPS_DOWN * WARPS_ACROSS;
const int M_TILES = ROWS / WARPS_DOWN / 16, N_TILES = COLUMNS / WARPS_ACROSS / 8;  // of a warp
static_assert(ROWS % (16 * WARPS_DOWN) == 0 && COLUMNS % (16 * WARPS_ACROSS) == 0, "fragments");
const int OF_STEP = COLUMNS * DEPTH;  // weights
const int STEP_BYTES = DEPTH * sizeof(T), ROW_VECTORS = STEP_BYTES / 16;
const int ROW_BYTES = STEP_BYTES + 16;  // so that eight rows lie in different banks of memory
const int AT_ONCE = THREADS / ROW_VECTORS;           // rows that a block gathers or copies at once
const int VECTORS = (ROWS + AT_ONCE - 1) / AT_ONCE;  // that a thread gathers
// A step is made in turns, each with vectors of its own in registers: two where products are three
// times as many, and take as long as the loads of half of the vectors.
const int TURNS = PARTS > 1 && VECTORS == 2 && STEP_BYTES == 64 ? 2 : 1;

// The row of the threads' n-th ROW_VECTORS. Memory takes 16 bytes of eight threads at once: these
// rows of 80 or 48 bytes then lie in all banks, where those in order meet in one, and take twice.
__device__ __forceinline__ int row_of(int n) {
    const int in = n % 8;
    return n - in + (ROW_VECTORS == 4 ? in % 2 * 4 + in / 2 : in % 4 * 2 + in / 4);
}

// What a block keeps: columns twice, weights STAGES times, and what all channels share; and where
// in each a thread works.
struct Memory {
    char *columns, *weights;
    Wide<A, 4>* g;    // K x ROWS: m G(q, p) of the four pixels
    int* first;       // K x ROWS: the first pixel's channels, in vectors
    int row, vector;  // that a thread gathers and copies first; then every AT_ONCE rows
    int mine, a, b;   // bytes to these, and to what `ldmatrix` is told of columns and of weights

    __device__ __forceinline__ Memory(const Shape& s) : columns(block_memory()) {
        weights = columns + 2 * ROWS * ROW_BYTES;
        g = reinterpret_cast<Wide<A, 4>*>(weights + STAGES * COLUMNS * ROW_BYTES);
        first = reinterpret_cast<int*>(g + s.K * ROWS);
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        row = row_of(threadIdx.x / ROW_VECTORS), vector = threadIdx.x % ROW_VECTORS;
        mine = row * ROW_BYTES + vector * 16;
        a = (warp % WARPS_DOWN * (M_TILES * 16) + lane % 16) * ROW_BYTES + lane / 16 * 16;
        b = (warp / WARPS_DOWN * (N_TILES * 8) + lane % 8 + lane / 16 * 8) * ROW_BYTES +
            lane / 8 % 2 * 16;
    }
    __device__ __forceinline__ char* column(int buffer, int row) const {
        return columns + (buffer * ROWS + row) * ROW_BYTES;
    }
    __device__ __forceinline__ char* weight(int stage, int row) const {
        return weights + (stage * COLUMNS + row) * ROW_BYTES;
    }
};

// A pair of pixels that are both in the map, and what each one weighs.
struct Inside {
    int pixel;
    A g[2];
};

// The two pixels of an axis moved into the map: a pixel outside it weighs nothing.
__device__ __forceinline__ Inside inside(int pixel, int step, A lower, A upper, int size) {
    if (step == 1) return {pixel, {lower, upper}};
    const int first = max(min(pixel, size - 2), 0);  // both are `pixel`, and one weighs nothing
    const A both = lower + upper;
    return {first, {first == pixel ? both : A(0), first == pixel ? A(0) : both}};
}

// Equation (4) for all taps of ROWS output pixels from `first` on, in offset group `group`.
__device__ __forceinline__ void find(const Memory& to, const P* offset, const T* mask,
                                     const Shape& s, Index group, Index first, Index pixels) {
    #pragma unroll 1
    for (int i = threadIdx.x; i < s.K * ROWS; i += THREADS) {
        const Index p = first + i % ROWS;
        Wide<A, 4> g = {A(0), A(0), A(0), A(0)};
        int at = 0;
        if (p < pixels) {
            const Point point((p * s.G + group) * s.K + i / ROWS, 0, s);
            const Cell c = cell_of(offset, point, 0, s);
            const A m = modulation(mask, point, s);
            const int row = c.at.first / s.W, column = c.at.first % s.W, y = row % s.H;
            const Inside of_y = inside(y, c.at.down, c.g.at[0], c.g.at[1], s.H);
            const Inside of_x = inside(column, c.at.across, c.g.at[2], c.g.at[3], s.W);
            for (int j = 0; j < 4; ++j) g.at[j] = m * of_y.g[j / 2] * of_x.g[j % 2];
            at = ((row - y + of_y.pixel) * s.W + of_x.pixel) * (s.C / VEC);
        }
        to.g[i] = g;
        to.first[i] = at;
    }
}

typedef Vec<unsigned, 4> Words;  // 16 bytes, as they are until they are used

// The vectors of x that a thread gathers for a turn, four pixels of each.
struct Gathered {
    Words at[VECTORS / TURNS][4];
};

// Whether vector v of a thread is one of the tile; else it has fewer vectors than threads.
__device__ __forceinline__ bool in_tile(const Memory& memory, int v) {
    return ROWS % AT_ONCE == 0 || memory.row + v * AT_ONCE < ROWS;
}

// The four pixels of a tap, ROW_VECTORS vectors of channels from `from` on.
__device__ __forceinline__ void gather(Gathered& to, const Words* from, const Memory& memory,
                                       int tap, int turn, const Shape& s) {
    const int across = s.C / VEC, down = s.W * across;
    #pragma unroll
    for (int i = 0; i < VECTORS / TURNS; ++i) {
        const int v = turn * (VECTORS / TURNS) + i;
        if (!in_tile(memory, v)) continue;
        const Words* x =
            from + (memory.first[tap * ROWS + memory.row + v * AT_ONCE] + memory.vector);
        to.at[i][0] = x[0], to.at[i][1] = x[across];
        to.at[i][2] = x[down], to.at[i][3] = x[down + across];
    }
}

// Number i of a word: one float, or one of two of 16 bits.
__device__ __forceinline__ A number_in(float, unsigned word, int) { return __uint_as_float(word); }
__device__ __forceinline__ A number_in(half, unsigned word, int i) {
    return half_to_float(static_cast<unsigned short>(word >> 16 * i));
}
__device__ __forceinline__ A number_in(bfloat16, unsigned word, int i) {
    return __uint_as_float(i ? word & 0xffff0000u : word << 16);
}

// Equation (3): number i of a vector, times the mask.
__device__ __forceinline__ A sampled(const Words (&x)[4], const Wide<A, 4>& g, int i) {
    const int in_word = 4 / sizeof(T);
    A value = 0;
    #pragma unroll
    for (int j = 0; j < 4; ++j)
        value += g.at[j] * number_in(T(), x[j].at[i / in_word], i % in_word);
    return value;
}

// Numbers as the tensor cores take them, in registers: one float, or two of 16 bits.
__device__ __forceinline__ unsigned two(half, A first, A second) {
    return two_halves(first, second);
}
__device__ __forceinline__ unsigned two(bfloat16, A first, A second) {
    return two_bfloats(first, second);
}

// float32 as it lies in shared memory: as it is if it will be split, else rounded.
__device__ __forceinline__ unsigned operand(A value) {
    return PARTS == 1 ? to_tf32(value) : __float_as_uint(value);
}

// Interpolates what was gathered for a tap, and writes it to a buffer of columns. N is T.
template <class N>
__device__ __forceinline__ void store(const Gathered& from, const Memory& memory, int tap,
                                      int buffer, int turn) {
    #pragma unroll
    for (int j = 0; j < VECTORS / TURNS; ++j) {
        const int v = turn * (VECTORS / TURNS) + j;
        if (!in_tile(memory, v)) continue;
        const Wide<A, 4> g = memory.g[tap * ROWS + memory.row + v * AT_ONCE];
        Words values;
        #pragma unroll
        for (int i = 0; i < 4; ++i) {
            if constexpr (sizeof(N) == 2)
                values.at[i] = two(N(), sampled(from.at[j], g, 2 * i),
                                   sampled(from.at[j], g, 2 * i + 1));
            else values.at[i] = operand(sampled(from.at[j], g, i));
        }
        *reinterpret_cast<Words*>(memory.column(buffer, v * AT_ONCE) + memory.mine) = values;
    }
}

// Begins to copy the weights of a step, COLUMNS x DEPTH numbers from `from` on.
__device__ __forceinline__ void copy(const Memory& memory, const T* from, int stage) {
    #pragma unroll
    for (int v = 0; v < (COLUMNS + AT_ONCE - 1) / AT_ONCE; ++v)
        if (COLUMNS % AT_ONCE == 0 || memory.row + v * AT_ONCE < COLUMNS)
            cp_async(memory.weight(stage, v * AT_ONCE) + memory.mine,
                     from + ((memory.row + v * AT_ONCE) * ROW_VECTORS + memory.vector) * VEC, true);
}

// A warp's sums, ROWS / WARPS_DOWN x COLUMNS / WARPS_ACROSS numbers.
struct Sums {
    A at[M_TILES][N_TILES][4];
};

__device__ __forceinline__ void mma(float, A (&d)[4], const unsigned (&a)[4],
                                    const unsigned (&b)[2]) {
    mma_tf32(d, a, b);
}
__device__ __forceinline__ void mma(half, A (&d)[4], const unsigned (&a)[4],
                                    const unsigned (&b)[2]) {
    mma_half(d, a, b);
}
__device__ __forceinline__ void mma(bfloat16, A (&d)[4], const unsigned (&a)[4],
                                    const unsigned (&b)[2]) {
    mma_bfloat(d, a, b);
}

// float32 as two numbers of tf32 whose sum it is, to 22 bits: the nearest one, and 11 bits of the
// rest. NaN stays NaN in the rest; what rounds beyond the largest float is infinite, then NaN.
// 16 bits and tf32 are as they are.
template <int COUNT>
struct Parts {
    unsigned at[PARTS][COUNT];

    __device__ __forceinline__ void set(int i, unsigned bits) {
        at[0][i] = bits;
        if constexpr (PARTS == 2) {
            at[0][i] = (bits + 0x1000u) & 0xffffe000u;
            const A rest = __uint_as_float(bits) - __uint_as_float(at[0][i]);
            at[1][i] = __float_as_uint(rest) & 0xffffe000u;
        }
    }
};

// d += a b. In two parts a sum starts anew for each fragment, small terms first, and is added
// outside of the tensor core, which cuts off where float32 rounds.
__device__ __forceinline__ void multiply(A (&d)[4], const Parts<4>& a, const Parts<2>& b) {
    if constexpr (PARTS == 1) {
        mma(T(), d, a.at[0], b.at[0]);
    } else {
        A sum[4] = {};
        mma(T(), sum, a.at[1], b.at[0]);
        mma(T(), sum, a.at[0], b.at[1]);
        mma(T(), sum, a.at[0], b.at[0]);
        for (int i = 0; i < 4; ++i) d[i] += sum[i];
    }
}

// sums += columns weights^T, of a buffer and a stage: the channels of a turn.
__device__ __forceinline__ void multiply(Sums& sums, const Memory& memory, int buffer, int stage,
                                         int turn) {
    const int bytes = STEP_BYTES / TURNS;
    unsigned four[4];
    #pragma unroll
    for (int k = turn * bytes; k < (turn + 1) * bytes; k += 32) {  // bytes, two vectors
        Parts<2> b[N_TILES];
        #pragma unroll
        for (int j = 0; j < N_TILES; j += 2) {
            ldmatrix(four, memory.weight(stage, j * 8) + memory.b + k);
            for (int i = 0; i < 4; ++i) b[j + i / 2].set(i % 2, four[i]);
        }
        #pragma unroll
        for (int i = 0; i < M_TILES; ++i) {
            ldmatrix(four, memory.column(buffer, i * 16) + memory.a + k);
            Parts<4> a;
            for (int e = 0; e < 4; ++e) a.set(e, four[e]);
            #pragma unroll
            for (int j = 0; j < N_TILES; ++j) multiply(sums.at[i][j], a, b[j]);
        }
    }
}
