"""What JAX makes of the operators: jit, vmap, scan, checkpoint, and what it cannot."""

import os
import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is in the extra `jax`; `make test-jax` installs it")

import jax.numpy as jnp  # noqa: E402

from deformable_convnets import reference  # noqa: E402
from deformable_convnets.gpu import jax as ours  # noqa: E402
from deformable_convnets.gpu.jax import operators  # noqa: E402
from jax_arrays.cases import NAMES, assert_same, cases, whole  # noqa: E402

POOLINGS = [name for name in NAMES if name.endswith("roi_pool")]
every_name = pytest.mark.parametrize("name", NAMES)
compiled = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
EXAMPLES = 3


def examples(case):
    """Three of each array: other numbers of the same shape, exact too, in float64."""
    moved = {}
    for name, a in case.arrays.items():
        if name == "rois":  # other boxes, in the order of another
            moved[name] = np.stack([np.roll(a, i, axis=0) for i in range(EXAMPLES)])
        else:
            moved[name] = np.stack([a * (1 if i == 0 else -(2.0**-i)) for i in range(EXAMPLES)])
    return moved


def one(stacked, i, batched):
    return {n: a[i] if n in batched else a[0] for n, a in stacked.items()}


@every_name
@compiled
def test_vmap(name, compiled):
    """Over everything, over each array alone, and over all but x: as one call after the other."""
    case = whole(name, "float64")
    stacked = examples(case)
    names = set(stacked)
    for batched in [names, names - {"x"}, *({n} for n in names)]:
        axes = {n: 0 if n in batched else None for n in stacked}
        given = {n: a if n in batched else a[0] for n, a in stacked.items()}
        run = jax.vmap(case.both, in_axes=(axes,))
        y, grads = jax.jit(run)(given) if compiled else run(given)
        for i in range(EXAMPLES):
            expected_y, expected = case._replace(arrays=one(stacked, i, batched)).expected()
            assert_same(y[i], expected_y)
            for n, grad in expected.items():
                assert_same(grads[n][i], grad)


def test_vmap_of_another_example_is_seen():
    """The examples differ in every result."""
    for name in NAMES:
        case = whole(name, "float64")
        stacked = examples(case)
        y, grads = zip(
            *(case._replace(arrays=one(stacked, i, set(stacked))).expected() for i in range(2)),
            strict=True,
        )
        assert not np.array_equal(*y), name
        assert not all(np.array_equal(grads[0][n], grads[1][n]) for n in grads[0]), name


@pytest.mark.parametrize("name", POOLINGS)
def test_batch_indices_of_rois_are_those_of_the_example(name):
    """Each example has its own images."""
    case = next(c for c in cases(name, "float64") if c.is_filled() and len(c.arrays["x"]) > 1)
    stacked = examples(case)
    found = jax.vmap(case.call)(stacked)
    for i in range(EXAMPLES):
        assert_same(found[i], case._replace(arrays=one(stacked, i, set(stacked))).expected()[0])


def test_vmap_in_vmap_and_of_other_axes():
    case = whole("deform_conv2d", "float64")
    x, offset = case.arrays["x"], case.arrays["offset"]
    others = {n: a for n, a in case.arrays.items() if n not in ("x", "offset")}
    xs = np.stack([x, 2 * x], axis=-1)
    offsets = np.stack([offset, -offset, offset / 2], axis=1)

    def call(x, offset):
        return case.call({"x": x, "offset": offset} | others)

    found = jax.vmap(lambda x: jax.vmap(lambda o: call(x, o), 1)(offsets), -1, 0)(xs)
    assert found.shape[:2] == (2, 3)
    for i in range(2):
        for j in range(3):
            given = others | {"x": xs[..., i], "offset": offsets[:, j]}
            assert_same(found[i, j], case._replace(arrays=given).expected()[0])


def test_no_examples():
    case = whole("deform_conv2d", "float64")
    given = {n: np.zeros((0, *a.shape)) for n, a in case.arrays.items()}
    y, grads = jax.vmap(case.both)(given)
    assert y.shape == (0, *case.expected()[0].shape)
    assert {n: a.shape for n, a in grads.items()} == {n: a.shape for n, a in given.items()}


def test_is_compiled_once(monkeypatch):
    """Calls of the same shapes and settings, in whatever form these are given."""
    traced, right = [], operators._in_place
    monkeypatch.setattr(operators, "_in_place", lambda *a: traced.append(a) or right(*a))
    operators._called_back.clear_cache()
    x, weight = np.ones((2, 1, 2, 3, 4)), np.ones((2, 2, 1, 1))
    for stride, padding in ((1, 0), ((1, 1), (0, 0)), ([1, np.int64(1)], ((0, 0), (0, 0)))):
        jax.vmap(lambda x: ours.conv2d(x, weight, stride=stride, padding=padding))(x)  # noqa: B023
    assert len(traced) == 1
    jax.vmap(lambda x: ours.conv2d(x, weight, stride=2))(x)
    assert len(traced) == 2


def test_scan_and_checkpoint():
    """A network of two equal layers as a loop, which is run again for its gradient."""
    case = whole("conv2d", "float64")
    weight = case.arrays["weight"][:1, :1, :1, :1] / 2
    x = case.arrays["x"][:, :1]

    @jax.checkpoint
    def layer(x, _):
        return ours.conv2d(x, weight), None

    def loss(x):
        return jax.lax.scan(layer, x, None, length=2)[0].sum()

    w = weight.item()
    assert_same(jax.jit(jax.grad(loss))(x), np.full_like(x, w * w))


