"""Weights of other libraries: torchvision's ResNets, the authors' MXNet models, mmdetection's.

    torchvision(net, read("resnet101.pth"))      a `resnet.trunk`, or a network that has one
    mxnet(net, read("rfcn_dcn_coco.npz"))        a deformable DeepLab, Faster R-CNN or R-FCN too
    mmdetection(net.trunk, read("dconv.pth"))    a trunk with mmdetection's deformable layers

Weights are written into the arrays of a network, after all of them have been found to fit: a state
dict with missing, extra or misshapen entries is one ValueError that lists them all. What the other
library does not have stays as it was: the 1x1 convolution on top, and branches of offsets.

Offsets of deformable convolutions have our order, dy before dx, in all three. In the authors' RoI
layers dx is first, so these rows are exchanged. Their proposal network has background scores first
and then those of objects, anchors by ratio and then by scale, and deltas that are not divided by
`boxes.DEVIATIONS`; ours has the scores of an anchor side by side, and anchors by scale. The names
are in `imported_names`.

Weights come with a preparation of images. Resizing images and their boxes is the caller's.

    torchvision           RGB, 0 to 1, minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)
                          (from memory)
    mxnet                 RGB, 0 to 255, minus (123.15, 115.90, 103.06) (its lib/utils/image.py and
                          config)
    mmdetection, "caffe"  BGR, 0 to 255, minus (103.53, 116.28, 123.675) (its config)

No file says the stride of res5: of mmdetection, stride=32 of `resnet.trunk` for files with FPN and
16 for dc5; of classifiers, either.

An MXNet file is read where MXNet is:
    np.savez(path, **{name: a.asnumpy() for name, a in mxnet.nd.load(path_of_params).items()})
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
from numpy import ndarray as Array

from . import imported_names as names
from .imported_names import Entry, Table
from .layers import arrays
from .resnet import Trunk
from .rpn import Rpn


def read(path: str | Path) -> dict[str, Array]:
    """The arrays of a state dict by name: a .npz file, or PyTorch's .pth or .pt, where it is.

    Of a checkpoint of several parts, its "state_dict". Raises ValueError for what is neither or
    broken, and RuntimeError where PyTorch is missing.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            return _of_numpy(path)
        if path.suffix in (".pth", ".pt"):
            return _of_torch(path)
    except (BadZipFile, EOFError, ValueError) as error:
        raise ValueError(f"{path} is not a state dict: {error}") from error
    raise ValueError(f"{path} ends in {path.suffix!r}, expected .npz, .pth or .pt")


def _of_numpy(path: Path) -> dict[str, Array]:
    with path.open("rb") as opened:
        if opened.read(6) == b"\x93NUMPY":
            raise ValueError("it holds one array, without a name")
        if not is_zipfile(opened):
            raise ValueError("it is no zip file, as .npz files are, or not a whole one")
        opened.seek(0)
        with np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def _of_torch(path: Path) -> dict[str, Array]:
    try:
        torch: Any = import_module("torch")
    except ImportError as error:
        raise RuntimeError(f"{path} needs PyTorch: pip install torch, or save a .npz") from error
    with path.open("rb") as file:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # PyTorch's own, of many kinds
            raise ValueError(str(error).partition("\n")[0]) from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(hasattr(a, "numpy") for a in state.values()):
        raise ValueError("it holds no tensors by name")
    return {
        name: (a.float() if a.dtype == torch.bfloat16 else a).detach().numpy()
        for name, a in state.items()
    }


