// The points p = p0 + p_n + Delta p_n of equation (2): their numbers, coordinates and masks.
//
// A point is a tap of an offset group at an output pixel, of those that a launch works on.
#pragma once

#include "bilinear.cuh"

struct Shape {
    int C, I, G, K;  // channels, channels of a weight group, offset groups, taps
    int H, W, Ho, Wo, kw;
    int stride_y, stride_x, top, left, dilation_y, dilation_x;
    int dcnv1, right;
};

// What is fixed when compiling replaces what is given: divisions by it become shifts and products.
__device__ __forceinline__ Shape known(Shape s) {
#ifdef FIXED_C
    s.C = FIXED_C, s.I = FIXED_I, s.G = FIXED_G, s.K = FIXED_K;
#endif
    return s;
}

// Point `t` of a chunk: its image, mask channel m = g K + k, tap and output pixel.
struct Point {
    Index n, m;
    int oy, ox, k;

    __device__ __forceinline__ Point(Index t, Index first, const Shape& s) {
        const Index p = first + t / (s.G * s.K);
        m = t % (s.G * s.K);
        k = static_cast<int>(m % s.K);
        n = p / (s.Ho * s.Wo);
        oy = static_cast<int>(p / s.Wo % s.Ho), ox = static_cast<int>(p % s.Wo);
    }

    // its number in an N x (G K) x Ho x Wo array
    __device__ __forceinline__ Index number_in(const Shape& s) const {
        return ((n * s.G * s.K + m) * s.Ho + oy) * s.Wo + ox;
    }
};

// The number of dy of a point in an N x (2 G K) x Ho x Wo array; dx is Ho Wo after it.
__device__ __forceinline__ Index offset_of(const Point& at, const Shape& s) {
    return ((at.n * s.G * s.K + at.m) * 2 * s.Ho + at.oy) * s.Wo + at.ox;
}

// p = p0 + p_n + Delta p_n of equation (2): the grid, rounded once, plus the offset.
__device__ __forceinline__ Cell cell_of(const P* offset, const Point& at, Index image,
                                        const Shape& s) {
    A py = A(at.oy * s.stride_y - s.top + at.k / s.kw * s.dilation_y);
    A px = A(at.ox * s.stride_x - s.left + at.k % s.kw * s.dilation_x);
    if (offset) {
        const Index dy = offset_of(at, s);
        py += number(offset[dy]);
        px += number(offset[dy + s.Ho * s.Wo]);
    }
    return cell(py, px, at.n - image, s.H, s.W, s.dcnv1, s.right);
}

// The mask (DCNv2, Zhu et al. 2019; not in this paper), 1 without one.
__device__ __forceinline__ A modulation(const T* mask, const Point& at, const Shape& s) {
    return mask ? number(mask[at.number_in(s)]) : A(1);
}
