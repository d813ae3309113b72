"""One solution for each exercise of notebook 11: kernels, launched."""

from exercises.gpu import launched
from puzzles import cuda

from deformable_convnets.gpu.numba_kernels.bilinear import sample


@launched
def strided_map(x, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = 2 * x[i] + 1


@launched
def read_once(x, offset, columns):
    C, K, P = columns.shape
    t, Wo = cuda.grid(1), offset.shape[2]
    if t < K * P:
        k, p0 = t // P, t % P
        oy, ox = p0 // Wo, p0 % Wo
        py = oy + k // 3 + offset[2 * k, oy, ox]
        px = ox + k % 3 + offset[2 * k + 1, oy, ox]
        for c in range(C):
            columns[c, k, p0] = sample(x[c], py, px, False)


@launched
def coalesced(x, p, y):
    t, C = cuda.grid(1), x.shape[2]
    if t < y.size:
        i, c = t // C, t % C
        y[i, c] = sample(x[:, :, c], p[i, 0], p[i, 1], False)


@launched
def gathered(start, source, g, grad, grad_x):
    for q in range(cuda.grid(1), grad_x.size, cuda.gridsize(1)):
        total = 0.0
        for e in range(start[q], start[q + 1]):
            total += g[e] * grad[source[e]]
        grad_x[q] = total