def load(
    net: Any, state: Mapping[str, Array], table: Table, skipped: Callable[[str], bool]
) -> None:
    """Writes the entries of a state dict into a network, by a table of their names.

    skipped  says of a name that is not in the table whether it is left alone; else it is extra
    Raises ValueError, which lists all that is missing, extra, misshapen or not finite, and
    variances below 0; nothing is written then.
    """
    _check_names(state, table)
    ours, found = arrays(net), {}
    wrong = [f"missing: {name}" for name in table if name not in state]
    wrong += [f"extra: {name}" for name in state if name not in table and not skipped(name)]
    for name, entry in table.items():
        if name not in state:
            continue
        a, home = np.asarray(state[name]), ours[entry.ours]
        shape = home.shape if entry.shape is None else entry.shape
        if a.shape != shape:
            masks = _masks(entry, a, shape)
            wrong.append(f"misshapen: {name} is {a.shape}, expected {shape}{masks}")
        elif a.dtype.kind != "f":
            wrong.append(f"misshapen: {name} is {a.dtype}, expected floating numbers")
        elif not np.isfinite(a).all():
            wrong.append(f"not finite: {name} has {a[~np.isfinite(a)][0]}")
        elif entry.ours.endswith(".variance") and a.min(initial=0) < 0:
            wrong.append(f"negative: {name} has {a.min()}, expected 0 or more, a variance")
        else:
            found[entry.ours] = entry.change(a)
    if wrong:
        raise ValueError("the state dict does not fit the network:\n  " + "\n  ".join(wrong))
    for path, a in found.items():
        ours[path][...] = a


def _masks(entry: Entry, a: Array, shape: tuple[int, ...]) -> str:
    """What is said of a branch that has 27 channels for each 18 of ours."""
    of_dcnv2 = ".conv.branch." in entry.ours and 2 * a.size == 3 * int(np.prod(shape))
    return ", that of DCNv2, with masks: not supported" if of_dcnv2 else ""


def _check_names(state: Mapping[str, Array], table: Table) -> None:
    """One line where no name fits: hundreds that are missing or extra would say no more."""
    if not any(name in state for name in table):
        found = f"found e.g. {next(iter(state))!r}" if state else "found nothing"
        raise ValueError(
            f"none of the {len(table)} names is there; expected e.g. {next(iter(table))!r}, {found}"
        )


def torchvision(net: Any, state: Mapping[str, Array]) -> None:
    """torchvision.models.resnet18, 50 or 101: names of its state_dict(), "layer4.2.conv2.weight".

    The trunk is built with **resnet.TORCHVISION. Its fc is left out where the network has none. In
    torchvision's own dilated networks the first 3x3 layer of layer4 has dilation 1; here, as in the
    authors' code, all have 2.
    """
    state = _named(state)
    home, trunk = _trunk(net, stride_in="3x3", padded_pool=True)
    table = {
        name: entry for name, entry in names.torchvision_trunk(trunk, home).items()
        if "conv_offset" not in name
    }  # fmt: skip
    if trunk.fc is not None:
        table |= names.layer("fc.{}", f"{home}fc")
    alone = ("fc.weight", "fc.bias")
    load(net, state, table, lambda name: _counter(name) or (trunk.fc is None and name in alone))


def mmdetection(net: Any, state: Mapping[str, Array]) -> None:
    """mmdetection: "backbone." and torchvision's names, deformable layers with "conv_offset", of
    its version 1 "conv2_offset"; "roi_head.bbox_head.", "rpn_head.".

    Of a trunk, or a network without a head of Faster R-CNN, only "backbone." is read. Trunks have
    padded pooling, and strides in the 3x3 layer (style "pytorch") or in the 1x1 ("caffe").
    Background is its last class, and has no box; its proposal network has one score for each
    anchor, which is here that of objects against 0. Its deformable RoI pooling has three fully
    connected layers, not the paper's one: its files do not fit, nor do those with a neck, nor its
    dc5 files: their RPN is on res5. Its anchors are those of Anchors(offset=0).
    """
    state = _named(state)
    home, trunk = _trunk(net, padded_pool=True)
    table, alone = {}, ["neck.", "rpn_head.", "roi_head."]
    for name, entry in names.torchvision_trunk(trunk, home).items():
        old = f"backbone.{name.replace('.conv_offset', '_offset')}"
        table[old if old in state else f"backbone.{name}"] = entry
    if hasattr(getattr(net, "head", None), "pool"):
        table |= names.mmdetection_heads(net)
        alone = [] if net.rpn is not None else ["rpn_head."]
        _centred(net.rpn, 0)
    load(net, state, table, lambda name: _counter(name) or name.startswith(tuple(alone)))


