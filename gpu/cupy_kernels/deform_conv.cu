// Deformable convolution, equations (2) and (7): everything but the matrix products.
//
// numba_kernels/deform_conv_columns.py   here              why it differs
// location, axis, in every kernel        points            coefficients once per point, for all channels
// sample_columns                         columns           channels last: VEC channels in one load
// grad_x, grad_offset, grad_mask         grad_points       one kernel reads the corners once for all three
// grad_x by atomics                      the same, or      grad_x_gathered: destinations sorted, in order
//                                        destinations
//
// A launch works on a chunk: `count` output pixels from `first` on, counted over n, oy, ox. A point
// is ((pixel - first) G + g) K + k. x is channels last; columns are groups x count x K x I, so that
// the product with the weight of each group (groups x O/groups x K x I) is one matrix product.
#include "points.cuh"

// Equation (4): the cell of every point; with `dg` for a backward, else with the mask in g of y.
extern "C" __global__ void points(const P* offset, const T* mask, Weights* g, Weights* dg,
                                  Pixels* pixels, Shape given, Index first, Index image,
                                  Index count) {
    const Shape s = known(given);
    for (Index t = FIRST; t < count * s.G * s.K; t += STEP) {
        const Point at(t, first, s);
        Cell c = cell_of(offset, at, image, s);
        if (dg) {
            dg[t] = c.dg;
        } else {
            const A m = modulation(mask, at, s);
            c.g.at[0] *= m, c.g.at[1] *= m;
        }
        g[t] = c.g;
        pixels[t] = c.at;
    }
}

// The number of channel c of a point in columns, groups x count x K x I.
__device__ __forceinline__ Index column(Index t, Index c, Index count, const Shape& s) {
    const Index p = t / (s.G * s.K), k = t % s.K;
    return ((c / s.I * count + p) * s.K + k) * s.I + c % s.I;
}

// Equation (3): columns = m x(p), a thread for VEC channels of a point.
extern "C" __global__ void columns(const T* x, const Weights* g, const Pixels* pixels, T* columns,
                                   Shape given, Index count) {
    const Shape s = known(given);
    const Index vectors = s.C / s.G / VEC;
    for (Index t = FIRST; t < count * s.G * s.K * vectors; t += STEP) {
        const Index point = t / vectors, group = point / s.K % s.G;
        const Index c = group * (s.C / s.G) + t % vectors * VEC;
        const Corners four = read(x, pixels[point], s.W, s.C, c);
        const Weights w = g[point];
        Vec<T, VEC> values;
        for (int i = 0; i < VEC; ++i)
            put(values.at[i], sum(four, i, w.at[0], w.at[1], w.at[2], w.at[3]));
        *reinterpret_cast<Vec<T, VEC>*>(columns + column(point, c, count, s)) = values;
    }
}

// Adds up `value` over a team of LANES neighbouring threads; all threads of a warp take part.
__device__ __forceinline__ A team_sum(A value) {
    for (int lanes = LANES / 2; lanes > 0; lanes /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, lanes);
    return value;
}

// Equation (7) and its like. `grad` is dL/d(m x(p)) as columns of A. A team of LANES threads owns a
// point, so the sums over its channels need no atomics; they go to grad_offset and grad_mask. Adds
// m G(q, p) grad to grad_x, channels last, by atomics. Writes m x(p) to `columns`, which may be
// `grad` itself. Any of the four results may be null.
extern "C" __global__ void grad_points(const A* grad, const T* x, const P* offset, const T* mask,
                                       const Weights* g, const Weights* dg, const Pixels* pixels,
                                       A* grad_x, P* grad_offset, T* grad_mask, T* columns,
                                       Shape given, Index first, Index count) {
    const Shape s = known(given);
    const Index points = count * s.G * s.K, teams = STEP / LANES;
    const int lane = static_cast<int>(threadIdx.x % LANES);
    for (Index start = 0; start < points; start += teams) {  // the same turns for every thread
        const Index t = start + FIRST / LANES;
        A by_y = 0, by_x = 0, by_m = 0, m = 0;
        if (t < points) {
            const Index group = t / s.K % s.G;
            const Weights w = g[t], d = dg[t];
            const Pixels at = pixels[t];
            m = modulation(mask, Point(t, first, s), s);
            for (Index c = lane * VEC; c < s.C / s.G; c += LANES * VEC) {
                const Index channel = group * (s.C / s.G) + c, to = column(t, channel, count, s);
                const Corners four = read(x, at, s.W, s.C, channel);
                const Wide<A, VEC> upstream = *reinterpret_cast<const Wide<A, VEC>*>(grad + to);
                Vec<T, VEC> values;
                for (int i = 0; i < VEC; ++i) {
                    const A value = sum(four, i, w.at[0], w.at[1], w.at[2], w.at[3]);
                    by_m += upstream.at[i] * value;
                    by_y += upstream.at[i] * sum(four, i, d.at[0], d.at[1], w.at[2], w.at[3]);
                    by_x += upstream.at[i] * sum(four, i, w.at[0], w.at[1], d.at[2], d.at[3]);
                    put(values.at[i], m * value);
                }
                if (columns) *reinterpret_cast<Vec<T, VEC>*>(columns + to) = values;
                if (grad_x && !is_nan(w.at[0])) {
                    for (int corner = 0; corner < 4; ++corner) {
                        const A weight = m * w.at[corner / 2] * w.at[2 + corner % 2];
                        if (weight == A(0)) continue;
                        Wide<A, VEC> share;
                        for (int i = 0; i < VEC; ++i) share.at[i] = weight * upstream.at[i];
                        add(grad_x + pixel(at, corner, s.W) * s.C + channel, share);
                    }
                }
            }
        }
        by_y = team_sum(by_y), by_x = team_sum(by_x), by_m = team_sum(by_m);
        if (t < points && lane == 0) {
            const Point at(t, first, s);
            if (grad_offset) {
                put(grad_offset[offset_of(at, s)], m * by_y);
                put(grad_offset[offset_of(at, s) + s.Ho * s.Wo], m * by_x);
            }
            if (grad_mask) put(grad_mask[at.number_in(s)], by_m);
        }
    }
}

