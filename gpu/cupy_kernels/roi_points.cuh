// The points of a RoI bin on one axis: the rules "paper", "mxnet" and "align".
//
// numba_kernels/roi_points.py   here                   why it differs
// nearest                       round                  C has it
// the tuple `axis`              Points                 its numbers have names
// a point, then its two pixels  Lines, line            a pixel that many points of a bin touch is
//                                                      read once, and added to once
// line, of a pixel q            line, by its number    so that the threads of a team share them
//
// The points of a bin are a grid, and G is a product over the axes. So a sum over points is a
// product of sums: over the rows of pixels near them, and over the columns. Such a row or column is
// a line; g and dg are the sums over all points of the bin on that axis.
//
// A number that is not finite, or too large, is never converted to an index or to a bound.
#pragma once

#include "numbers.cuh"

const int PAPER = 0, MXNET = 1, ALIGN = 2;

struct Rule {
    int name, samples, right;
};

__device__ __forceinline__ bool is_finite(A value) { return value - value == A(0); }

// A RoI on an axis, y1 s and h in equation (5).
struct Span {
    A start, size;
};

__device__ __forceinline__ Span span(A first, A last, A scale, const Rule& rule) {
    if (rule.name == MXNET) {
        const A start = round(first) * scale - A(0.5);
        const A size = (round(last) + A(1)) * scale - A(0.5) - start;
        return {start, size < A(0.1) ? A(0.1) : size};
    }
    const A size = (last - first) * scale;
    return {rule.name == ALIGN ? first * scale - A(0.5) : first * scale, size};
}

// The points of a bin: m from `first` to before `end` are all that can read the map.
struct Points {
    int first, end;
    A count;                // the factor of n_ij
    A begin, length, move;  // where they are; see `point`
};

// The whole number below p; at a whole p, on the left, the one before.
__device__ __forceinline__ A below(A p, bool right) { return right ? floor(p) : ceil(p) - A(1); }

// Whether a point of "mxnet" or "align" reads the map: false for NaN and infinity too.
__device__ __forceinline__ bool near(A p, int n, const Rule& rule) {
    if (rule.name == ALIGN) return p >= A(-1) && p <= A(n);
    return p >= A(-0.5) && p <= A(n) - A(0.5);
}

// The coordinate of point m: the start ("mxnet") or centre ("align") of a sub-bin.
__device__ __forceinline__ A grid_point(int m, const Points& of, const Rule& rule) {
    const A where = rule.name == ALIGN ? A(m) + A(0.5) : A(m);
    return of.begin + where * of.length / A(rule.samples) + of.move;
}

// Equation (4), one axis, at point m: the pixel below it, g of the pixel above, |dg/dp|.
struct Point {
    int low;
    A upper, slope;
};

// A point that reads nothing has the cell (-2, -1); one that is moved to the edge of the map does
// not move with its bin.
__device__ __forceinline__ Point point(int m, const Points& of, int n, const Rule& rule) {
    if (rule.name == PAPER)  // all points of a bin have the same fraction
        return {m, of.begin - below(of.begin, rule.right), A(1)};
    const A p = grid_point(m, of, rule), last = A(n - 1);
    if (!near(p, n, rule)) return {-2, A(0), A(0)};
    if (p < A(0) || (p == A(0) && !rule.right)) return {0, A(0), A(0)};
    if (p > last || (p == last && rule.right)) return {n - 1, A(0), A(0)};
    const A low = below(p, rule.right);
    return {static_cast<int>(low), p - low, A(1)};
}

// Equation (5): begin + p for whole p, floor(lower) <= p < ceil(upper), numbered by the pixel below
// them. Points outside the map are counted, not visited.
__device__ __forceinline__ Points whole_points(A begin, A lower, A upper, int n, bool right) {
    if (!is_finite(lower) || !is_finite(upper)) return {};
    const A low = floor(lower), high = ceil(upper), count = max(high - low, A(0));
    if (!is_finite(begin) || count == A(0)) return {0, 0, count};
    const A cell = below(begin, right);
    return {static_cast<int>(min(max(cell + low, A(-1)), A(n))),
            static_cast<int>(min(max(cell + high, A(-1)), A(n))), count, begin};
}

// The points of bin i of k, equation (5), each moved by `move`, on an axis of n pixels.
__device__ __forceinline__ Points bin_axis(const Span& at, A i, A k, A move, int n,
                                           const Rule& rule) {
    if (rule.name == PAPER) {
        const A size = max(at.size, A(0));  // an inverted RoI has no points
        return whole_points(at.start + move, i * size / k, (i + A(1)) * size / k, n, rule.right);
    }
    const A length = at.size / k;
    Points points = {0, rule.samples, A(rule.samples), at.start + i * length, length, move};
    if (rule.name == ALIGN) return points;
    points.count = A(0);
    for (int m = 0; m < rule.samples; ++m)
        if (near(grid_point(m, points, rule), n, rule)) points.count += A(1);
    return points;
}

// The lines of a bin on an axis: the pixels from `low` on; or, where points are so far apart that
// these are more, the two pixels of each point in turn, and `low` is -1.
struct Lines {
    Points points;
    int low, count;
};

__device__ __forceinline__ Lines lines_of(const Points& points, int n, const Rule& rule) {
    int low = n, high = -1;
    if (rule.name == PAPER) {
        if (points.first < points.end) low = max(points.first, 0), high = points.end;
    } else {
        for (int m = 0; m < rule.samples; ++m) {
            const Point at = point(m, points, n, rule);
            if (at.low >= 0) low = min(low, at.low), high = max(high, at.low + 1);
        }
    }
    const int count = max(min(high, n - 1) - low + 1, 0);
    if (rule.name != PAPER && count > 2 * rule.samples) return {points, -1, 2 * rule.samples};
    return {points, low, count};
}

// A line: where it begins in an array, and the sums over the points of g(q, p) and dg/dp.
struct Line {
    Index at;
    A g, dg;
};

// Line number l, for an axis of n pixels that are `step` numbers apart.
__device__ __forceinline__ Line line(int l, const Lines& of, int n, Index step, const Rule& rule) {
    if (of.low < 0) {
        const Point at = point(l / 2, of.points, n, rule);
        const int q = at.low + l % 2;
        if (q < 0 || q >= n) return {0, A(0), A(0)};
        if (l % 2) return {q * step, at.upper, at.slope};
        return {q * step, A(1) - at.upper, -at.slope};
    }
    const int q = of.low + l;
    int first = of.points.first, end = of.points.end;
    if (rule.name == PAPER) first = max(first, q - 1), end = min(end, q + 1);
    A g = 0, dg = 0;
    for (int m = first; m < end; ++m) {
        const Point at = point(m, of.points, n, rule);
        if (at.low == q) g += A(1) - at.upper, dg -= at.slope;
        else if (at.low + 1 == q) g += at.upper, dg += at.slope;
    }
    return {q * step, g, dg};
}
