"""The exercises of notebook 10, on parameters, multiply-adds and alignment; see `exercises`."""

from deformable_convnets.reference.networks.aligned_inception import cells
from deformable_convnets.reference.networks.counting import Shapes, counted, parameters, shaped
from deformable_convnets.reference.networks.layers import Conv2d, conv, deformable
from deformable_convnets.reference.oracle.mistakes import Mistake

from .grading import Exercise

SHAPES = Shapes()


def branches(rng):
    """The channels of a layer, its kernel, which is not square, and its offset groups."""
    groups = int(rng.choice([2, 4]))
    kh, kw = (int(n) for n in rng.permutation([3, 5, 7])[:2])
    return groups * int(rng.integers(5, 40)), (kh, kw), groups


def of_a_branch(C, kernel, groups):
    layer = conv(SHAPES, C, 7, kernel)
    return parameters(deformable([layer], ["0"], offset_groups=groups)) - parameters([layer])


def branch(outputs=None, inputs=None, taps=None, bias=None):
    """The parameters of a branch, with one of their parts computed otherwise."""

    def run(C, kernel, groups):
        N = kernel[0] * kernel[1]
        O = (outputs or (lambda N, groups: 2 * N * groups))(N, groups)
        I = (inputs or (lambda C, groups: C))(C, groups)
        return O * I * (taps or (lambda kh, kw: kh * kw))(*kernel) + (bias or (lambda O: O))(O)

    return run


