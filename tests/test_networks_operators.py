"""The operators of networks: every gradient against differences, exact ones where they can be.

Those that are polynomials of degree two or less in each argument, on either side of their kinks,
are checked on small dyadic numbers, where a central difference is the derivative bit for bit. The
others by two central differences, D(h) and D(2h): their error c2 h^2 + c4 h^4 leaves
(4 D(h) - D(2h)) / 3 wrong by 4 c4 h^4, far less than an eighth of their difference, 3 c2 h^2.
"""

import sys
from typing import NamedTuple

import numpy as np
import pytest

from deformable_convnets.reference.networks import door, losses, primitives

RNG = np.random.default_rng(0)
H = 2.0**-8


def eighths(*shape):
    """Odd eighths, at most 4: never a whole number."""
    return (2 * RNG.integers(-16, 16, shape) + 1) / 8


def different(*shape):
    """Whole numbers, no two of them equal."""
    return RNG.permutation(np.prod(shape)).reshape(shape).astype(float)


def normal(*shape):
    return RNG.normal(size=shape)


class Case(NamedTuple):
    """An operator, its arguments, those that are differentiated, and whether exactly."""

    name: str
    arguments: dict
    wrt: tuple
    exact: bool

    @property
    def home(self):
        return losses if hasattr(losses, f"{self.name}_backward") else primitives

    def forward(self, **changed):
        return getattr(self.home, self.name)(**self.arguments | changed)

    def backward(self, grad_output):
        return getattr(self.home, f"{self.name}_backward")(grad_output, **self.arguments)


LABELS = np.array([[0, 2, -1], [1, 1, 2]])
CASES = [
    Case("add", {"x": eighths(2, 3), "z": eighths(2, 3)}, ("x", "z"), True),
    Case("reshape", {"x": eighths(2, 3, 4), "shape": (2, 12)}, ("x",), True),
    Case("relu", {"x": eighths(2, 3, 4, 5)}, ("x",), True),
    Case("linear", {"x": eighths(4, 3), "weight": eighths(2, 3), "bias": eighths(2)},
         ("x", "weight", "bias"), True),
    Case("linear", {"x": eighths(4, 3), "weight": eighths(2, 3)}, ("x", "weight"), True),
    Case("max_pool2d", {"x": different(2, 3, 6, 7), "kernel_size": 3, "stride": 2, "padding": 1},
         ("x",), True),
    Case("max_pool2d", {"x": different(1, 2, 5, 4), "kernel_size": (2, 1), "stride": (1, 3)},
         ("x",), True),
    Case("upsample", {"x": eighths(2, 3, 3, 5), "size": (5, 9)}, ("x",), True),
    Case("upsample", {"x": eighths(1, 2, 1, 3), "size": (4, 1)}, ("x",), True),
    Case("smooth_l1", {"x": eighths(4, 8), "target": eighths(4, 8) / 2}, ("x",), True),
    Case("smooth_l1", {"x": eighths(4, 8), "target": eighths(4, 8) / 2, "weight": eighths(4, 8),
                       "count": 2}, ("x",), True),
    Case("batch_norm", {"x": normal(3, 2, 4, 5), "scale": normal(2), "shift": normal(2)},
         ("x", "scale", "shift"), False),
    Case("batch_norm", {"x": normal(3, 2, 4, 5), "scale": normal(2), "shift": normal(2),
                        "mean": normal(2), "variance": 1 + normal(2) ** 2},
         ("x", "scale", "shift"), False),
    Case("softmax_loss", {"x": normal(2, 4, 3), "labels": LABELS}, ("x",), False),
    Case("softmax_loss", {"x": normal(2, 3), "labels": np.array([2, 0])}, ("x",), False),
    Case("mean", {"x": eighths(2, 3, 4, 2)}, ("x",), True),
]  # fmt: skip
every_case = pytest.mark.parametrize(
    "case", CASES, ids=[f"{i} {c.name}" for i, c in enumerate(CASES)]
)


def assert_gradients(case, backward=None, directions=3):
    """<gradient, v> is the derivative along v, for directions of whole numbers."""
    y = case.forward()
    grad_output = RNG.choice([-2.0, -1, 1, 2], np.shape(y)) + np.zeros_like(y)
    grads = (backward or case.backward)(grad_output)
    for name in case.wrt:
        a, grad = case.arguments[name], getattr(grads, name)
        assert grad.shape == a.shape
        for _ in range(directions):
            v = RNG.integers(-1, 2, a.shape).astype(float)

            def along(t, name=name, a=a, v=v):
                return float((grad_output * case.forward(**{name: a + t * v})).sum())

            near, far = ((along(h) - along(-h)) / (2 * h) for h in (H, 2 * H))
            found = float((grad * v).sum())
            if case.exact:
                assert near == far == found
            else:
                rounding = 64 * 2.0**-53 * np.abs(grad_output).sum() * (1 + np.abs(y).max()) / H
                assert abs((4 * near - far) / 3 - found) <= abs(far - near) / 8 + rounding


