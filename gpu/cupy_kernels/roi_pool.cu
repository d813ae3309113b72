// RoI pooling, equations (5), (6) and (7'): plain, deformable and position-sensitive.
//
// numba_kernels/roi_pool.py      here                   why it differs
// bin_of, map_of, first_bin      in `roi_bins.cuh`      all kernels have them
// a thread per number of y       forward                a team per bin and class group: its lines
//                                                       serve all channels
// read, scatter: of a point      of a piece of lines    see `roi_points.cuh`
// grad_x_scattered, grad_offset  backward               a team per part: its bins are read once for
//                                                       both, and the offset needs no atomics
// grad_x (v1)                    sizes, destinations,   what bins add, sorted by pixel, in place of
//                                grad_x_gathered        every pixel asking every bin
//
// x is channels last; see `roi_bins.cuh`. So are y and its gradient: bin (r - first, i, j, p) has
// `channels` numbers, for `count` RoIs from `first` on. All threads of a team take the same way.
#include "roi_bins.cuh"

// Adds the sum of g(q, p) x(q) over a piece to VEC channels.
__device__ __forceinline__ void read(Wide<A, VEC>& total, const T* x, const Piece& piece, int rows,
                                     int columns) {
    for (int a = 0; a < rows; ++a) {
        const Line row = piece.rows[a];
        for (int b = 0; b < columns; ++b) {
            const Line column = piece.columns[b];
            const Vec<T, VEC> values = load(x + row.at + column.at);
            const A weight = row.g * column.g;
            for (int i = 0; i < VEC; ++i) total.at[i] += weight * number(values.at[i]);
        }
    }
}

// Equations (5) and (6): y[r, i, j, o] = sum over the points of x(p) / n_ij.
extern "C" __global__ void forward(const T* x, const A* rois, const P* offset, A* y, Shape given,
                                   Index first, Index count) {
    __shared__ Piece pieces[MOST_THREADS / LANES];
    const Shape s = known(given);
    Piece& piece = pieces[threadIdx.x / LANES];
    for (Index t = FIRST / LANES; t < count * s.kh * s.kw * s.P; t += STEP / LANES) {
        const Place at = place(t, first, s.kh, s.kw, s.P);
        const Bin bin = bin_of(rois, offset, at, s);
        const T* map = x + map_of(rois, at, s);
        const bool whole = bin.rows.count <= LINES && bin.columns.count <= LINES;
        for (Index turn = 0; turn < s.channels; turn += LANES * VEC) {
            const Index c = turn + lane() * VEC;
            Wide<A, VEC> total = {};
            for (int a = 0; a < bin.rows.count; a += LINES) {
                for (int b = 0; b < bin.columns.count; b += LINES) {
                    if (turn == 0 || !whole) fill(piece, bin, a, b, s);
                    if (c < s.channels)
                        read(total, map + c, piece, min(bin.rows.count - a, LINES),
                             min(bin.columns.count - b, LINES));
                }
            }
            if (c >= s.channels) continue;
            for (int i = 0; i < VEC; ++i)
                if (bin.count != A(0)) total.at[i] /= bin.count;
            *reinterpret_cast<Wide<A, VEC>*>(y + t * s.channels + c) = total;
        }
    }
}

// The sum over VEC channels and a piece of share dx(p)/dp, equation (7').
struct Slope {
    A y, x;
};

