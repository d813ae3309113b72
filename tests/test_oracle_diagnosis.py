"""The diagnosis names every known mistake, says what unknown bugs have in common, and of what kind
a failure is."""

import numpy as np
import pytest

from deformable_convnets import reference
from deformable_convnets.reference.oracle import Implementation, verify
from deformable_convnets.reference.oracle.mistakes import MISTAKES
from deformable_convnets.reference.oracle.mistakes_of_sampling import NAN

EXACT = {
    "conv2d": "conv2d_is_exact",
    "conv2d_backward": "conv2d_is_exact",
    "sample": "sample_is_exact",
    "sample_backward": "sample_backward_is_exact",
    "deform_conv2d": "forward_is_exact",
    "deform_conv2d_backward": "backward_is_exact",
    "deform_conv3d": "volume_forward_is_exact",
    "deform_conv3d_backward": "volume_backward_is_exact",
}
UNSEEN: set[tuple[str, str]] = set()  # those that no shape in the lists of the oracle tells apart
SYNONYMS = {  # a gradient that comes out the same from a mistake in one gradient and in the forward
    "the gradient of x through a flipped kernel": {"a flipped kernel (true convolution)"},
    "the gradient of x at the nearest pixel": {"the nearest pixel"},
    "the mask forgotten in the gradient of x": {"the mask forgotten"},
    "the mask forgotten in the weight gradient": {"the mask forgotten"},
    "the weight gradient read at the regular grid": {"the offset forgotten"},
}
NOT_FINITE = {  # the laws that show what is done with a NaN
    "sample": "sample_points_not_finite",
    "deform_conv2d": "points_not_finite",
    "deform_conv3d": "volume_points_not_finite",
    "deform_roi_pool": "offsets_not_finite",
    "deform_ps_roi_pool": "offsets_not_finite",
}
NAMED = {  # of the tables that are parts of others, those that are tried whatever their number
    "the stride as (x, y, z)", "the padding as (x, y, z)", "the dilation as (x, y, z)",
    "the opposite sign of the offset gradient", "the offset gradient added twice",
    "a gradient of x that overwrites instead of adding",
}  # fmt: skip
SHARING = ("deform_roi_pool", "ps_roi_pool", "deform_conv3d")  # their tables are parts of others
EACH = [
    (op, m)
    for op, mistakes in MISTAKES.items()
    for number, m in enumerate(mistakes)
    if "module" not in op and (op, m.name) not in UNSEEN
    if number % 3 == 0 or m.name in NAMED or op.removesuffix("_backward") not in SHARING
]


def exactness(op):
    end = "backward" if op.endswith("_backward") else "forward"
    return EXACT.get(op, f"roi_{end}_is_exact")


def report(op, function, *, laws=None, dtype="float32", examples=60, **options):
    """Of the reference with one operator, or its backward, in another version."""
    name = op.removesuffix("_backward")
    call = {name: getattr(reference, name), op: function}
    i = Implementation("a mistake", call, fixed_shapes=True)
    return verify(
        i, name, laws=laws or exactness(op), dtype=dtype, border=("zero", "dcnv1"),
        bins=("paper", "mxnet", "align"), examples=examples, shrink=False, **options,
    )  # fmt: skip


def diagnosis(op, function, **options):
    found = report(op, function, **options)
    if not found.failures:  # what few problems show, chance may not draw
        found = report(op, function, **options, examples=600, seed=1)
    assert found.failures, found
    return found.failures[0].diagnosis


def changed(op, change):
    """The right operator, its result changed; `change` gets it and the arguments by name."""
    right = getattr(reference, op)

    def wrong(*args, **options):
        names = right.__code__.co_varnames
        return change(right(*args, **options), dict(zip(names, args, strict=False)) | options)

    return wrong


@pytest.mark.parametrize(("op", "mistake"), EACH, ids=[f"{op}: {m.name}" for op, m in EACH])
def test_a_mistake_is_named(op, mistake):
    single = mistake.name == "everything in single precision"
    laws = NOT_FINITE[op] if mistake.name == NAN else exactness(op)
    found = diagnosis(op, mistake.run, laws=laws, dtype="float64" if single else "float32")
    for sentence in found.split("; "):
        names = set(sentence.partition(" equals ")[2].split(" or "))
        assert names == {mistake.name} | SYNONYMS.get(mistake.name, set())


def test_every_synonym_and_every_unseen_mistake_exists():
    names = {m.name for mistakes in MISTAKES.values() for m in mistakes}
    assert set(SYNONYMS) <= names
    assert {(op, name) for op, name in UNSEEN} <= {
        (op, m.name) for op, mistakes in MISTAKES.items() for m in mistakes
    }


def test_a_mistake_of_volumes_has_its_line_in_the_tables():
    sizes = {name for name in NAMED if name.endswith("(x, y, z)")}
    assert {m.name for m in MISTAKES["deform_conv3d"]} >= sizes
    assert {m.name for m in MISTAKES["deform_conv3d_backward"]} >= NAMED


def groups_of(a):
    return a["x"].shape[1] // a["weight"].shape[1]


