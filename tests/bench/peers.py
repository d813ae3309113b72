"""Two other libraries that compute equation (2), and the calls on which all must agree.

ONNX Runtime runs in this process, and has no gradients. torchvision, with its own NumPy and six
gigabytes, runs in a child process under the Python of another environment. Nothing here judges:
`test_peers.py` and `cpu.py` do.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets import reference

from .agreement import error
from .child import Child

GRADIENTS = ("x", "offset", "weight", "bias", "mask")


class Case(NamedTuple):
    """One call of `deform_conv2d`, and the gradient that its output receives."""

    x: Array
    offset: Array
    weight: Array
    bias: Array | None
    mask: Array | None
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    grad_output: Array

    def ours(self) -> Array:
        return reference.deform_conv2d(
            self.x, self.offset, self.weight, self.bias, mask=self.mask,
            stride=self.stride, padding=self.padding, dilation=self.dilation,
        )  # fmt: skip

    def our_gradients(self) -> Any:
        return reference.deform_conv2d_backward(
            self.grad_output, self.x, self.offset, self.weight, self.bias, mask=self.mask,
            stride=self.stride, padding=self.padding, dilation=self.dilation,
        )  # fmt: skip


def random_case(seed: int, *, symmetric: bool = False) -> Case:
    """A small float64 call; the seed runs through zero, whole, near and far offsets.

    symmetric  the same padding before and after, as torchvision has it
    """
    rng = np.random.default_rng(seed)
    kernel, stride, dilation = ((3, 2), (2, 3), (1, 4), (1, 1), (3, 3))[seed % 5], (1, 2), (1, 1)
    if seed % 3:
        stride, dilation = (int(rng.integers(1, 4)), 1), (int(rng.integers(1, 3)), 2)
    N, groups, G = (int(n) for n in rng.integers(1, 4, 3))
    C, O = groups * G * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    sides = rng.integers(0, 3, (2, 2))
    if symmetric:
        sides[:, 1] = sides[:, 0]
    output, K = rng.integers(1, 6, 2), kernel[0] * kernel[1]
    size, Ho_Wo = [], []
    for n, k, s, d, (before, after) in zip(output, kernel, stride, dilation, sides, strict=True):
        size.append(max(1, int((n - 1) * s + d * (k - 1) + 1 - before - after)))
        Ho_Wo.append((size[-1] + int(before + after) - d * (k - 1) - 1) // s + 1)
    offset = (0.0, 0.3, 2.0, 20.0)[seed % 4] * rng.standard_normal((N, 2 * G * K, *Ho_Wo))
    if seed % 7 == 0:
        offset = np.round(offset)
    return Case(
        x=rng.standard_normal((N, C, *size)),
        offset=offset,
        weight=rng.standard_normal((O, C // groups, *kernel)),
        bias=rng.standard_normal(O) if rng.integers(2) else None,
        mask=rng.uniform(0, 1, (N, G * K, *Ho_Wo)) if rng.integers(2) else None,
        stride=stride,
        padding=tuple((int(a), int(b)) for a, b in sides),
        dilation=dilation,
        grad_output=rng.standard_normal((N, O, *Ho_Wo)),
    )


class OnnxRuntime:
    """The operator DeformConv of ONNX, opset 22, on the CPU."""

    def __init__(self, case: Case, threads: int = 1):
        import onnxruntime
        from onnx import helper

        arguments = {
            name: getattr(case, name) for name in ("x", "weight", "offset", "bias", "mask")
        }
        self.feed = {name: a for name, a in arguments.items() if a is not None}
        (top, bottom), (left, right) = case.padding
        node = helper.make_node(
            "DeformConv", [name if name in self.feed else "" for name in arguments], ["y"],
            kernel_shape=case.weight.shape[2:], pads=[top, left, bottom, right],
            strides=case.stride, dilations=case.dilation,
            group=case.x.shape[1] // case.weight.shape[1],
            offset_group=case.offset.shape[1] // (2 * case.weight[0, 0].size),
        )  # fmt: skip
        dtype = helper.np_dtype_to_tensor_dtype(case.x.dtype)
        arrays = [helper.make_tensor_value_info(n, dtype, a.shape) for n, a in self.feed.items()]
        y = helper.make_tensor_value_info("y", dtype, None)
        graph = helper.make_graph([node], "deform_conv", arrays, [y])
        opset = [helper.make_opsetid("", 22)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self) -> Array:
        return self.session.run(None, self.feed)[0]


class Torchvision(Child):
    """`torchvision.ops.deform_conv2d`, for use in a `with` statement."""

    def __init__(self, python: str | Path | None = None, threads: int = 1):
        super().__init__("torchvision", python, threads)

    def load(self, case: Case) -> None:
        """Make this the call that `results` and `seconds` are about."""
        padding = [before for before, after in case.padding if before == after]
        if len(padding) != 2:
            raise ValueError(f"padding is {case.padding}, expected equal sides for torchvision")
        arrays = {k: v for k, v in case._asdict().items() if isinstance(v, Array)}
        self.put(
            "deform_conv2d", arrays, stride=case.stride, padding=padding, dilation=case.dilation
        )


def onnx_errors(cases: list[Case]) -> dict[str, float]:
    """The largest error of the forward pass, ours against ONNX Runtime's."""
    return {"y": max(error(case.ours(), OnnxRuntime(case)()) for case in cases)}


def torchvision_errors(cases: list[Case], peer: Torchvision) -> dict[str, float]:
    """The largest error of the forward pass and of each gradient, ours against torchvision's."""
    worst = dict.fromkeys(("y", *GRADIENTS), 0.0)
    for case in cases:
        peer.load(case)
        theirs = peer.results()
        ours = {"y": case.ours(), **case.our_gradients()._asdict()}
        for name in worst:
            worst[name] = max(worst[name], error(ours[name], theirs.get(name)))
    return worst


FEATURES = {
    "zero offsets": lambda c: not c.offset.any(),
    "whole offsets": lambda c: c.offset.any() and (c.offset == np.round(c.offset)).all(),
    "groups": lambda c: c.x.shape[1] > c.weight.shape[1],
    "offset groups": lambda c: c.offset.shape[1] > 2 * c.weight[0, 0].size,
    "bias": lambda c: c.bias is not None,
    "mask": lambda c: c.mask is not None,
    "stride": lambda c: max(c.stride) > 1,
    "dilation": lambda c: max(c.dilation) > 1,
    "padding": lambda c: max(map(max, c.padding)) > 0,
    "unequal padding": lambda c: any(before != after for before, after in c.padding),
}