BRANCH_PARAMETERS = Exercise(
    of_a_branch,
    branches,
    (
        "A tap has two offsets, y and x, and each group has its own: 2 * kh * kw * groups outputs.",
        "Each output has a weight for every channel and every tap of the branch's kernel, which is"
        " the layer's own, and a bias.",
    ),
    (
        Mistake("N outputs in place of 2N: an offset is y and x", branch(lambda N, g: N * g)),
        Mistake("the bias forgotten", branch(bias=lambda O: 0)),
        Mistake("the offset groups forgotten", branch(lambda N, g: 2 * N)),
        Mistake(
            "a branch that is a grouped convolution: each group reads a part of the channels only",
            branch(inputs=lambda C, g: C // g),
        ),
        Mistake("one bias for all outputs", branch(bias=lambda O: 1)),
        Mistake("a branch of 1x1, not of the layer's kernel", branch(taps=lambda kh, kw: 1)),
        Mistake(
            "a branch of 3x3, whatever the layer's kernel", branch(taps=lambda kh, kw: 9)
        ),
        Mistake(
            "offsets for every channel: as many groups as channels",
            lambda C, kernel, g: branch(lambda N, g: 2 * N * C)(C, kernel, g),
        ),
    ),
)  # fmt: skip


def workloads(rng):
    """Channels in and out, the size of the map that comes out, and the side of the kernel."""
    C, D = (int(n) for n in rng.permutation([6, 10, 16, 24, 40])[:2])
    H, W = (int(n) for n in rng.permutation([7, 9, 12, 15])[:2])
    return C, D, H, W, int(rng.choice([3, 5]))


def of_a_layer(C, D, H, W, k):
    net = deformable([conv(SHAPES, C, D, k, padding=k // 2)], ["0"])[0]
    found = counted(net, shaped((1, C, H, W)))
    return found.plain, found.branches, sum(found.bilinear.values())


def work(of_layer=None, of_branch=None, of_samples=None):
    """The three numbers, with one of them computed otherwise from (C, D, H W, k k)."""

    def run(C, D, H, W, k):
        of = C, D, H * W, k * k
        right = (
            lambda C, D, cells, N: cells * D * C * N,
            lambda C, D, cells, N: cells * 2 * N * C * N,
            lambda C, D, cells, N: cells * N * C * 4,
        )
        given = of_layer, of_branch, of_samples
        return tuple((g or r)(*of) for g, r in zip(given, right, strict=True))

    return run


DEFORMABLE_WORK = Exercise(
    of_a_layer,
    workloads,
    (
        "A convolution: each of D outputs at each of H W cells sums C k k products.",
        "The branch is a convolution too, with 2 k k outputs in place of D.",
        "A tap of a cell reads one point of every channel, with 4 weights: H W k k C 4. What is"
        " read is shared by all D outputs.",
    ),
    (
        Mistake("a branch of N outputs, not 2N",
                work(of_branch=lambda C, D, cells, N: cells * N * C * N)),
        Mistake("a branch of 1x1", work(of_branch=lambda C, D, cells, N: cells * 2 * N * C)),
        Mistake("a branch that has the D outputs of the layer",
                work(of_branch=lambda C, D, cells, N: cells * D * C * N)),
        Mistake("the four weights of the corners counted once for all channels",
                work(of_samples=lambda C, D, cells, N: cells * N * 4)),
        Mistake("one multiply-add for each sample, not four",
                work(of_samples=lambda C, D, cells, N: cells * N * C)),
        Mistake("samples made anew for each output channel",
                work(of_samples=lambda C, D, cells, N: cells * N * C * D * 4)),
        Mistake("one sample for each cell, not for each tap",
                work(of_samples=lambda C, D, cells, N: cells * C * 4)),
        Mistake("samples of the D output channels, not of the C that are read",
                work(of_samples=lambda C, D, cells, N: cells * N * D * 4)),
        Mistake("a convolution that reads one channel",
                work(lambda C, D, cells, N: cells * D * N)),
        Mistake("multiplications and sums counted apart: twice as many",
                lambda *args: tuple(2 * n for n in of_a_layer(*args))),
    ),
)  # fmt: skip


def stacks(rng):
    """Layers (kernel, stride, padding, dilation): two with a stride, two with a dilation, and
    paddings from none to too much."""
    strides, dilations = (rng.permutation(n) for n in ((2, 2, 1, 1), (3, 2, 1, 1)))
    kernels, paddings = rng.permutation([3, 3, 5, 7]), rng.permutation([0, 0, 1, 3])
    rows = zip(kernels, strides, paddings, dilations, strict=True)
    return ([tuple(map(int, row)) for row in (*rows, (3, 2, 0, 2))],)


def of_a_stack(layers):
    at = cells([Conv2d(shaped((1, 1, k, k)), None, s, p, d) for k, s, p, d in layers])
    return at.stride, float(at.centre)


def centres(reach=None, step=None):
    """The centre with another shift of a layer, or with other steps of the cells below."""

    def run(layers):
        stride, centre = 1, 0.0
        for k, s, p, d in layers:
            shift = (reach or (lambda k, p, d: d * (k - 1) / 2 - p))(k, p, d)
            centre += (step or (lambda stride, s: stride))(stride, s) * shift
            stride *= s
        return stride, centre

    return run


def last_alone(layers):
    return of_a_stack(layers)[0], of_a_stack(layers[-1:])[1]


FIELD_CENTRE = Exercise(
    of_a_stack,
    stacks,
    (
        "Keep the stride and the centre so far; they start as 1 and 0.",
        "The middle of the kernel is d (k - 1) / 2 cells after its first tap, and padding p starts"
        " it p cells earlier: d (k - 1) / 2 - p cells of the map below.",
        "A cell of the map below is `stride` pixels: centre += stride * (...), then stride *= s.",
    ),
    (
        Mistake("the padding forgotten", centres(lambda k, p, d: d * (k - 1) / 2)),
        Mistake("the dilation forgotten", centres(lambda k, p, d: (k - 1) / 2 - p)),
        Mistake(
            "a shift in cells of the map below, not in pixels: the strides forgotten",
            centres(step=lambda stride, s: 1),
        ),
        Mistake(
            "the stride of the layer itself, which comes only after its shift",
            centres(step=lambda stride, s: stride * s),
        ),
        Mistake("the padding with the wrong sign", centres(lambda k, p, d: d * (k - 1) / 2 + p)),
        Mistake("k / 2 in place of (k - 1) / 2", centres(lambda k, p, d: d * k / 2 - p)),
        Mistake("the whole reach of the kernel, not its half",
                centres(lambda k, p, d: d * (k - 1) - p)),
        Mistake("the padding dilated too", centres(lambda k, p, d: d * ((k - 1) / 2 - p))),
        Mistake("the layers from the last to the first", lambda layers: of_a_stack(layers[::-1])),
        Mistake("the centre of the last layer alone", last_alone),
    ),
)  # fmt: skip

EXERCISES = {
    "branch_parameters": BRANCH_PARAMETERS,
    "deformable_work": DEFORMABLE_WORK,
    "field_centre": FIELD_CENTRE,
}
