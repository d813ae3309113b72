"""Deliberate bugs: the reference with one thing wrong, for the sabotage tables."""

import inspect
import re
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from deformable_convnets import reference
from deformable_convnets.reference.oracle import LAWS, verify
from deformable_convnets.reference.oracle.calls import promised
from deformable_convnets.reference.oracle.implementation import REFERENCE, Implementation
from deformable_convnets.reference.oracle.mistakes import MISTAKES


class Row(NamedTuple):
    """A bug in an operator, and the law that has to catch it.

    gradient  the one that is wrong; the forward is, if there is none
    dtype     in which it shows; that of the law, unless given
    """

    law: str
    name: str
    wrong: Implementation
    op: str = "deform_conv2d"
    gradient: str = ""
    dtype: str = ""

    @property
    def id(self) -> str:
        return f"{self.law}: {self.name} ({self.op})"


def bug(**wrong: Any) -> Implementation:
    """The reference with these callables in place of its own."""
    call = {**REFERENCE.call, **wrong}
    return replace(REFERENCE, name="a deliberate bug", call=call, fixed_shapes=True)


def known(op: str, name: str) -> Implementation:
    """A known mistake."""
    (run,) = (m.run for m in MISTAKES[op] if m.name == name)
    return bug(**{op: run})


def named(op, args, options):
    """The arguments of a call, by name."""
    bound = inspect.signature(getattr(reference, op)).bind(*args, **options)
    bound.apply_defaults()
    return bound.arguments


def on_arguments(change, op="deform_conv2d", *, ends=("",)):
    """A bug that changes arguments before the right code runs; gets them all by name."""

    def wrong(name):
        def run(*args, **options):
            given = named(name, args, options)
            return getattr(reference, name)(**{**given, **change(**given)})

        return run

    return bug(**{op + end: wrong(op + end) for end in ends})


def on_result(change, op="deform_conv2d"):
    """A bug that changes the result; gets it, and the arguments by name."""

    def wrong(*args, **options):
        given = named(op, args, options)
        return change(getattr(reference, op)(**given), **given)

    return bug(**{op: wrong})


def on_grads(change, op="deform_conv2d"):
    """A bug that changes some gradients; gets all of them, and the arguments by name."""
    return on_result(lambda grads, **a: grads._replace(**change(grads, **a)), f"{op}_backward")


def caught(row: Row, wrong: Implementation) -> str:
    """What is said of the law of a row, held against this implementation; "" if it is kept."""
    for examples in (60, 600):  # what few problems show, chance may not draw at once
        report = verify(
            wrong, row.op, laws=row.law, dtype=row.dtype or LAWS[row.law].dtypes[0],
            border=("zero", "dcnv1"), bins=("paper", "mxnet", "align"), examples=examples,
            shrink=False,
        )  # fmt: skip
        assert report.failures or report.kept, report
        if report.failures:
            break
    return "".join(failure.message for failure in report.failures)


def check_caught(row: Row) -> None:
    """The law of a row catches its bug, in the right gradient, or in the forward alone too."""
    found = caught(row, row.wrong)
    assert found, f"{row.law} did not notice: {row.name}"
    if row.gradient:
        assert re.search(rf"grads?[._]{row.gradient}\b", found), found
    elif not LAWS[row.law].gradients:
        names = (row.op, *LAWS[row.law].others)
        alone = replace(row.wrong, call={name: row.wrong.call[name] for name in names})
        assert caught(row, alone), f"{row.law} did not notice in the forward alone: {row.name}"


def computed_in(dtype, op="deform_conv2d"):
    """deform_conv2d, or that of volumes, in another precision, the result cast back."""

    def wrong(x, offset, weight, bias=None, *, mask=None, **options):
        cast = [a if a is None else a.astype(dtype) for a in (x, offset, weight, bias, mask)]
        *args, mask = cast
        return getattr(reference, op)(*args, mask=mask, **options).astype(x.dtype)

    return wrong


def halved_coordinates(x, offset, weight, bias=None, **options):
    """p0 + p_n + offset rounded to half precision, by an offset that makes up the difference."""
    shape = {k: options[k] for k in ("stride", "padding", "dilation")}
    p = reference.sampling_points(offset, weight.shape[2:], **shape)
    p = np.moveaxis(p, -1, 3).reshape(offset.shape)
    wrong = (p.astype(np.float16).astype(p.dtype) - p).astype(offset.dtype)
    return reference.deform_conv2d(x, offset + wrong, weight, bias, **options)


def flaky(op):
    """Every third call adds 1 to all that it returns."""
    count = iter(range(10**9))

    def change(result, **_):
        add = 1 if next(count) % 3 == 2 else 0
        if isinstance(result, np.ndarray):
            return result + result.dtype.type(add)
        return type(result)(*(v if v is None else v + v.dtype.type(add) for v in result))

    return on_result(change, op)


def unwritten(op, name="y"):
    """A bug that never writes the last element of y, or of a gradient, in the memory it asks for.

    It asks first, as a kernel does whose output is allocated before it runs.
    """

    def wrong(*args, **options):
        given = named(op, args, options)
        memory = np.empty(*promised(op, given)[name])
        found = getattr(reference, op)(**given)
        right = found if name == "y" else getattr(found, name)
        memory.reshape(-1)[:-1] = right.reshape(-1)[:-1]
        return memory if name == "y" else found._replace(**{name: memory})

    return bug(**{op: wrong})
