"""The reference against other libraries in float64: the same numbers to 1e-12 of the largest one.

ONNX Runtime is in the extra `test`. torchvision has an environment of its own, which
`make test-peers` makes; without it that test is skipped.
"""

import shutil
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from bench import peers
from bench.agreement import agree, error, reaches_everything
from bench.peers import FEATURES, available, child, random_case
from bench.record import record

from deformable_convnets import reference
from deformable_convnets.reference.oracle.child import CannotStart

TOLERANCE = 1e-12  # both are float64 sums of at most 100 terms: some 1e-15 in truth
CASES = 200


def onnx_node_tests() -> Iterator[tuple[str, dict[str, Any], list[np.ndarray], np.ndarray]]:
    """ONNX's own tests of DeformConv: the name, attributes, inputs and expected output of each."""
    from onnx import helper

    with warnings.catch_warnings():  # its arrays are made in a way that NumPy 2.5 deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        from onnx.backend.test.case.node import deformconv

    found: list[Any] = []

    def expect(node: Any, inputs: Any, outputs: Any, name: str) -> None:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        named = dict(zip(filter(None, node.input), inputs, strict=True))
        found.append((name, attributes, [named.get(n) for n in ("B", "mask")], inputs[:3], outputs))

    original, deformconv.expect = deformconv.expect, expect
    try:
        for export in ("export", "export_deformconv_with_mask_bias",
                       "export_deformconv_with_multiple_offset_groups"):  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                getattr(deformconv.DeformConv, export)()
    finally:
        deformconv.expect = original
    for name, attributes, optional, inputs, outputs in found:
        yield name, attributes, [*inputs, *optional], outputs[0]


def test_equals_onnx_runtime() -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is in the extra `test`")
    cases = [random_case(seed) for seed in range(CASES)]
    reaches_everything(cases, FEATURES)
    with child("onnxruntime") as onnx:
        errors = peers.errors(cases, onnx)
        versions = {"onnxruntime": onnx.versions["onnxruntime"]}
    assert errors.keys() == {"y"}
    record("ONNX Runtime DeformConv", versions, CASES, TOLERANCE, errors)
    agree(errors, TOLERANCE)


def test_equals_the_node_tests_of_onnx() -> None:
    pytest.importorskip("onnx", reason="onnx is in the extra `test`")
    names = []
    for name, attributes, (x, weight, offset, bias, mask), expected in onnx_node_tests():
        top, left, bottom, right = attributes["pads"]
        y = reference.deform_conv2d(
            x, offset, weight, bias, padding=((top, bottom), (left, right)), mask=mask
        )
        assert set(attributes) <= {"kernel_shape", "pads", "offset_group"}
        assert y.dtype == expected.dtype
        assert error(y, expected) <= 1e-6, name  # expected has one decimal, in float32
        names.append(name)
    assert len(names) == 4


@pytest.mark.skipif(
    not available("torchvision"),
    reason="torchvision is in no extra; `make test-peers` installs it",
)
def test_equals_torchvision() -> None:
    cases = [random_case(seed, symmetric=True) for seed in range(CASES)]
    reaches_everything(cases, FEATURES, lacking=frozenset({"unequal padding"}))
    with child("torchvision") as torchvision:
        errors = peers.errors(cases, torchvision)
        record("torchvision deform_conv2d", torchvision.versions, CASES, TOLERANCE, errors)
    agree(errors, TOLERANCE)


def test_agree_raises() -> None:
    agree({"y": 1e-13}, TOLERANCE)
    for wrong in (2e-12, float("inf"), float("nan")):
        with pytest.raises(AssertionError, match="offset"):
            agree({"y": 0.0, "offset": wrong}, TOLERANCE)


def test_reaches_everything_raises() -> None:
    with pytest.raises(AssertionError, match=r"\('mask', "):
        reaches_everything([random_case(1)], FEATURES)


def test_error_sees_every_kind_of_difference() -> None:
    a = np.array([[1.0, -4.0]])
    assert error(a, a.copy()) == 0
    assert error(a + 1e-3, a) == pytest.approx(1e-3 / 4)
    assert error(a.T, a) == error(None, a) == error(a, None) == float("inf")
    assert error(np.array([[np.nan, -4.0]]), a) == float("inf")
    assert error(a, 0 * a) == 4


@pytest.fixture
def dy_and_dx_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference, misreading offsets as (dx, dy)."""
    right = reference.deform_conv2d

    def wrong(x: Any, offset: Any, *others: Any, **keywords: Any) -> Any:
        swapped = offset.reshape(offset.shape[0], -1, 2, *offset.shape[2:])[:, :, ::-1]
        return right(x, swapped.reshape(offset.shape), *others, **keywords)

    monkeypatch.setattr(reference, "deform_conv2d", wrong)


@pytest.mark.usefixtures("dy_and_dx_swapped")
def test_onnx_runtime_sees_a_swap() -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is in the extra `test`")
    with child("onnxruntime") as onnx, pytest.raises(AssertionError, match="'y'"):
        agree(peers.errors([random_case(seed) for seed in range(8)], onnx), TOLERANCE)


class Stub:
    """Answers what the reference does, but for one array."""

    def __init__(self, spoiled: str, *operators: str):
        self.spoiled, self.operators = spoiled, list(operators)

    def call(self, operator: str, arguments: dict[str, Any]) -> Any:
        right = getattr(reference, operator)(**arguments)
        if not operator.endswith("_backward"):
            return 1.001 * right if self.spoiled == "y" else right
        given = {name: a for name, a in right._asdict().items() if a is not None}
        return {name: 1.001 * a if name == self.spoiled else a for name, a in given.items()}


@pytest.mark.parametrize("spoiled", ["y", *peers.GRADIENTS])
def test_errors_sees_one_wrong_array(spoiled: str) -> None:
    cases = [random_case(seed, symmetric=True) for seed in range(8)]
    errors = peers.errors(cases, Stub(spoiled, "deform_conv2d", "deform_conv2d_backward"))
    assert {name for name, value in errors.items() if value > TOLERANCE} == {spoiled}


def test_a_child_without_torchvision_is_an_error() -> None:
    with pytest.raises(CannotStart, match=r"ended with status 1; .* installs it"):
        child("torchvision", shutil.which("false") or "false")