@every_name
@compiled
def test_second_derivatives_are_refused(name, compiled):
    case = whole(name, "float64")
    given = case.given()

    def loss(x):
        return (case.call(given | {"x": x}) ** 2).sum()

    twice = jax.grad(lambda x: jax.grad(loss)(x).sum())
    message = f"^the gradient of {name} was to be differentiated: second derivatives are not offer"
    with pytest.raises(RuntimeError, match=message):
        (jax.jit(twice) if compiled else twice)(given["x"])


@compiled
def test_forward_mode_is_refused(compiled):
    """By JAX itself; the Hessian is forward over reverse."""
    case = whole("deform_conv2d", "float64")
    given = case.given()

    def call(x):
        return case.call(given | {"x": x}).sum()

    for wanted in (jax.jacfwd(call), jax.hessian(call)):
        with pytest.raises(TypeError, match=r"can't apply forward-mode .* custom_vjp function"):
            (jax.jit(wanted) if compiled else wanted)(given["x"])


def test_jacobian():
    """Reverse mode, a row at a time."""
    case = whole("sample", "float64")
    given = case.given()
    found = jax.jacrev(lambda p: case.call(given | {"p": p}).sum(axis=0))(given["p"])
    y = case.expected()[0]
    for where in np.ndindex(*y.shape[1:]):
        grad = np.zeros_like(y)
        grad[(slice(None), *where)] = 1
        wanted = case._replace(grad_output=grad).expected()[1]["p"]
        assert_same(found[where], wanted)


def test_a_cotangent_that_is_zero_without_numbers():
    """JAX may hand over such; nothing is computed of it."""
    case = whole("deform_conv2d", "float64")
    zero = jax.custom_derivatives.SymbolicZero(jax.typeof(case.grad_output))
    task = operators.Task("deform_conv2d", tuple(case.arrays), (), (None, None, "exact", None), ())
    wanted = dict.fromkeys(case.arrays)
    assert operators._differentiate(task, (case.given(), wanted), zero) == (wanted,)


def test_arrays_of_two_devices():
    """jax.jit gathers them; the values are those of the whole."""
    split, case = ("x", "offset", "mask"), whole("deform_conv2d", "float64")
    mesh = jax.sharding.Mesh(np.array(jax.devices("cpu")[:2]), ("rows",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    arrays = {n: np.concatenate([a, -a]) if n in split else a for n, a in case.arrays.items()}
    case = case._replace(arrays=arrays, grad_output=np.concatenate([case.grad_output] * 2))
    given = {n: jax.device_put(a, rows if n in split else None) for n, a in arrays.items()}
    assert len(given["x"].devices()) == 2
    y, grads = jax.jit(case.both)(given)
    expected_y, expected = case.expected()
    assert_same(y, expected_y)
    for n, grad in expected.items():
        assert_same(grads[n], grad)


@pytest.mark.parametrize("check", [True, False])
def test_shard_map(check):
    """An image on each of two devices; the gradient of weight, which both have, is the sum."""
    case = whole("deform_conv2d", "float64")
    split = ("x", "offset", "mask")
    given = {n: np.concatenate([a[:1], -a[:1]]) if n in split else a
             for n, a in case.arrays.items()}  # fmt: skip
    case = case._replace(arrays=given, grad_output=np.concatenate([case.grad_output[:1]] * 2))
    mesh = jax.sharding.Mesh(np.array(jax.devices("cpu")[:2]), ("rows",))
    rows = jax.sharding.PartitionSpec("rows")
    specs = {n: rows if n in split else jax.sharding.PartitionSpec() for n in given}
    call = jax.shard_map(case.call, mesh=mesh, in_specs=(specs,), out_specs=rows, check_vma=check)

    def both(given):
        y, back = jax.vjp(call, given)
        return y, back(jnp.asarray(case.grad_output))[0]

    y, grads = jax.jit(both)(given)
    expected_y, expected = case.expected()
    assert_same(y, expected_y)
    for n, grad in expected.items():
        assert_same(grads[n], grad)
    alone = case._replace(arrays={n: a[:1] if n in split else a for n, a in given.items()},
                          grad_output=case.grad_output[:1])  # fmt: skip
    assert not np.array_equal(alone.expected()[1]["weight"], expected["weight"])


ON_ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp
from deformable_convnets.gpu.jax import conv2d
x, weight = jnp.ones((1, 4, 500, 500), jnp.float32), jnp.ones((4, 4, 1, 1), jnp.float32) / 4
@jax.jit
def net(x, weight):
    for _ in range(3):
        x = conv2d(x * 1.0, weight) + 0 * jnp.sin(x)
    return x
many = [net(x * i, weight) for i in range(20)]
assert all(bool((y == i).all()) for i, y in enumerate(many))
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux's affinity")
def test_programs_on_one_core_end():
    """With jax.pure_callback, whose arrays are still being copied, they do not (jax 0.10.2)."""
    environment = os.environ | {"XLA_FLAGS": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ON_ONE_CORE], env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr


def test_inside_jit_with_other_things():
    """A gradient step through two operators and JAX's own, as in a network; all of it compiled."""
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (1, 2, 6, 7)).astype(np.float64)
    branch = rng.integers(-1, 2, (18, 2, 3, 3)) / 64
    weight = rng.integers(-4, 5, (3, 2, 3, 3)).astype(np.float64)

    @jax.jit
    @jax.value_and_grad
    def step(branch):
        offset = ours.conv2d(x, branch, padding=1) + 1 / 4
        return jnp.sum(ours.deform_conv2d(x, offset, weight, padding=1))

    loss, grad = step(branch)
    offset = reference.conv2d(x, branch, padding=1) + 1 / 4
    y = reference.deform_conv2d(x, offset, weight, padding=1)
    back = reference.deform_conv2d_backward(np.ones_like(y), x, offset, weight, padding=1)
    expected = reference.conv2d_backward(back.offset, x, branch, padding=1).weight
    assert loss == y.sum()
    assert_same(grad, expected)
