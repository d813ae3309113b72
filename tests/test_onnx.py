"""`gpu.onnx`: the model of a layer, run in ONNX Runtime, computes what the reference computes."""

from dataclasses import replace

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is in the extra `test`")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is in the extra `test`")

from bench.agreement import error  # noqa: E402

from deformable_convnets import reference  # noqa: E402
from deformable_convnets.gpu.onnx import to_onnx  # noqa: E402
from deformable_convnets.reference.networks import Tape, layers  # noqa: E402
from deformable_convnets.reference.oracle import bounds, problems, shapes  # noqa: E402

OPSETS = (19, 22)
every_opset = pytest.mark.parametrize("opset", OPSETS)
every_shape = pytest.mark.parametrize("shape", shapes.SHAPES, ids=range(len(shapes.SHAPES)))


def run(model, given, *more):
    """y, and whatever else the model makes, by ONNX Runtime on one core."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    made = session.run(["y", *more], given)
    return made if more else made[0]


def assert_same(found, expected):
    np.testing.assert_array_equal(found, expected, strict=True)


def layer_of(problem, branch=None):
    """Equation (2) of a problem, as a layer."""
    s = problem.shape
    return layers.DeformConv2d(
        problem.weight, problem.bias, groups=s.groups, branch=branch, **problem.options
    )


def figure_2(shape, seed, dtype):
    """A layer with a branch on an exact problem: each offset is an odd number of eighths.

    A channel of the branch reads two pixels, in quarters; its bias is one eighth or three.
    """
    p = problems.make("base", shape, seed)
    rng = np.random.default_rng(seed)
    weight = np.zeros((2 * shape.fields, shape.C, *shape.kernel))
    for channel in weight.reshape(len(weight), -1):
        channel[rng.integers(0, channel.size, 2)] = rng.choice([-1, 1], 2) / 4
    bias = rng.choice([-3, -1, 1, 3], len(weight)) / 8
    p = p.with_(offset=reference.conv2d(p.x, weight, bias, **p.options), mask=None)
    while not problems.certified(p):
        p = p.with_(x=p.x * rng.integers(0, 2, p.x.shape), weight=p.weight // 2)
        p = p.with_(offset=reference.conv2d(p.x, weight, bias, **p.options))
    p = p.cast(dtype)
    branch = layers.Conv2d(weight.astype(dtype), bias.astype(dtype), **p.options)
    return layer_of(p, branch), p


@every_shape
@every_opset
def test_figure_2(shape, opset):
    """In float32: ONNX Runtime has no Conv of float64 for the branch."""
    layer, p = figure_2(shape, shapes.SHAPES.index(shape), "float32")
    model = to_onnx(layer, opset=opset)
    assert [entry.version for entry in model.opset_import] == [opset]
    assert [i.name for i in model.graph.input] == ["x"]
    expected = layer(Tape(), p.x)
    assert_same(run(model, {"x": p.x}), expected)
    module = (layer.branch.weight, layer.branch.bias, layer.weight, layer.bias)
    assert_same(reference.deform_conv_module(p.x, *module, **p.options), expected)


@every_shape
@every_opset
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_offsets_as_an_input(shape, opset, dtype):
    """With a mask, and without one."""
    for seed in range(4):
        p = problems.make("base", shape, seed).cast(dtype)
        given = {"x": p.x, "offset": p.offset} | ({} if p.mask is None else {"mask": p.mask})
        settings = {"offset_groups": shape.G, "mask": p.mask is not None}
        model = to_onnx(layer_of(p), opset=opset, **settings)
        assert [i.name for i in model.graph.input] == list(given)
        expected = reference.deform_conv2d(
            p.x, p.offset, p.weight, p.bias, mask=p.mask, **p.options
        )
        assert_same(run(model, given), expected)


def test_the_problems_have_masks_and_biases_and_are_not_zero():
    found = [problems.make("base", shape, seed) for shape in shapes.SHAPES for seed in range(4)]
    for kind in ("mask", "bias"):
        assert {getattr(p, kind) is None for p in found} == {False, True}
    made = [figure_2(shape, i, "float64") for i, shape in enumerate(shapes.SHAPES)]
    assert sum(layer(Tape(), p.x).any() for layer, p in made) >= len(shapes.SHAPES) - 3


def x_first(model, layer):
    names = [a.name for a in model.graph.initializer]
    for name in ("offset_weight", "offset_bias"):
        a = onnx.numpy_helper.to_array(model.graph.initializer[names.index(name)])
        swapped = a.reshape(-1, 2, *a.shape[1:])[:, ::-1].reshape(a.shape)
        model.graph.initializer[names.index(name)].CopyFrom(
            onnx.numpy_helper.from_array(np.ascontiguousarray(swapped), name)
        )


def attribute(node, name, change):
    """A model whose node says something else."""

    def spoiled(model, layer):
        found = next(a for a in model.graph.node[node].attribute if a.name == name)
        changed = change(onnx.helper.get_attribute_value(found))
        found.CopyFrom(onnx.helper.make_attribute(name, changed))

    return spoiled


def without_bias(model, layer):
    if layer.bias is not None:
        model.graph.node[1].input.pop()


def columns_first(model, layer):
    names = [a.name for a in model.graph.initializer]
    a = onnx.numpy_helper.to_array(model.graph.initializer[names.index("weight")])
    swapped = np.ascontiguousarray(a.swapaxes(2, 3)).reshape(a.shape)
    model.graph.initializer[names.index("weight")].CopyFrom(
        onnx.numpy_helper.from_array(swapped, "weight")
    )


SPOILED = {
    "offsets x first": x_first,
    "taps column by column": columns_first,
    "no bias": without_bias,
    "pads begin, end": attribute(1, "pads", lambda p: [p[0], p[2], p[1], p[3]]),
    "pads of the branch": attribute(0, "pads", lambda p: [p[2], p[1], p[0], p[3]]),
    "strides (x, y)": attribute(1, "strides", lambda s: s[::-1]),
    "dilations (x, y)": attribute(1, "dilations", lambda d: d[::-1]),
    "one offset group": attribute(1, "offset_group", lambda g: 1),
    "one group": attribute(1, "group", lambda g: 1),
}


REFUSED = (onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
           onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
           onnxruntime.capi.onnxruntime_pybind11_state.Fail)  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_wrong_model_is_seen(spoil):
    """By another y, or refused by ONNX Runtime, on one of the shapes at least."""
    seen = []
    for seed, shape in enumerate(shapes.SHAPES):
        layer, p = figure_2(shape, seed, "float32")
        model = to_onnx(layer)
        spoil(model, layer)
        try:
            found = run(model, {"x": p.x})
        except REFUSED:
            seen.append("refused")
            continue
        if not np.array_equal(found, layer(Tape(), p.x)):
            seen.append("another y")
    assert seen
    if spoil in (x_first, columns_first):
        assert set(seen) == {"another y"}


@every_shape
def test_ordinary_numbers(shape):
    """The offsets within the bound of a convolution, and y within that of (2) at these offsets.

    A sum of n products is rounded n times at most, each product once, the bias once.
    """
    rng, p = np.random.default_rng(0), problems.make("base", shape, 0)

    def drawn(*size):
        return rng.normal(size=size).astype("float32")

    branch_weight, branch_bias = drawn(2 * shape.fields, shape.C, *shape.kernel), drawn(1)
    branch_bias = np.repeat(branch_bias, len(branch_weight))
    p = p.with_(x=drawn(*p.x.shape), weight=drawn(*p.weight.shape), bias=drawn(shape.O), mask=None)
    model = to_onnx(layer_of(p, layers.Conv2d(branch_weight, branch_bias, **p.options)))
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("offset"))
    y, offset = run(model, {"x": p.x}, "offset")
    p, branch = p.with_(offset=offset).cast("float64"), (branch_weight, branch_bias)
    exact = reference.conv2d(p.x, *map(np.float64, branch), **p.options)
    size = reference.conv2d(abs(p.x), *(abs(np.float64(a)) for a in branch), **p.options)
    terms = branch_weight[0].size
    assert (abs(offset - exact) <= 2.0**-24 * (terms + 2) * size).all()
    exact = reference.deform_conv2d(p.x, p.offset, p.weight, p.bias, **p.options)
    assert (abs(y - exact) <= bounds.tolerances(p, "float32").y).all()


@every_opset
def test_other_sizes(opset):
    """One model, whatever N, H and W."""
    rng = np.random.default_rng(0)
    layer = layers.conv(rng, 4, 6, 3, stride=2, padding=1).deformed(2, None)
    layer.branch.bias[:] = rng.integers(-8, 9, 36) / 8
    layer.weight[:] = rng.integers(-4, 5, layer.weight.shape)
    model = to_onnx(layer, opset=opset)
    for size in ((1, 4, 5, 7), (3, 4, 8, 6), (1, 4, 1, 1)):
        x = rng.integers(-8, 9, size).astype(np.float32)
        assert_same(run(model, {"x": x}), layer(Tape(), x))


def test_half_precision():
    """Whole offsets and sums below 2048, which float16 counts; and what ONNX rounds, does not."""
    rng = np.random.default_rng(0)
    layer = layers.conv(rng, 4, 6, 3, padding=1, dtype=np.float16).deformed(1, None)
    layer.branch.bias[:] = rng.integers(-2, 3, 18)
    layer.weight[:] = rng.integers(-4, 5, layer.weight.shape)
    x = rng.integers(-8, 9, (2, 4, 5, 7)).astype(np.float16)
    assert_same(run(to_onnx(layer), {"x": x}), layer(Tape(), x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its own
def test_onnx_itself_agrees():
    """Its reference, loops in Python: it has the Conv of float64, and rounds coordinates."""
    from onnx.reference import ReferenceEvaluator

    layer, p = figure_2(shapes.SHAPES[2], 2, "float64")
    found = ReferenceEvaluator(to_onnx(layer)).run(None, {"x": p.x})[0]
    expected = layer(Tape(), p.x)
    assert found.dtype == expected.dtype
    assert error(found, expected) <= 1e-12


def test_points_that_are_not_finite():
    """Infinite ones read 0, as in the reference; NaN does too, in ONNX Runtime alone."""
    p = problems.make("base", shapes.SHAPES[0], 0).cast("float32")
    settings = {"offset_groups": p.shape.G, "mask": p.mask is not None}
    model, mask = to_onnx(layer_of(p), **settings), {} if p.mask is None else {"mask": p.mask}
    for value in (np.inf, -np.inf, np.nan):
        offset = np.full_like(p.offset, value)
        found = run(model, {"x": p.x, "offset": offset} | mask)
        bias = 0 if p.bias is None else p.bias.reshape(1, -1, 1, 1)
        assert (found == np.zeros_like(found) + bias).all()
        expected = reference.deform_conv2d(p.x, offset, p.weight, p.bias, **mask, **p.options)
        assert np.isnan(expected).all() if np.isnan(value) else (found == expected).all()


def test_is_written(tmp_path):
    layer, _ = figure_2(shapes.SHAPES[0], 0, "float32")
    model = to_onnx(layer, tmp_path / "layer.onnx")
    assert onnx.load(tmp_path / "layer.onnx") == model == to_onnx(layer, str(tmp_path / "b.onnx"))


def test_a_branch_of_its_own_kernel():
    """1 x 1 at the points of a 3 x 3 layer with padding."""
    rng = np.random.default_rng(0)
    layer = layers.DeformConv2d(np.ones((2, 4, 3, 3), "f"), None, padding=1)
    branch = layers.Conv2d((rng.integers(-4, 5, (18, 4, 1, 1)) / 8).astype("f"), None)
    x = rng.integers(-4, 5, (1, 4, 5, 6)).astype("f")
    found = run(to_onnx(layer, branch=branch), {"x": x})
    assert_same(found, replace(layer, branch=branch)(Tape(), x))
