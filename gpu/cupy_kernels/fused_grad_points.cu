// Equation (7) and the gradients of x and of the mask, with the product before them in the same
// kernel: the gradient of the columns is never in memory.
//
// deform_conv.cu, cuBLAS         here              why it differs
// points, in memory              in shared memory  a block has one tap of TILE_P pixels
// grad = grad_output weight      add_step          mma: a tile of TILE_P pixels x TILE_C channels
// grad_points, on its results    sample_tile       the same sums, of a tile; a team owns a point
//
// A block goes through all channels of an offset group, so the sums over them need no atomics. The
// gradient of x is added up by atomics, in no order. The words of `fused_words.cuh` are outputs.
#include "points.cuh"
#include "fused_words.cuh"

const int THREADS = 32 * WARPS_P * WARPS_C;
const int OUTPUTS = DEPTH * PER_WORD;    // of a step
const int ROWS = TILE_P / WARPS_P / 16;  // fragments of a warp
const int COLUMNS = TILE_C / WARPS_C / 8;
const int TEAM = TILE_C / VEC;           // threads that share a point: one for each vector
const int SAME = 4 * PER_WORD;           // outputs of one pixel that a thread reads in a step
const int WEIGHTS = DEPTH * TEAM / THREADS;  // vectors of the weight
static_assert(TILE_P * DEPTH == 4 * THREADS, "four words of one pixel for every thread");
static_assert(WEIGHTS * THREADS == DEPTH * TEAM, "whole vectors for every thread");
static_assert(TEAM <= 32 && SAME % VEC_O == 0, "a team is of one warp");

struct Work {
    int O, segment;           // outputs; channels that are of one weight group and offset group
    int count, first, image;  // pixels, the first one, the first image that is at hand
};

// Rows have some words more, so that those of a fragment are in different banks.
union Memory {
    struct {
        Words grad[2][TILE_P][DEPTH / 4 + 1];
        Words weight[2][DEPTH][(TILE_C + 8) / 4];
    } step;
    alignas(16) float result[TILE_P][TILE_C + 4];
};

// What of the whole a block works on, and the channels that are on: of one weight group.
struct Part {
    int p, group, k;             // the first pixel, the offset group, the tap
    int channel, end, o, outputs;  // the first output of the weight group, and its outputs

    __device__ __forceinline__ void on(int c, const Shape& s, const Work& of) {
        channel = group * (s.C / s.G) + c, end = channel + of.segment;
        outputs = of.O / (s.C / s.I), o = channel / s.I * outputs;
    }
};

// Both factors of a step, from memory by way of registers.
struct Factors {
    Vec<T, VEC_O> grad[SAME / VEC_O];
    Vec<T, VEC> weight[WEIGHTS][PER_WORD];

    __device__ __forceinline__ void read(const T* from_grad, const T* from_weight, int first,
                                         const Part& at, const Shape& s, const Work& of) {
        const int thread = static_cast<int>(threadIdx.x), p = at.p + thread / (DEPTH / 4);
#pragma unroll
        for (int v = 0; v < SAME / VEC_O; ++v) {
            const int o = first + thread % (DEPTH / 4) * SAME + v * VEC_O;
            if (p < of.count && o < at.outputs)
                grad[v] = *reinterpret_cast<const Vec<T, VEC_O>*>(from_grad + p * of.O + at.o + o);
            else
                grad[v] = Vec<T, VEC_O>{};
        }
#pragma unroll
        for (int v = 0; v < WEIGHTS; ++v) {
            const int item = thread + v * THREADS, c = at.channel + item % TEAM * VEC;
#pragma unroll
            for (int j = 0; j < PER_WORD; ++j) {
                const int o = first + item / TEAM * PER_WORD + j;
                if (o < at.outputs && c < at.end)
                    weight[v][j] = load(from_weight + ((at.o + o) * s.K + at.k) * s.I + c % s.I);
                else
                    weight[v][j] = Vec<T, VEC>{};
            }
        }
    }