@every_case
def test_gradients(case):
    assert_gradients(case)


@every_case
def test_another_gradient_is_seen(case):
    """Twice as much, and what another place should have got."""

    def louder(grad_output):
        grads = case.backward(grad_output)
        return grads._replace(**{case.wrt[-1]: 2 * getattr(grads, case.wrt[-1])})

    def moved(grad_output):
        grads = case.backward(grad_output)
        grad = getattr(grads, case.wrt[0])
        return grads._replace(**{case.wrt[0]: np.roll(grad, 1).reshape(grad.shape)})

    for wrong in (louder, moved):
        with pytest.raises(AssertionError):
            assert_gradients(case, wrong, directions=12)  # some may be blind to it


def wrong_variants():
    """Mistakes that people make: (case, what the backward is instead)."""
    own, fixed, soft = CASES[11], CASES[12], CASES[13]
    yield (
        own,
        lambda g: primitives.batch_norm_backward(
            g,
            **own.arguments,
            mean=own.arguments["x"].mean(axis=(0, 2, 3)),
            variance=own.arguments["x"].var(axis=(0, 2, 3)),
        ),
    )  # as if the statistics did not depend on x
    yield (
        fixed,
        lambda g: primitives.batch_norm_backward(
            g, **{n: fixed.arguments[n] for n in ("x", "scale", "shift")}
        ),
    )
    every = np.where(LABELS < 0, 0, LABELS)
    yield soft, lambda g: losses.softmax_loss_backward(g, soft.arguments["x"], every)
    yield (
        CASES[7],
        lambda g: primitives.upsample_backward(g[..., ::-1, :], CASES[7].arguments["x"], (5, 9)),
    )


@pytest.mark.parametrize("i", range(4))
def test_a_known_mistake_is_seen(i):
    case, backward = list(wrong_variants())[i]
    with pytest.raises(AssertionError):
        assert_gradients(case, backward, directions=12)


def test_values():
    """By hand."""
    x = np.array([[[[1.0, 2], [3, 4]]]])
    assert primitives.max_pool2d(x, 2, 2).item() == 4
    assert primitives.max_pool2d(-x, 3, 2, 1)[0, 0].tolist() == [[-1]]
    three = primitives.upsample(x, (3, 3))[0, 0]
    assert three.tolist() == [[1, 1.5, 2], [2, 2.5, 3], [3, 3.5, 4]]
    kinks = primitives.relu_backward(np.full(3, 2.0), np.array([-1.0, 0, 1])).x
    assert kinks.tolist() == [0, 0, 2]  # at 0 the left-hand derivative
    assert float(losses.softmax_loss(np.zeros((2, 4)), np.array([1, 3]))) == np.log(4)
    apart = np.array([[0.5, 3, -2]])
    assert float(losses.smooth_l1(apart, np.zeros((1, 3)))) == 0.125 + 2.5 + 1.5
    normal = primitives.batch_norm(x, np.ones(1), np.zeros(1), epsilon=0.0)
    assert normal.mean() == 0
    assert normal.var() == pytest.approx(1, abs=1e-15)


