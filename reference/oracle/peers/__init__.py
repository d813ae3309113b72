"""Other libraries as implementations that the oracle can test, each in a process of its own.

    found = peers.implementation("torchvision")
    …
    peers.close(found)

What a library lacks is what its interface cannot express, is documented as missing or is refused.
What it computes by another convention, or wrongly, stands in its notes and is tested all the same.
"""

import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..implementation import NAMES, REFERENCE, VOLUMES, Implementation

if TYPE_CHECKING:
    from ..child import Child

DTYPES = ("float32", "float64", "float16")
BORDERS = ("zero", "dcnv1")
SIMULATED = 5  # problems that Numba's CUDA simulator affords


@dataclass(frozen=True)
class Offer:
    """One of our operators in a library.

    title     the library's name of it
    backward  whether it has the gradients
    border    the border that it has; None: both, or it has none to speak of
    lacks     in the words of `features.WORDS`
    """

    operator: str
    title: str
    backward: bool = True
    dtypes: tuple[str, ...] = DTYPES
    border: str | None = None
    lacks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Peer:
    """A library, and how it is reached.

    script       the file of this folder that calls it, without .py; empty: in this process
    variant      what the script is asked for
    environment  where `make test-peers` installs it, `.venv-<environment>`; empty: not there
    packages     what pip installs
    examples     how many problems it affords; fixed_shapes as in `Implementation`
    notes        what is done another way, or wrongly
    """

    script: str
    offers: tuple[Offer, ...]
    variant: str = ""
    environment: str = ""
    packages: str = ""
    examples: int = 200
    fixed_shapes: bool = False
    notes: tuple[str, ...] = ()

    def chosen(self, operator: str | None, border: str | None) -> dict[str, Offer]:
        """What is offered of this operator (None: of all) with this border, by operator."""
        found: dict[str, Offer] = {}
        for offer in self.offers:
            if operator in (None, offer.operator) and (
                not border or offer.border in (None, border)
            ):
                found.setdefault(offer.operator, offer)
        return found


def _lacks(*words: str) -> frozenset[str]:
    return frozenset(words)


LEFT = "the left derivative"
RULES = {
    rule: _lacks(*({"bins paper", "bins mxnet", "bins align"} - {f"bins {rule}"}))
    for rule in ("mxnet", "align")
}
ONNX = Offer(
    "deform_conv2d", "DeformConv-22", backward=False, border="zero", lacks=_lacks("mixed dtypes")
)
OURS = tuple(Offer(name, name) for name in NAMES if not name.endswith("_backward"))
WITH_VOLUMES = (*OURS, *(Offer(name, name) for name in VOLUMES))
CLEARED = "NaN as an offset is 0 in y, where ours is NaN"
PEERS = {
    "reference": Peer("", WITH_VOLUMES),
    "torchvision": Peer(
        "torchvision_child",
        (
            Offer("deform_conv2d", "torchvision.ops.deform_conv2d", border="zero",
                  lacks=_lacks("uneven padding", "mixed dtypes", LEFT)),
            Offer("roi_pool", "torchvision.ops.roi_align, aligned=True",
                  lacks=RULES["align"] | {"mixed dtypes", LEFT}),
            Offer("ps_roi_pool", "torchvision.ops.ps_roi_align",
                  lacks=RULES["align"] | {"maps unlike bins", "mixed dtypes", LEFT}),
        ),
        environment="peers", packages="torch torchvision numpy",
        notes=(
            "at coordinate -1 the derivative is the right-hand one",
            "NaN as an offset ends the process with SIGSEGV, on a CPU",
            "an infinite offset has the gradient NaN, where ours is 0",
            "float16 coordinates are computed in float16: wrong where an image is wider than 256",
        ),
    ),
    "onnxruntime": Peer(
        "onnx_child", (ONNX,), "onnxruntime", packages="onnx onnxruntime", notes=(CLEARED,)
    ),
    "onnx-reference": Peer(
        "onnx_child", (ONNX,), "reference", packages="onnx", examples=20,
        notes=(
            "a map that is one pixel high or wide raises ValueError: it divides by H - 1",
            "offsets that are not finite raise",
            "float64 is as exact as float32",
        ),
    ),
    "mxnet": Peer(
        "mxnet_child",
        (
            Offer("deform_conv2d", "ModulatedDeformableConvolution", False, DTYPES[:2], "zero",
                  _lacks("uneven padding")),
            Offer("deform_conv2d", "DeformableConvolution", True, DTYPES[:2], "dcnv1",
                  _lacks("uneven padding", "mask", LEFT)),
            Offer("deform_ps_roi_pool", "DeformablePSROIPooling", True, DTYPES[:2],
                  lacks=RULES["mxnet"] | {"unequal axes", "gamma above 1", LEFT}),
        ),
        environment="mxnet", packages="mxnet==1.9.1 numpy==1.23.5",
        notes=(
            CLEARED,
            "ModulatedDeformableConvolution ends the process with SIGFPE where N = 0",
            "ModulatedDeformableConvolution refuses outputs that its offset groups do not divide",
            "DeformablePSROIPooling has derivative 0 along an axis where a sample is at a pixel",
            "DeformablePSROIPooling ends the process with SIGABRT for some offsets beyond 1e20",
        ),
    ),
    "openvino": Peer(
        "openvino_child",
        (
            Offer("deform_conv2d", "DeformableConvolution-8", False, ("float32", "float16"),
                  lacks=_lacks("mixed dtypes")),
            Offer("deform_ps_roi_pool", "DeformablePSROIPooling-1", False, ("float32", "float16"),
                  lacks=RULES["mxnet"] | {"unequal axes", "maps unlike bins"}),
        ),
        environment="openvino", packages="openvino",
        notes=(
            CLEARED,
            "NaN with dcnv1 or in DeformablePSROIPooling can end the process with SIGSEGV",
            "float64 is computed in float32",
            "a bias is a node of its own",
        ),
    ),
    "paddle": Peer(
        "paddle_child",
        (Offer("deform_conv2d", "paddle.vision.ops.deform_conv2d", True, DTYPES[:2], "zero",
               _lacks("uneven padding", LEFT)),),
        environment="paddle", packages="paddlepaddle",
        notes=(
            CLEARED + "; its backward ends the process with SIGSEGV",
            "at coordinate -1 the derivative is 0, the left-hand one",
            "refuses outputs that the offset groups do not divide",
        ),
    ),
    "gpu-numba": Peer("gpu_child", WITH_VOLUMES, "numba v1", examples=100, fixed_shapes=True),
    "gpu-numba-v2": Peer(
        "gpu_child", tuple(o for o in OURS if o.operator != "conv2d"), "numba v2",
        examples=100, fixed_shapes=True,
    ),
    "gpu-cupy": Peer("gpu_child", OURS, "cupy v1", examples=100, fixed_shapes=True),
    "gpu-cuda": Peer(
        "gpu_child", tuple(replace(offer, dtypes=DTYPES[:2]) for offer in OURS), "cupy v2",
        fixed_shapes=True, notes=("in float16 a column is rounded before the product",),
    ),
    "gpu-array-program": Peer("gpu_child", OURS, "numpy v1", examples=100, fixed_shapes=True),
}  # fmt: skip