// The key of each corner of each point, G x (count K 4): its pixel, then its number, so that keys
// in order are the corners of every pixel in order. What adds nothing comes last.
extern "C" __global__ void destinations(const T* mask, const Weights* g, const Pixels* pixels,
                                        long long* keys, Shape given, Index first, Index count) {
    const Shape s = known(given);
    for (Index t = FIRST; t < count * s.G * s.K * 4; t += STEP) {
        const Index point = t / 4, group = point / s.K % s.G;
        const Index within = (point / (s.G * s.K) * s.K + point % s.K) * 4 + t % 4;
        const Weights& w = g[point];
        const int corner = static_cast<int>(t % 4);
        const bool nothing = is_nan(w.at[0]) || w.at[corner / 2] * w.at[2 + corner % 2] == A(0);
        const long long q = pixel(pixels[point], corner, s.W);
        keys[group * count * s.K * 4 + within] =
            nothing ? 0x7fffffffffffffffLL : q << 32 | static_cast<long long>(within);
    }
}

// The first of `size` sorted keys that is not below `key`.
__device__ __forceinline__ Index lower_bound(const long long* keys, Index size, long long key) {
    Index low = 0, high = size;
    while (low < high) {
        const Index middle = low + (high - low) / 2;
        if (keys[middle] < key) low = middle + 1;
        else high = middle;
    }
    return low;
}

// Equation (3), its adjoint, deterministic: a team owns a pixel q and an offset group, and adds the
// corners that are q in the order of their keys.
extern "C" __global__ void grad_x_gathered(const A* grad, const T* mask, const Weights* g,
                                           const long long* keys, A* grad_x, Shape given,
                                           Index pixels, Index first, Index count) {
    const Shape s = known(given);
    const Index corners = count * s.K * 4;
    for (Index t = FIRST / LANES; t < pixels * s.G; t += STEP / LANES) {
        const Index q = t / s.G, group = t % s.G;
        const long long* sorted = keys + group * corners;
        const Index begin = lower_bound(sorted, corners, static_cast<long long>(q) << 32);
        for (Index c = threadIdx.x % LANES * VEC; c < s.C / s.G; c += LANES * VEC) {
            const Index channel = group * (s.C / s.G) + c;
            Wide<A, VEC>* to = reinterpret_cast<Wide<A, VEC>*>(grad_x + q * s.C + channel);
            Wide<A, VEC> total = *to;
            for (Index e = begin; e < corners && sorted[e] >> 32 == q; ++e) {
                const Index within = static_cast<Index>(sorted[e] & 0xffffffffLL);
                const int corner = static_cast<int>(within % 4);
                const Index point = (within / 4 / s.K * s.G + group) * s.K + within / 4 % s.K;
                const A m = modulation(mask, Point(point, first, s), s);
                const A weight = m * g[point].at[corner / 2] * g[point].at[2 + corner % 2];
                const Index from = column(point, channel, count, s);
                const Wide<A, VEC> upstream = *reinterpret_cast<const Wide<A, VEC>*>(grad + from);
                for (int i = 0; i < VEC; ++i) total.at[i] += weight * upstream.at[i];
            }
            *to = total;
        }
    }
}
