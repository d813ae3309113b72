// The bins of RoIs, equation (6), and which numbers of x and of the offset they read.
//
// numba_kernels/roi_pool.py    here           why it differs
// the tuple `bins`             Shape          its numbers have names
// index                        place          bins are counted in the order r, i, j, p
// bin_of, map_of, first_bin    the same       they follow from the equations
// point, for every thread      Piece, fill    a team computes lines once, into shared memory
//
// x is channels last, and the channels of a score map lie side by side: a pixel has gh gw maps of P
// class groups of `channels` numbers.
#pragma once

#include "roi_points.cuh"

const int MOST_THREADS = 256;                  // of a block
const int LINES = LANES < 4 ? 4 : LANES;       // that a team has at hand on each axis: a piece

struct Shape {
    Rule rule;
    int channels, P;  // of a class group of y; class groups
    int kh, kw, gh, gw, part_h, part_w, H, W;
    A scale, gamma;
};

// What is fixed when compiling replaces what is given.
__device__ __forceinline__ Shape known(Shape s) {
#ifdef FIXED_RULE
    s.rule.name = FIXED_RULE, s.rule.samples = FIXED_SAMPLES, s.channels = FIXED_CHANNELS;
#endif
    return s;
}

__device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x % LANES); }

// The threads of this team, LANES neighbours in a warp, as bits.
__device__ __forceinline__ unsigned team() {
    return (0xffffffffu >> (32 - LANES)) << (threadIdx.x % 32 / LANES * LANES);
}

// Bin, or part, (i, j) of RoI r in class group p: number t in the order (r - first, i, j, p).
struct Place {
    Index r, i, j, p;
};

__device__ __forceinline__ Place place(Index t, Index first, Index height, Index width, Index P) {
    return {first + t / (height * width * P), t / (width * P) % height, t / P % width, t % P};
}

// Equation (6), a bin: n_ij, its lines on both axes, moved by gamma (h, w) offset, h, w. n_ij is 0
// where the bin has no points, and NaN where its offset is NaN.
struct Bin {
    A count, h, w;
    Lines rows, columns;
};

__device__ __forceinline__ Bin bin_of(const A* rois, const P* offset, const Place& at,
                                      const Shape& s) {
    const A* roi = rois + 5 * at.r;
    const Span y = span(roi[2], roi[4], s.scale, s.rule), x = span(roi[1], roi[3], s.scale, s.rule);
    A dy = 0, dx = 0;
    if (offset) {
        const Index a = at.i * s.part_h / s.kh, b = at.j * s.part_w / s.kw;
        const Index field = (at.r * s.P + at.p) * 2;
        dy = s.gamma * number(offset[(field * s.part_h + a) * s.part_w + b]) * y.size;
        dx = s.gamma * number(offset[((field + 1) * s.part_h + a) * s.part_w + b]) * x.size;
    }
    const Points rows = bin_axis(y, A(at.i), A(s.kh), dy, s.H, s.rule);
    const Points columns = bin_axis(x, A(at.j), A(s.kw), dx, s.W, s.rule);
    A count = rows.count * columns.count;
    if (is_nan(dy) || is_nan(dx)) count = is_nan(dy) ? dy : dx;
    return {count, y.size, x.size, lines_of(rows, s.H, s.rule), lines_of(columns, s.W, s.rule)};
}

// The first bin i of k with floor(i groups / k) >= a: where group or part a begins.
__device__ __forceinline__ Index first_bin(Index a, Index groups, Index k) {
    return (a * k + groups - 1) / groups;
}

// How many channels a pixel of x has.
__device__ __forceinline__ Index depth(const Shape& s) {
    return static_cast<Index>(s.gh) * s.gw * s.P * s.channels;
}

// The number in x of pixel (0, 0) of the map that a bin reads, x_ij of Figure 4.
__device__ __forceinline__ Index map_of(const A* rois, const Place& at, const Shape& s) {
    const Index n = static_cast<Index>(rois[5 * at.r]);
    const Index map = at.i * s.gh / s.kh * s.gw + at.j * s.gw / s.kw;
    return n * s.H * s.W * depth(s) + (map * s.P + at.p) * s.channels;
}

// Lines of a bin, from row a and column b on, in shared memory; their numbers are from 0 on.
struct Piece {
    Line rows[LINES], columns[LINES];
};

__device__ __forceinline__ void fill(Piece& piece, const Bin& bin, int a, int b, const Shape& s) {
    __syncwarp(team());  // all have read the last piece
    for (int l = lane(); l < LINES; l += LANES) {
        if (a + l < bin.rows.count)
            piece.rows[l] = line(a + l, bin.rows, s.H, s.W * depth(s), s.rule);
        if (b + l < bin.columns.count)
            piece.columns[l] = line(b + l, bin.columns, s.W, depth(s), s.rule);
    }
    __syncwarp(team());
}