// Adds G(q, p) share to grad_x, by atomics, unless it is null; the slopes if `sloped`.
__device__ __forceinline__ Slope scatter(const Wide<A, VEC>& share, const T* x, A* grad_x,
                                         bool sloped, const Piece& piece, int rows, int columns) {
    Wide<A, VEC> by_y = {}, by_x = {}, part;
    for (int a = 0; a < rows; ++a) {
        const Line row = piece.rows[a];
        for (int b = 0; b < columns; ++b) {
            const Line column = piece.columns[b];
            const A weight = row.g * column.g, dy = row.dg * column.g, dx = row.g * column.dg;
            if (sloped) {
                const Vec<T, VEC> values = load(x + row.at + column.at);
                for (int i = 0; i < VEC; ++i) {
                    by_y.at[i] += dy * number(values.at[i]);
                    by_x.at[i] += dx * number(values.at[i]);
                }
            }
            if (grad_x && weight != A(0)) {
                for (int i = 0; i < VEC; ++i) part.at[i] = weight * share.at[i];
                add(grad_x + row.at + column.at, part);
            }
        }
    }
    Slope slope = {};
    for (int i = 0; i < VEC; ++i)
        slope.y += share.at[i] * by_y.at[i], slope.x += share.at[i] * by_x.at[i];
    return slope;
}

// The VEC numbers of the upstream gradient from `grad` on, each divided by n_ij.
__device__ __forceinline__ Wide<A, VEC> shares(const T* grad, A count) {
    const Vec<T, VEC> upstream = load(grad);
    Wide<A, VEC> share;
    for (int i = 0; i < VEC; ++i) share.at[i] = number(upstream.at[i]) / count;
    return share;
}

// Adds up `value` over a team.
__device__ __forceinline__ A team_sum(A value) {
    for (int lanes = LANES / 2; lanes > 0; lanes /= 2)
        value += __shfl_xor_sync(team(), value, lanes);
    return value;
}

// Equation (7'): offset[r, 2 p + d, a, b] moved the bins of its part in the channels of p; and the
// adjoint of (6). A team of LANES threads owns a part. grad_x and grad_offset may be null.
extern "C" __global__ void backward(const T* grad, const T* x, const A* rois, const P* offset,
                                    A* grad_x, P* grad_offset, Shape given, Index first,
                                    Index count) {
    __shared__ Piece pieces[MOST_THREADS / LANES];
    const Shape s = known(given);
    Piece& piece = pieces[threadIdx.x / LANES];
    for (Index t = FIRST / LANES; t < count * s.part_h * s.part_w * s.P; t += STEP / LANES) {
        const Place part = place(t, first, s.part_h, s.part_w, s.P);
        const Index end_i = first_bin(part.i + 1, s.part_h, s.kh);
        const Index end_j = first_bin(part.j + 1, s.part_w, s.kw);
        A by_y = 0, by_x = 0;
        for (Index i = first_bin(part.i, s.part_h, s.kh); i < end_i; ++i) {
            for (Index j = first_bin(part.j, s.part_w, s.kw); j < end_j; ++j) {
                const Place at = {part.r, i, j, part.p};
                const Bin bin = bin_of(rois, offset, at, s);
                const Index map = map_of(rois, at, s);
                const T* row = grad + (((at.r - first) * s.kh + i) * s.kw + j) * s.P * s.channels +
                               at.p * s.channels;
                Slope total = {};
                if (is_nan(bin.count)) total = {bin.count, bin.count};
                for (int a = 0; a < bin.rows.count; a += LINES) {
                    for (int b = 0; b < bin.columns.count; b += LINES) {
                        fill(piece, bin, a, b, s);
                        for (Index c = lane() * VEC; c < s.channels; c += LANES * VEC) {
                            const Slope slope =
                                scatter(shares(row + c, bin.count), x + map + c,
                                        grad_x ? grad_x + map + c : grad_x, grad_offset != nullptr,
                                        piece, min(bin.rows.count - a, LINES),
                                        min(bin.columns.count - b, LINES));
                            total.y += slope.y, total.x += slope.x;
                        }
                    }
                }
                by_y += total.y * (s.gamma * bin.h), by_x += total.x * (s.gamma * bin.w);
            }
        }
        by_y = team_sum(by_y), by_x = team_sum(by_x);
        if (grad_offset && lane() == 0) {
            const Index field = (part.r * s.P + part.p) * 2;
            put(grad_offset[(field * s.part_h + part.i) * s.part_w + part.j], by_y);
            put(grad_offset[((field + 1) * s.part_h + part.i) * s.part_w + part.j], by_x);
        }
    }
}

