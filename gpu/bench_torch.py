"""The contestants of `bench` that PyTorch brings.

torchvision   torchvision.ops.deform_conv2d
deformops     the Triton kernels of deformops, if installed
cuDNN conv2d  the plain convolution of the same shape, without offsets: what deforming costs
roi_align     torchvision.ops.roi_align and ps_roi_align, of as many points and without offsets

TF32 is on for the precision "tf32" and off for all others, in cuBLAS and in cuDNN, whose defaults
differ. cuDNN looks for its fastest algorithm in the first call. Gradients are those of autograd,
of every array but the RoIs; its graph is made once, before a backward is timed.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from .bench_cases import BACKWARD, FORWARD, Case, Named, RoiShape

Function = Callable[[Case, Named], Any]


class Offer(NamedTuple):
    """What a contestant has; see `bench_contestants`.

    function   imports what is needed and returns the forward pass
    leaves     the arrays that it has gradients of
    """

    operators: tuple[str, ...]
    function: Callable[[], Function]
    leaves: tuple[str, ...]
    judged: bool = True
    last: bool = False

    def lacks(self, case: Case) -> str | None:
        return None if case.operator in self.operators else f"it has no {case.operator}"


def _padding(case: Case) -> dict[str, int]:
    assert not isinstance(case.shape, RoiShape)
    return {"padding": case.shape.dilation, "dilation": case.shape.dilation}


def _torchvision() -> Function:
    ops = import_module("torchvision.ops")
    return lambda case, a: ops.deform_conv2d(a["x"], a["offset"], a["weight"], **_padding(case))


def _deformops() -> Function:
    theirs = import_module("deformops.integrations.torchvision")

    def run(case: Case, a: Named) -> Any:
        pairs = {name: (value, value) for name, value in _padding(case).items()}
        return theirs.deform_conv2d(a["x"], a["offset"], a["weight"], **pairs)

    return run


def _plain() -> Function:
    conv2d = import_module("torch.nn.functional").conv2d
    return lambda case, a: conv2d(a["x"], a["weight"], **_padding(case))


def _roi_align() -> Function:
    ops = import_module("torchvision.ops")

    def run(case: Case, a: Named) -> Any:
        at = case.shape
        assert isinstance(at, RoiShape)
        if at.group == 1:
            return ops.roi_align(a["x"], a["rois"], at.k, 1 / 16, at.samples, aligned=True)
        return ops.ps_roi_align(a["x"], a["rois"], at.k, 1 / 16, at.samples)

    return run


ROI = ("deform_roi_pool", "deform_ps_roi_pool")
CONTESTANTS = {
    "torchvision": Offer(("deform_conv2d",), _torchvision, ("x", "offset", "weight")),
    "cuDNN conv2d": Offer(("deform_conv2d",), _plain, ("x", "weight"), judged=False),
    "roi_align": Offer(ROI, _roi_align, ("x",), judged=False),
    "deformops": Offer(("deform_conv2d",), _deformops, ("x", "offset", "weight"), last=True),
}


def set_precision(precision: str) -> None:
    """Sets PyTorch's flags, for the whole process."""
    backends = import_module("torch").backends
    backends.cuda.matmul.allow_tf32 = precision == "tf32"
    backends.cudnn.allow_tf32 = precision == "tf32"
    backends.cudnn.benchmark = True


def prepare(offer: Offer, function: Function) -> Callable[[Case, Named], Callable[[], Named]]:
    """As `Contestant.prepare`."""
    torch = import_module("torch")

    def prepared(case: Case, given: Named) -> Callable[[], Named]:
        set_precision(case.precision)
        arrays = {name: a.detach() for name, a in given.items()}
        grad_output = arrays.pop("grad_output")
        if case.part == FORWARD:

            def forward() -> Named:
                with torch.no_grad():
                    return {"y": function(case, arrays)}

            return forward
        leaves = [arrays[name].requires_grad_() for name in offer.leaves]
        kept = function(case, arrays) if case.part == BACKWARD else None

        def both() -> Named:
            y = function(case, arrays) if kept is None else kept
            grads = torch.autograd.grad(y, leaves, grad_output, retain_graph=kept is not None)
            made = dict(zip((f"grad {name}" for name in offer.leaves), grads, strict=True))
            return made if kept is not None else {"y": y.detach()} | made

        return both

    return prepared
