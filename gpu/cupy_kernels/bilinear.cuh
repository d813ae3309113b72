// Equations (3) and (4): the cell of a point and the weights of its four pixels.
//
// numba_kernels/bilinear.py    here                        why it differs
// axis                         axis                        the same, line by line
// weights in registers         Cell, stored per point      all channels of an offset group share it
// tests at every pixel         weights 0, pixels clamped   the four loads need no test
#pragma once

#include "numbers.cuh"

// One axis of a cell: its lower pixel, g of the upper pixel, |dg/dp|.
struct Axis {
    int low;
    A upper, slope;
};

// Equation (4) on one axis. A p that reads nothing, because it is NaN, infinite or too far, has the
// cell (-2, -1), outside every map: it is never converted to an index.
__device__ __forceinline__ Axis axis(A p, int size, bool dcnv1, bool right) {
    const bool near = dcnv1 ? p >= A(0) && p < A(size) : p >= A(-1) && p <= A(size);
    if (!near) return {-2, A(0), A(0)};
    int low = right ? static_cast<int>(floor(p)) : static_cast<int>(ceil(p)) - 1;
    if (dcnv1) {
        low = max(low, 0);
        if (low == size - 1) return {low, A(0), A(0)};  // the last pixel is repeated
    }
    return {low, p - A(low), A(1)};
}

// The two pixels of an axis, clamped to the map, with a weight for each: 0 where it is outside.
struct Pair {
    int pixel, step;  // the first, and how many pixels to the second: 0 or 1
    A g[2], dg[2];
};

__device__ __forceinline__ Pair pair_of(const Axis& at, int size) {
    const bool first = at.low >= 0 && at.low < size, second = at.low + 1 >= 0 && at.low + 1 < size;
    const int lower = min(max(at.low, 0), size - 1), upper = min(max(at.low + 1, 0), size - 1);
    return {lower, upper - lower,
            {first ? A(1) - at.upper : A(0), second ? at.upper : A(0)},
            {first ? -at.slope : A(0), second ? at.slope : A(0)}};
}

// g of both rows, then of both columns; the same for dg
typedef Wide<A, 4> Weights;

// Where the four pixels are: the first, and the steps to the next row and column, each 0 or 1.
struct alignas(sizeof(Index) * 2) Pixels {
    Index first;
    short down, across;
};

struct Cell {
    Weights g, dg;
    Pixels at;
};

// The cell of p in image n of height x width pixels; NaN gives NaN weights on the first pixel.
__device__ __forceinline__ Cell cell(A py, A px, Index n, int height, int width, bool dcnv1,
                                     bool right) {
    const Pair y = pair_of(axis(py, height, dcnv1, right), height);
    const Pair x = pair_of(axis(px, width, dcnv1, right), width);
    Cell c = {{{y.g[0], y.g[1], x.g[0], x.g[1]}},
              {{y.dg[0], y.dg[1], x.dg[0], x.dg[1]}},
              {(n * height + y.pixel) * width + x.pixel, static_cast<short>(y.step),
               static_cast<short>(x.step)}};
    if (is_nan(py) || is_nan(px)) {
        const A nan = is_nan(py) ? py : px;
        for (int i = 0; i < 4; ++i) c.g.at[i] = c.dg.at[i] = nan;
    }
    return c;
}

// Pixel `corner` of a cell (0 to 3, row by row) of a map of `width` pixels a row.
__device__ __forceinline__ Index pixel(const Pixels& at, int corner, int width) {
    return at.first + (corner / 2 ? at.down * width : 0) + (corner % 2 ? at.across : 0);
}

// VEC channels of the four pixels of a cell; x is channels last, C channels a pixel.
struct Corners {
    Vec<T, VEC> at[4];
};

__device__ __forceinline__ Corners read(const T* x, const Pixels& at, int width, Index C, Index c) {
    Corners four;
    for (int corner = 0; corner < 4; ++corner)
        four.at[corner] = load(x + pixel(at, corner, width) * C + c);
    return four;
}

// The sum over the four pixels of a(q_y) b(q_x) x(q) in channel i: equation (3) if a and b are g.
__device__ __forceinline__ A sum(const Corners& x, int i, A y0, A y1, A x0, A x1) {
    const A upper = x0 * number(x.at[0].at[i]) + x1 * number(x.at[1].at[i]);
    const A lower = x0 * number(x.at[2].at[i]) + x1 * number(x.at[3].at[i]);
    return y0 * upper + y1 * lower;
}
