// The weight gradient of deformable convolution on tensor cores, with no columns in memory.
//
// deform_conv.cu, cuBLAS   here             why it differs
// columns, in memory       a tile of them   gathered into shared memory: one tap, TILE_C channels
// grad_output^T columns    grad_weight      grad_w[o, k, i] = sum_p grad[p, o] col[p, k, i], by mma
// one sum over the pixels  several of them  for blocks enough; add_partials adds them in order
//
// The words of `fused_words.cuh` are pixels, or two neighbours. Nothing is added by atomics.
#include "bilinear.cuh"
#include "fused_words.cuh"

const int THREADS = 32 * WARPS_O * WARPS_C;
const int PIXELS = DEPTH * PER_WORD;     // of a step
const int ROWS = TILE_O / WARPS_O / 16;  // fragments of a warp
const int COLUMNS = TILE_C / WARPS_C / 8;
const int GRADS = DEPTH * (TILE_O / VEC_O) / THREADS;    // vectors of a thread in a step
const int SAMPLES = DEPTH * (TILE_C / VEC) / THREADS;
static_assert(GRADS * THREADS == DEPTH * (TILE_O / VEC_O), "whole vectors for every thread");
static_assert(SAMPLES * THREADS == DEPTH * (TILE_C / VEC), "whole vectors for every thread");

struct Sizes {
    int C, I, G, K, W, O;  // channels, those of a weight group, offset groups, taps, width, outputs
    int count, splits;     // pixels of the chunk, and into how many sums they are split
};

// A row is 8 words longer than the tile: the words of a fragment are in 32 different banks.
template <int WIDTH>
using Tile = Words[2][DEPTH][(WIDTH + 8) / 4];

// What of the whole a block works on: a tile of one tap, and a part of the pixels.
struct Part {
    int o, outputs, k, i, c, first, last;  // outputs: the first beyond this group's

    __device__ __forceinline__ Part(int number, const Sizes& s) {
        const int groups = s.C / s.I, of_group = s.O / groups;
        const int across = (s.I + TILE_C - 1) / TILE_C, down = (of_group + TILE_O - 1) / TILE_O;
        i = number % across * TILE_C, number /= across;
        k = number % s.K, number /= s.K;
        o = number % down * TILE_O, number /= down;
        const int group = number % groups, split = number / groups;
        o += group * of_group, outputs = (group + 1) * of_group, c = group * s.I + i;
        const int steps = (s.count + PIXELS - 1) / PIXELS, each = (steps + s.splits - 1) / s.splits;
        first = min(split * each * PIXELS, s.count);
        last = min(first + each * PIXELS, s.count);
    }
};

// One word of a tile.
template <int WIDTH>
__device__ __forceinline__ unsigned word(const Tile<WIDTH>& tile, int buffer, int row, int column) {
    return reinterpret_cast<const unsigned*>(tile[buffer][row])[column];
}

// grad_output of a step, from memory by way of registers.
struct Grads {
    Vec<T, VEC_O> at[GRADS][PER_WORD];

    __device__ __forceinline__ void read(const T* grad, const Part& part, int first,
                                         const Sizes& s) {
#pragma unroll
        for (int v = 0; v < GRADS; ++v) {
            const int item = static_cast<int>(threadIdx.x) + v * THREADS;
            const int o = part.o + item % (TILE_O / VEC_O) * VEC_O;
#pragma unroll
            for (int j = 0; j < PER_WORD; ++j) {
                const int p = first + item / (TILE_O / VEC_O) * PER_WORD + j;
                if (p < part.last && o < part.outputs)
                    at[v][j] = *reinterpret_cast<const Vec<T, VEC_O>*>(grad + p * s.O + o);
                else
                    at[v][j] = Vec<T, VEC_O>{};
            }
        }
    }

    __device__ __forceinline__ void store(Tile<TILE_O>& tile, int buffer) const {
#pragma unroll
        for (int v = 0; v < GRADS; ++v) {
            const int item = static_cast<int>(threadIdx.x) + v * THREADS;
            const auto of = [&](int i) {
                float value[PER_WORD];
#pragma unroll
                for (int j = 0; j < PER_WORD; ++j) value[j] = number(at[v][j].at[i]);
                return word_of(value, T());
            };
            put_words<VEC_O>(tile[buffer][item / (TILE_O / VEC_O)],
                             item % (TILE_O / VEC_O) * VEC_O, of);
        }
    }
};

// The columns of a step: equation (3) for one tap. A point is read a step before its corners.
struct Samples {
    Pixels place[SAMPLES][PER_WORD];
    Weights g[SAMPLES][PER_WORD];
    Corners four[SAMPLES][PER_WORD];

    // The number of the point of a thread's vector `v`, or -1 where there is none.
    __device__ __forceinline__ static int point(const Part& part, int first, int v, int j,
                                                const Sizes& s) {
        const int item = static_cast<int>(threadIdx.x) + v * THREADS;
        const int within = item % (TILE_C / VEC) * VEC;
        const int p = first + item / (TILE_C / VEC) * PER_WORD + j;
        if (p >= part.last || part.i + within >= s.I) return -1;
        return (p * s.G + (part.c + within) / (s.C / s.G)) * s.K + part.k;
    }