def implementation(
    name: str,
    *,
    operator: str | None = None,
    python: str | Path | None = None,
    border: str | None = "zero",
    time_limit: float = 60.0,
    threads: int | None = None,
) -> Implementation:
    """A peer as an implementation; raises `child.CannotStart` where its library is not there.

    operator    offer this one alone, and its gradients: of several, what any lacks all lack
    python      the Python that has the library; see `python_of`
    border      the border that is tested, for some have an operator for each; None: all it has
    time_limit  seconds for a call
    Its process ends by `close`, and else with the last reference to the implementation.
    """
    peer = _peer(name)
    offers = peer.chosen(operator, border)
    if not offers:
        raise ValueError(f"{name} has no {operator} with border={border!r}")
    names = [o + end for o, f in offers.items() for end in ("", "_backward")[: 1 + f.backward]]
    about: dict[str, Any] = {
        "dtypes": tuple(d for d in DTYPES if all(d in o.dtypes for o in offers.values())),
        "lacks": frozenset().union(*(_all_lacks(o, border) for o in offers.values())),
        "fixed_shapes": peer.fixed_shapes,
    }
    if not peer.script:
        call = {o: REFERENCE.call[o] for o in names}
        return Implementation(name, call, examples=peer.examples, **about)
    started = child(name, python=python, time_limit=time_limit, threads=threads)
    return Implementation(
        name, {o: started.function(o) for o in names}, versions=started.versions,
        examples=SIMULATED if "device" in started.versions else peer.examples, **about,
    )  # fmt: skip


def child(
    name: str,
    *,
    python: str | Path | None = None,
    time_limit: float = 60.0,
    threads: int | None = None,
) -> "Child":
    """The process of a peer, to be closed: for its operators one by one, and their times."""
    from ..child import Child  # which needs `serve`, of this package

    peer = _peer(name)
    return Child(
        peer.script, name=name, python=python or python_of(name), variant=peer.variant,
        threads=threads, time_limit=time_limit, hint=_hint(name),
    )  # fmt: skip


def close(implementation: Implementation) -> None:
    """End the processes behind an implementation, if there are any; a call starts them again."""
    from ..child import close

    close(implementation.call.values())


def python_of(name: str, folder: str | Path = ".") -> Path:
    """The Python for a peer.

    The one that TORCHVISION_PYTHON (or ONNX_REFERENCE_PYTHON …) names; else that of `.venv-peers`
    and the like in the folder, which `make test-peers` makes; else this one.
    """
    variable = re.sub(r"\W", "_", name).upper() + "_PYTHON"
    own = Path(folder).absolute() / f".venv-{PEERS[name].environment}" / "bin" / "python"
    return Path(os.environ.get(variable) or (own if own.exists() else sys.executable))


def _peer(name: str) -> Peer:
    if name not in PEERS:
        raise ValueError(f"there is no peer {name!r}, only {', '.join(PEERS)}")
    return PEERS[name]


def _all_lacks(offer: Offer, border: str | None) -> frozenset[str]:
    """What this operator lacks, borders included."""
    has = border or offer.border
    samples = offer.operator in ("sample", "deform_conv2d", "deform_conv3d") and has is not None
    others = [f"the {b} border" for b in BORDERS if samples and b != has]
    return offer.lacks.union(others)


def _hint(name: str) -> str:
    peer = PEERS[name]
    if peer.environment:
        where = f"in a checkout, `make test-peers PEER={name}` installs it"
    elif peer.packages:
        where = f"pip install {peer.packages}"
    else:
        where = "pip install '.[gpu]'"
    return f"{where}; --python names another Python"
