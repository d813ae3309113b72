"""Every known mistake runs on every problem, can be seen on some, and none is there twice."""

from functools import lru_cache
from itertools import combinations

import numpy as np
import pytest
from test_oracle_diagnosis import NOT_FINITE, UNSEEN, exactness

from deformable_convnets.reference.oracle import LAWS, Implementation, calls, problems
from deformable_convnets.reference.oracle.failures import NotSupported
from deformable_convnets.reference.oracle.implementation import REFERENCE
from deformable_convnets.reference.oracle.lifted import lifted
from deformable_convnets.reference.oracle.mistakes import MISTAKES, same
from deformable_convnets.reference.oracle.problems import Scope

OPERATORS = [op for op in MISTAKES if "module" not in op]
SINGLE = "everything in single precision"


@lru_cache(maxsize=4)
def right_calls(op, dtype="float32", count=60):
    """What the reference does on the problems of its exactness law, and on some at the edges."""
    name, law, log = op.removesuffix("_backward"), LAWS[exactness(op)], []
    offered = {n: REFERENCE.call[n] for n in (name, f"{name}_backward")}
    i = lifted(calls.careful(Implementation("reference", offered), log), name)
    scope, found = Scope(without=i.lacks), law.problems(count, dtype, Scope(without=i.lacks))
    if not law.pools:
        found += problems.some(count // 2, "edge", dtype=dtype, scope=scope, **law.limits)
    odd = LAWS.get(NOT_FINITE.get(name, ""))
    strange = [(odd, p) for p in found[:12] if odd is not None and dtype in odd.dtypes]
    for checked, problem in [(law, p) for p in found] + strange:
        try:
            checked.check(i, problem)
        except NotSupported:
            continue
    return [record for record in log if record.operator == op]


def like(a, b):
    """Whether results have the same shapes and dtypes."""
    if isinstance(a, tuple):
        return type(a) is type(b) and all(map(like, a, b))
    return a is b if b is None else (a.shape, a.dtype) == (b.shape, b.dtype)


@pytest.mark.parametrize("op", OPERATORS)
def test_every_mistake_is_one_and_none_is_there_twice(op):
    records, found = right_calls(op), {}
    right = [record.result for record in records]
    for mistake in MISTAKES[op]:
        wrong = [mistake.run(**record.arguments) for record in records]
        assert all(map(like, wrong, right)), mistake.name
        if (op, mistake.name) not in UNSEEN and mistake.name != SINGLE:
            assert not all(map(same, wrong, right)), f"{mistake.name}: no problem shows it"
            found[mistake.name] = wrong
    pairs = combinations(found, 2)
    assert not [(a, b) for a, b in pairs if all(map(same, found[a], found[b]))]


@pytest.mark.parametrize("op", [op for op in OPERATORS if SINGLE in [m.name for m in MISTAKES[op]]])
def test_single_precision_is_seen_in_double(op):
    (mistake,) = (m for m in MISTAKES[op] if m.name == SINGLE)
    records = right_calls(op, "float64")
    assert not all(same(mistake.run(**r.arguments), r.result) for r in records)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("op", [op for op in OPERATORS if "conv" in op or op == "sample"])
def test_a_mistake_runs_in_every_dtype(op, dtype):
    if dtype in LAWS[exactness(op)].dtypes:
        for record in right_calls(op, dtype, 8):
            for mistake in MISTAKES[op]:
                assert like(mistake.run(**record.arguments), record.result), mistake.name


def test_points_that_are_not_finite_are_no_obstacle():
    (record, *_) = (r for r in right_calls("deform_conv2d_backward") if r.arguments["x"].size > 9)
    odd = record.arguments["offset"].copy()
    odd.reshape(-1)[:3] = np.inf, -np.inf, np.nan
    for mistake in MISTAKES["deform_conv2d_backward"]:
        assert like(mistake.run(**record.arguments | {"offset": odd}), record.result)