    __device__ __forceinline__ void find(const Pixels* pixels, const Part& part, int first,
                                         const Sizes& s) {
#pragma unroll
        for (int v = 0; v < SAMPLES; ++v)
#pragma unroll
            for (int j = 0; j < PER_WORD; ++j) {
                const int t = point(part, first, v, j, s);
                if (t >= 0) place[v][j] = pixels[t];
            }
    }

    __device__ __forceinline__ void read(const T* x, const Weights* weights, const Part& part,
                                         int first, const Sizes& s) {
#pragma unroll
        for (int v = 0; v < SAMPLES; ++v)
#pragma unroll
            for (int j = 0; j < PER_WORD; ++j) {
                const int t = point(part, first, v, j, s);
                const int item = static_cast<int>(threadIdx.x) + v * THREADS;
                if (t >= 0) {
                    g[v][j] = weights[t];
                    four[v][j] =
                        ::read(x, place[v][j], s.W, s.C, part.c + item % (TILE_C / VEC) * VEC);
                } else {
                    g[v][j] = Weights{}, four[v][j] = Corners{};
                }
            }
    }

    __device__ __forceinline__ void store(Tile<TILE_C>& tile, int buffer) const {
#pragma unroll
        for (int v = 0; v < SAMPLES; ++v) {
            const int item = static_cast<int>(threadIdx.x) + v * THREADS;
            const auto of = [&](int i) {
                float value[PER_WORD];
#pragma unroll
                for (int j = 0; j < PER_WORD; ++j) {
                    const Weights& w = g[v][j];
                    value[j] = sum(four[v][j], i, w.at[0], w.at[1], w.at[2], w.at[3]);
                }
                return word_of(value, T());
            };
            put_words<VEC>(tile[buffer][item / (TILE_C / VEC)], item % (TILE_C / VEC) * VEC, of);
        }
    }
};

// d += the product of the tiles of a step, for the fragments of a warp.
__device__ __forceinline__ void add_step(float (&d)[ROWS][COLUMNS][4], const Tile<TILE_O>& grads,
                                         const Tile<TILE_C>& samples, int buffer) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int group = lane / 4, t = lane % 4;
    const int o = warp / WARPS_C * (ROWS * 16) + group, c = warp % WARPS_C * (COLUMNS * 8) + group;
#pragma unroll
    for (int k = 0; k < DEPTH; k += 8) {
        unsigned b[COLUMNS][2];
#pragma unroll
        for (int n = 0; n < COLUMNS; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i)
                b[n][i] = word<TILE_C>(samples, buffer, k + t + 4 * i, c + 8 * n);
#pragma unroll
        for (int m = 0; m < ROWS; ++m) {
            unsigned a[4];
#pragma unroll
            for (int i = 0; i < 4; ++i)
                a[i] = word<TILE_O>(grads, buffer, k + t + 4 * (i / 2), o + 16 * m + 8 * (i % 2));
#pragma unroll
            for (int n = 0; n < COLUMNS; ++n) multiply(d[m][n], a, b[n], T());
        }
    }
}

// partial[split, o, k, i] = the sum over the pixels of a split. `grad` is pixels x O, x is channels
// last, g and pixels are of `points`, with the mask in g.
extern "C" __global__ void __launch_bounds__(THREADS, 1) grad_weight(const T* grad, const T* x,
                                                                  const Weights* g,
                                                                  const Pixels* pixels, A* partial,
                                                                  Sizes s, int parts) {
    __shared__ Tile<TILE_O> grads;
    __shared__ Tile<TILE_C> samples;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    for (int number = blockIdx.x; number < parts; number += gridDim.x) {
        const Part part(number, s);
        const int steps = (part.last - part.first + PIXELS - 1) / PIXELS;
        float d[ROWS][COLUMNS][4] = {};
        Grads of_grad;
        Samples of_x;
        of_x.find(pixels, part, part.first, s);
        of_x.read(x, g, part, part.first, s), of_grad.read(grad, part, part.first, s);
        of_x.store(samples, 0), of_grad.store(grads, 0);
        of_x.find(pixels, part, part.first + PIXELS, s);
#pragma unroll 1
        for (int step = 0; step < steps; ++step) {
            const int next = part.first + (step + 1) * PIXELS;
            __syncthreads();  // this step is stored, and the tiles of the one before it are free
            of_x.read(x, g, part, next, s), of_grad.read(grad, part, next, s);
            of_x.find(pixels, part, next + PIXELS, s);
            add_step(d, grads, samples, step % 2);
            of_x.store(samples, (step + 1) % 2), of_grad.store(grads, (step + 1) % 2);
        }
        __syncthreads();
        const int split = number / (parts / s.splits);
#pragma unroll
        for (int m = 0; m < ROWS; ++m)
#pragma unroll
            for (int n = 0; n < COLUMNS; ++n)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const int o = part.o + (warp / WARPS_C * ROWS + m) * 16 + lane / 4 + e / 2 * 8;
                    const int i =
                        part.i + (warp % WARPS_C * COLUMNS + n) * 8 + lane % 4 * 2 + e % 2;
                    if (o < part.outputs && i < s.I)
                        partial[((split * s.O + o) * s.K + part.k) * s.I + i] = d[m][n][e];
                }
    }
}

// grad_w += the partial sums, in order.
extern "C" __global__ void add_partials(const A* partial, A* grad_w, int size, int splits) {
    for (int t = FIRST; t < size; t += STEP) {
        A total = partial[t];
        for (int split = 1; split < splits; ++split) total += partial[split * size + t];
        grad_w[t] += total;
    }
}