def mxnet(net: Any, state: Mapping[str, Array]) -> None:
    """The authors' models: "res5c_branch2b_offset_weight", with or without "arg:" and "aux:".

    Of a trunk alone, what is not of conv1 to res5 is left out. The trunk is built with
    **resnet.CAFFE, heads with bins="mxnet" and samples=4; released detectors have 4 offset groups.
    DeepLab's branches get dilation 1, and all deformable convolutions border "dcnv1", with which
    the weights were trained. Up-sampling stays different, see `deeplab`.
    """
    state = {name.removeprefix("arg:").removeprefix("aux:"): a for name, a in _named(state).items()}
    home, trunk = _trunk(net, stride_in="1x1", padded_pool=False)
    table, alone = names.mxnet_trunk(trunk, home), ["upsampling_weight"]
    segments = hasattr(net, "score")
    if home and trunk.top is not None:
        table |= names.layer("fc6_{}" if segments else "conv_new_1_{}", f"{home}top")
    if segments:
        table |= names.layer("score_{}", "score")
    if getattr(net, "head", None) is not None:
        _of_bins(net.head)
        _centred(net.rpn, 0.5)
        table |= names.mxnet_heads(net)
        alone += ["rpn_"] if net.rpn is None else []

    def skipped(name: str) -> bool:
        other = not home and not name.startswith(("conv1_", "res", "bn"))
        return other or name.endswith("_test") or name.startswith(tuple(alone))

    load(net, state, table, skipped)
    for layer in names.deformed(trunk, home):
        layer.border = "dcnv1"
        if segments:
            layer.branch.padding = layer.branch.dilation = 1


def _counter(name: str) -> bool:
    """How many batches a norm of PyTorch has seen: nothing that we have."""
    return name.endswith("num_batches_tracked")


def _named(state: Any) -> Mapping[str, Array]:
    """A state dict, if it is one."""
    if not isinstance(state, Mapping):
        raise TypeError(
            f"the state dict is of type {type(state).__name__}, expected arrays by name"
        )
    return state


def _of_bins(head: Any) -> None:
    """Refuses a head of other bins than the authors' code has."""
    layer = head.pool if hasattr(head, "pool") else head.score
    if (layer.bins, layer.samples) != ("mxnet", 4):
        raise ValueError(
            f"the head has bins={layer.bins!r}, samples={layer.samples}, and these weights are for"
            " 'mxnet', samples 4: see settings.of_head(RELEASED[...])"
        )


def _centred(rpn: Rpn | None, offset: float) -> None:
    """Refuses a proposal network whose anchors are elsewhere in their cells."""
    if rpn is not None and rpn.anchors.offset != offset:
        raise ValueError(
            f"the anchors have offset={rpn.anchors.offset}, and these weights are for {offset}: see"
            " anchors.Anchors"
        )


def _trunk(net: Any, **expected: Any) -> tuple[str, Trunk]:
    """Its path and itself, if it has the strides and the pooling that the weights are for."""
    home, trunk = ("trunk.", net.trunk) if hasattr(net, "trunk") else ("", net)
    if not isinstance(trunk, Trunk):
        raise ValueError(f"{type(net).__name__} has no trunk of `resnet`")
    given: dict[str, Any] = {"padded_pool": trunk.padded_pool}
    for place in names.places(trunk, home):
        if place.part == "branch2a" and place.block is not None and place.block.branch2c:
            if place.unit.conv.stride != 1:
                given["stride_in"] = "1x1"
            elif place.block.branch2b.conv.stride != 1:
                given["stride_in"] = "3x3"
    for name, value in expected.items():
        if given.get(name, value) != value:
            raise ValueError(
                f"the trunk has {name}={given[name]!r}, and these weights are for {value!r}: see"
                " resnet.CAFFE and resnet.TORCHVISION"
            )
    return home, trunk