SHARED = [
    ("deform_conv2d", lambda y, a: y + (groups_of(a) > 1), "y", "groups > 1"),
    ("deform_conv2d", lambda y, a: y + (a["dilation"] != (1, 1)), "y", "a dilation > 1"),
    ("deform_conv2d", lambda y, a: y + (len(a["x"]) > 1), "y", "N > 1"),
    ("deform_conv2d", lambda y, a: y + (a["mask"] is not None), "y", "a mask"),
    ("conv2d", lambda y, a: y + (a["stride"] != (1, 1)), "y", "a stride > 1"),
    ("deform_conv2d_backward", lambda g, a: g._replace(x=g.x + (groups_of(a) > 1)),
     "grads.x", "groups > 1"),
    ("deform_conv2d_backward", lambda g, a: g._replace(weight=g.weight + (len(a["x"]) > 1)),
     "grads.weight", "N > 1"),
    ("sample_backward", lambda g, a: g._replace(p=g.p + (a["side"] == "left")),
     "grads.p", 'side="left" at kinks'),
    ("deform_ps_roi_pool", lambda y, a: y + (a["bins"] == "align"), "y", 'bins="align"'),
    ("roi_pool", lambda y, a: y + (a["spatial_scale"] != 1), "y", "a spatial_scale other than 1"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "change", "result", "word"), SHARED)
def test_an_unknown_bug_is_told_by_what_the_wrong_calls_share(op, change, result, word):
    found = diagnosis(op, changed(op, lambda right, a: in_float32(change(right, a))))
    assert found.startswith(f"{result} is wrong in "), found
    assert f" calls with {word}" in found
    assert "and in none of " in found
    assert "no known mistake" in found


def in_float32(found):
    if isinstance(found, np.ndarray):
        return found.astype(np.float32)
    return type(found)(*(None if v is None else v.astype(np.float32) for v in found))


def test_a_bug_everywhere_is_said_to_be_everywhere():
    found = diagnosis("deform_conv2d", changed("deform_conv2d", lambda y, a: y + y.dtype.type(1)))
    assert found.startswith("y is wrong in all ")


def raising(*args, **options):
    raise MemoryError("no memory left")


KINDS = [
    ("raised", "it raises", lambda y, a: raising()),
    ("shape", "it returns the wrong shape", lambda y, a: y[..., None]),
    ("dtype", "it returns the wrong dtype", lambda y, a: y.astype(np.float64)),
    ("type", "it returns something else than arrays", lambda y, a: y.tolist()),
    ("value", "y is NaN", lambda y, a: y * np.nan),
]


@pytest.mark.parametrize(("kind", "words", "change"), KINDS, ids=[k[0] for k in KINDS])
@pytest.mark.parametrize("op", ["deform_conv2d", "sample", "deform_roi_pool"])
def test_the_kind_of_a_failure(op, kind, words, change):
    (failure,) = report(op, changed(op, change)).failures
    assert failure.kind == kind
    assert failure.diagnosis.startswith(words)


def test_gradients_that_are_not_arrays():
    op = "deform_conv2d_backward"
    (failure,) = report(op, changed(op, lambda grads, a: grads[:2])).failures
    assert failure.kind == "type"
    assert "expected x, offset, weight, bias, mask" in failure.message


def test_an_exception_is_told_by_what_the_calls_share():
    def wrong(y, a):
        if groups_of(a) > 1:
            raise IndexError("index 3 is out of bounds")
        return y

    found = diagnosis("deform_conv2d", changed("deform_conv2d", wrong))
    assert found.startswith("it raises in ")
    assert "calls with groups > 1" in found


def test_arguments_that_are_written_to():
    def wrong(x, offset, weight, bias=None, **options):
        y = reference.deform_conv2d(x, offset, weight, bias, **options)
        if x.flags.writeable:
            x[...] = 0
        return y

    (failure,) = report("deform_conv2d", wrong, laws="arguments_are_left_alone").failures
    assert failure.message.startswith("x after the call")


def unwritten(y, a):
    """The last element of a result is never written; the memory is what was there before."""
    found = np.empty_like(y)
    found.reshape(-1)[:-1] = y.reshape(-1)[:-1]
    return found


@pytest.mark.parametrize("law", ["the_same_call_gives_the_same", "forward_is_exact"])
def test_memory_that_is_never_written(law):
    (failure,) = report("deform_conv2d", changed("deform_conv2d", unwritten), laws=law).failures
    assert "NaN" in failure.diagnosis or "never written" in failure.diagnosis


def test_results_that_change_from_call_to_call():
    rng = np.random.default_rng(0)
    wrong = changed("deform_conv2d", lambda y, a: y + rng.integers(0, 2, y.shape).astype(y.dtype))
    for law in ("the_same_call_gives_the_same", "forward_is_exact"):
        (failure,) = report("deform_conv2d", wrong, laws=law).failures
        assert failure.kind == "value"
        assert "equals" not in failure.diagnosis


def test_what_is_not_implemented_is_no_failure():
    def without_groups(y, a):
        if groups_of(a) > 1:
            raise NotImplementedError("groups")
        return y

    found = report("deform_conv2d", changed("deform_conv2d", without_groups), laws=[
        "forward_is_exact", "groups_are_blocks",
    ])  # fmt: skip
    assert found.ok
    (kept,) = found.kept
    assert kept.law == "forward_is_exact"
    (other,) = found.not_checked
    assert other.law == "groups_are_blocks"
    assert "groups" in other.reason