// How many pixels each bin adds to, for `destinations`.
extern "C" __global__ void sizes(const A* rois, const P* offset, long long* sizes, Shape given,
                                 Index first, Index count) {
    const Shape s = known(given);
    for (Index t = FIRST; t < count * s.kh * s.kw * s.P; t += STEP) {
        const Bin bin = bin_of(rois, offset, place(t, first, s.kh, s.kw, s.P), s);
        sizes[t] = static_cast<long long>(bin.rows.count) * bin.columns.count;
    }
}

// What each bin adds to its pixels: G(q, p) / n_ij, and the bin. Bins begin and end at `ends`, the
// running sum of `sizes`, less `before`. The key of such an entry is its pixel, in class groups of
// x, times 2^shift, plus its number: keys in order are the entries of every pixel in order.
extern "C" __global__ void destinations(const A* rois, const P* offset, const long long* ends,
                                        long long* keys, A* weights, Index* bins, Shape given,
                                        Index first, Index begin, Index count, long long before,
                                        int shift) {
    __shared__ Piece pieces[MOST_THREADS / LANES];
    const Shape s = known(given);
    Piece& piece = pieces[threadIdx.x / LANES];
    const Index each = static_cast<Index>(s.kh) * s.kw * s.P;
    for (Index t = begin * each + FIRST / LANES; t < (begin + count) * each; t += STEP / LANES) {
        const Place at = place(t, first, s.kh, s.kw, s.P);
        const Bin bin = bin_of(rois, offset, at, s);
        const Index map = map_of(rois, at, s);
        const long long entry = (t == 0 ? 0 : ends[t - 1]) - before;
        for (int a = 0; a < bin.rows.count; a += LINES) {
            for (int b = 0; b < bin.columns.count; b += LINES) {
                fill(piece, bin, a, b, s);
                const int rows = min(bin.rows.count - a, LINES);
                const int columns = min(bin.columns.count - b, LINES);
                for (int l = lane(); l < rows * columns; l += LANES) {
                    const Line row = piece.rows[l / columns], column = piece.columns[l % columns];
                    const long long e = entry + b + l % columns +
                                        static_cast<long long>(a + l / columns) * bin.columns.count;
                    const long long q = (map + row.at + column.at) / s.channels;
                    keys[e] = q << shift | e;
                    weights[e] = row.g * column.g / bin.count;
                    bins[e] = t;
                }
            }
        }
    }
}

// Equation (6), its adjoint, deterministic: a team owns the first of all entries of a pixel and a
// class group, and adds them in the order of their keys.
extern "C" __global__ void grad_x_gathered(const T* grad, const long long* keys, const A* weights,
                                           const Index* bins, A* grad_x, Shape given,
                                           Index entries, int shift) {
    const Shape s = known(given);
    for (Index t = FIRST / LANES; t < entries; t += STEP / LANES) {
        const long long q = keys[t] >> shift;
        if (t > 0 && keys[t - 1] >> shift == q) continue;
        for (Index c = lane() * VEC; c < s.channels; c += LANES * VEC) {
            A* to = grad_x + static_cast<Index>(q) * s.channels + c;
            Wide<A, VEC> total = *reinterpret_cast<Wide<A, VEC>*>(to);
            for (Index e = t; e < entries && keys[e] >> shift == q; ++e) {
                const long long entry = keys[e] & ((1LL << shift) - 1);
                const Vec<T, VEC> from = load(grad + bins[entry] * s.channels + c);
                for (int i = 0; i < VEC; ++i)
                    total.at[i] += weights[entry] * number(from.at[i]);
            }
            *reinterpret_cast<Wide<A, VEC>*>(to) = total;
        }
    }
}