    __device__ __forceinline__ void store(Memory& memory, int buffer) const {
        const int thread = static_cast<int>(threadIdx.x);
        const auto word_of_grad = [&](int i) {
            float value[PER_WORD];
#pragma unroll
            for (int j = 0; j < PER_WORD; ++j) {
                const int o = i * PER_WORD + j;
                value[j] = number(grad[o / VEC_O].at[o % VEC_O]);
            }
            return word_of(value, T());
        };
        put_words<4>(memory.step.grad[buffer][thread / (DEPTH / 4)], thread % (DEPTH / 4) * 4,
                     word_of_grad);
#pragma unroll
        for (int v = 0; v < WEIGHTS; ++v) {
            const int item = thread + v * THREADS;
            const auto word_of_weight = [&](int i) {
                float value[PER_WORD];
#pragma unroll
                for (int j = 0; j < PER_WORD; ++j) value[j] = number(weight[v][j].at[i]);
                return word_of(value, T());
            };
            put_words<VEC>(memory.step.weight[buffer][item / TEAM], item % TEAM * VEC,
                           word_of_weight);
        }
    }
};

// Where the fragments of a warp begin in a tile: a pixel and a channel.
__device__ __forceinline__ int first_row() {
    return static_cast<int>(threadIdx.x) / 32 / WARPS_C * (ROWS * 16);
}
__device__ __forceinline__ int first_column() {
    return static_cast<int>(threadIdx.x) / 32 % WARPS_C * (COLUMNS * 8);
}

// d += the product of a step, for the fragments of a warp.
__device__ __forceinline__ void add_step(float (&d)[ROWS][COLUMNS][4], const Memory& memory,
                                         int buffer) {
    const int lane = static_cast<int>(threadIdx.x) % 32, group = lane / 4, t = lane % 4;
    const auto word = [](const Words* row, int i) {
        return reinterpret_cast<const unsigned*>(row)[i];
    };
#pragma unroll
    for (int k = 0; k < DEPTH; k += 8) {
        unsigned b[COLUMNS][2];
#pragma unroll
        for (int n = 0; n < COLUMNS; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i)
                b[n][i] = word(memory.step.weight[buffer][k + t + 4 * i],
                               first_column() + 8 * n + group);
#pragma unroll
        for (int m = 0; m < ROWS; ++m) {
            unsigned a[4];
#pragma unroll
            for (int i = 0; i < 4; ++i)
                a[i] = word(memory.step.grad[buffer][first_row() + 16 * m + 8 * (i % 2) + group],
                            k + t + 4 * (i / 2));
#pragma unroll
            for (int n = 0; n < COLUMNS; ++n) multiply(d[m][n], a, b[n], T());
        }
    }
}

// Adds up `value` over a team of neighbouring threads; all threads of a warp take part.
__device__ __forceinline__ A team_sum(A value) {
#pragma unroll
    for (int lanes = TEAM / 2; lanes > 0; lanes /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, lanes);
    return value;
}

// Equation (7) and its like for a tile of channels: adds to the sums of every point, and to grad_x.
__device__ __forceinline__ void sample_tile(const T* x, A* grad_x, const Memory& memory,
                                            const Cell* cells, const A* modulations, A (*sums)[3],
                                            const Part& part, const Shape& s, const Work& of) {
    const int lane = static_cast<int>(threadIdx.x) % TEAM, channel = part.channel + lane * VEC;
    for (int i = static_cast<int>(threadIdx.x) / TEAM; i < TILE_P; i += THREADS / TEAM) {
        A by_y = 0, by_x = 0, by_m = 0;
        if (part.p + i < of.count && channel < part.end) {
            const Cell& c = cells[i];
            const Weights w = c.g, d = c.dg;
            const Corners four = read(x, c.at, s.W, s.C, channel);
            const Wide<A, VEC> grad =
                *reinterpret_cast<const Wide<A, VEC>*>(memory.result[i] + lane * VEC);
#pragma unroll
            for (int e = 0; e < VEC; ++e) {
                by_m += grad.at[e] * sum(four, e, w.at[0], w.at[1], w.at[2], w.at[3]);
                by_y += grad.at[e] * sum(four, e, d.at[0], d.at[1], w.at[2], w.at[3]);
                by_x += grad.at[e] * sum(four, e, w.at[0], w.at[1], d.at[2], d.at[3]);
            }
            if (grad_x && !is_nan(w.at[0])) {
#pragma unroll
                for (int corner = 0; corner < 4; ++corner) {
                    const A weight = modulations[i] * w.at[corner / 2] * w.at[2 + corner % 2];
                    if (weight == A(0)) continue;
                    Wide<A, VEC> share;
#pragma unroll
                    for (int e = 0; e < VEC; ++e) share.at[e] = weight * grad.at[e];
                    add(grad_x + pixel(c.at, corner, s.W) * s.C + channel, share);
                }
            }
        }
        by_y = team_sum(by_y), by_x = team_sum(by_x), by_m = team_sum(by_m);
        if (lane == 0) sums[i][0] += by_y, sums[i][1] += by_x, sums[i][2] += by_m;
    }
}