def test_equal_numbers_win_once():
    """The gradient of a window goes to one pixel, the first."""
    x = np.ones((1, 1, 3, 3))
    grad = primitives.max_pool2d_backward(np.ones((1, 1, 1, 1)), x, 3, 3).x
    assert grad[0, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_scores_far_apart_do_not_overflow():
    x = np.array([[1000.0, 0, -1000]])
    assert float(losses.softmax_loss(x, np.array([0]))) == 0
    assert float(losses.softmax_loss(x, np.array([2]))) == 2000
    assert np.isfinite(losses.softmax_loss_backward(np.ones(()), x, np.array([2])).x).all()


def test_a_loss_of_nothing_is_0():
    nothing = losses.softmax_loss(np.zeros((2, 3)), np.array([-1, -1]))
    assert str(float(nothing)) == "0.0"  # not -0.0


def test_no_place_is_left():
    x = normal(2, 3, 4)
    labels = np.full((2, 4), -1)
    assert float(losses.softmax_loss(x, labels)) == 0
    assert not losses.softmax_loss_backward(np.ones(()), x, labels).x.any()
    assert float(losses.smooth_l1(np.zeros((0, 4)), np.zeros((0, 4)))) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_case
def test_dtypes_stay(case, dtype):
    given = {
        n: a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
        for n, a in case.arguments.items()
    }
    same = case._replace(arguments=given)
    y = same.forward()
    assert y.dtype == dtype
    grads = same.backward(np.ones_like(y))
    assert {getattr(grads, n).dtype.name for n in case.wrt} == {dtype}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: losses.softmax_loss(normal(2, 3), np.array([0, 3])),
         r"a label is 3, expected 0 to 2, or -1, which is ignored  \[x \(2, 3\), labels \(2,\)\]"),
        (lambda: losses.softmax_loss(normal(2, 3, 4), np.zeros((2, 5), int)),
         r"labels has shape \(2, 5\), expected \(as x, without its classes\) = \(2, 4\)"),
        (lambda: losses.smooth_l1(normal(2, 4), normal(2, 3)), r"target has shape \(2, 3\)"),
        (lambda: primitives.add(normal(2, 4), normal(4)), r"z has shape \(4,\), expected \(as x\)"),
        (lambda: primitives.linear(normal(2, 4), normal(3, 5)), r"weight has shape \(3, 5\)"),
        (lambda: primitives.max_pool2d(normal(1, 1, 2, 2), 3, 1), "expected a window that fits"),
        (lambda: primitives.max_pool2d(normal(1, 1, 4, 4), 2, 1, 2), "none of padding alone"),
        (lambda: primitives.max_pool2d(normal(1, 4, 4), 2, 1), "x has 3 dimensions, expected 4"),
        (lambda: primitives.upsample(normal(4, 4), (2, 2)), "x has 2 dimensions, expected 4"),
        (lambda: losses.softmax_loss(normal(2), np.array(0)),
         "x has 1 dimensions, expected 2 or more: N classes ..."),
        (lambda: losses.smooth_l1(normal(2, 4), normal(2, 4), count=-5), "count is -5, expected 1"),
        (lambda: primitives.batch_norm(normal(1, 2, 3, 4), np.ones(1), np.zeros(2)),
         r"scale has shape \(1,\), expected \(C,\) = \(2,\)"),
        (lambda: primitives.batch_norm(normal(1, 2, 3, 4), np.ones(2), np.zeros(2), np.ones(2)),
         "one of mean and variance is None, expected both or none"),
    ],
)  # fmt: skip
def test_errors(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: losses.softmax_loss(normal(2, 3), np.zeros(2)),
         "labels has dtype float64, expected whole numbers"),
        (lambda: losses.softmax_loss(np.zeros((2, 3), int), np.zeros(2, int)), "x has dtype int64"),
        (lambda: losses.smooth_l1(np.ones((2, 4), "f4"), np.ones((2, 4))),
         "target has dtype float64, expected float32, the dtype of x"),
        (lambda: primitives.relu([1.0, 2.0]), "x is of type list, expected an array"),
        (lambda: primitives.batch_norm(np.ones((1, 2, 3, 4), "f2"), *np.ones((2, 2), "f2")),
         "x has dtype float16, expected float32 or float64"),
    ],
)  # fmt: skip
def test_what_is_no_such_array(call, said):
    with pytest.raises(TypeError, match=said):
        call()


def test_windows_of_one_tap_are_copied():
    x = normal(1, 2, 4, 4)
    assert not np.shares_memory(primitives.max_pool2d(x, 1, 1), x)


def test_a_sum_of_losses_is_an_array():
    """NumPy makes a number of it, which no tape could find again."""
    loss = np.array(1.5)
    for total in (primitives.add(loss, loss), primitives.add(primitives.add(loss, loss), loss)):
        assert isinstance(total, np.ndarray)
        assert total.shape == ()


def test_padding_never_wins():
    """Even where all of a window is -inf: the gradient stays in the map."""
    x = np.full((1, 1, 2, 2), -np.inf)
    y = primitives.max_pool2d(x, 2, 2, 1)
    assert primitives.max_pool2d_backward(np.ones_like(y), x, 2, 2, 1).x.sum() == y.size == 4


def test_arrays_of_a_gpu_bring_their_library(monkeypatch):
    """CuPy 14 has no __array_namespace__."""
    library = object()
    monkeypatch.setitem(sys.modules, "cupy", library)
    far = type("ndarray", (), {"__module__": "cupy._core.core"})()
    assert door.namespace(far) is library
    assert door.namespace(np.ones(2)) is door.namespace(np.float32(1)) is np