// The gradient of the columns of a tile, to memory.result: grad_output weight, over all outputs of
// the weight group.
__device__ __forceinline__ void multiply_tile(const T* grad, const T* weight, Memory& memory,
                                              const Part& part, const Shape& s, const Work& of) {
    float d[ROWS][COLUMNS][4] = {};
    Factors factors;
    factors.read(grad, weight, 0, part, s, of);
    factors.store(memory, 0);
    const int steps = (part.outputs + OUTPUTS - 1) / OUTPUTS;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        __syncthreads();  // this step is stored, and the tiles of the one before it are free
        factors.read(grad, weight, (step + 1) * OUTPUTS, part, s, of);
        add_step(d, memory, step % 2);
        factors.store(memory, (step + 1) % 2);
    }
    __syncthreads();  // the result takes the place of the steps
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int m = 0; m < ROWS; ++m)
#pragma unroll
        for (int n = 0; n < COLUMNS; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e)
                memory.result[first_row() + 16 * m + lane / 4 + e / 2 * 8]
                             [first_column() + 8 * n + lane % 4 * 2 + e % 2] = d[m][n][e];
    __syncthreads();
}

// `grad` is grad_output as pixels x O, `weight` O x K x I, x and grad_x are channels last. Any of
// the three results may be null.
extern "C" __global__ void __launch_bounds__(THREADS, 1) grad_of_points(
    const T* grad, const T* weight, const T* x, const P* offset, const T* mask, A* grad_x,
    P* grad_offset, T* grad_mask, Shape given, Work of, int parts) {
    __shared__ Memory memory;
    __shared__ Cell cells[TILE_P];
    __shared__ A modulations[TILE_P], sums[TILE_P][3];
    const Shape s = known(given);
    const int thread = static_cast<int>(threadIdx.x);
    for (int number = blockIdx.x; number < parts; number += gridDim.x) {
        Part part = {number / (s.K * s.G) * TILE_P, number / s.K % s.G, number % s.K};
        const int t = ((part.p + thread) * s.G + part.group) * s.K + part.k;
        const bool is_point = thread < TILE_P && part.p + thread < of.count;
        if (is_point) {
            const Point at(t, of.first, s);
            cells[thread] = cell_of(offset, at, of.image, s);
            modulations[thread] = modulation(mask, at, s);
        }
        if (thread < TILE_P) sums[thread][0] = sums[thread][1] = sums[thread][2] = 0;
        for (int c = 0; c < s.C / s.G; c += of.segment)
            for (part.on(c, s, of); part.channel < part.end; part.channel += TILE_C) {
                multiply_tile(grad, weight, memory, part, s, of);
                sample_tile(x, grad_x, memory, cells, modulations, sums, part, s, of);
                __syncthreads();
            }
        if (is_point) {
            const Point at(t, of.first, s);
            const A m = modulations[thread];
            if (grad_offset) {
                put(grad_offset[offset_of(at, s)], m * sums[thread][0]);
                put(grad_offset[offset_of(at, s) + s.Ho * s.Wo], m * sums[thread][1]);
            }
            if (grad_mask) put(grad_mask[at.number_in(s)], sums[thread][2]);
        }
        __syncthreads();
    }
}
