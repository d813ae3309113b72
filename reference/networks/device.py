"""The same networks on a GPU: their arrays in another place, and their operators from `gpu`.

    from deformable_convnets import gpu
    there = placed(net, cupy.asarray)                       every array of the network on the device
    scores = there(Tape(ops=gpu), cupy.asarray(images))
    found = two_stage.detect(there, cupy.asarray(images), proposals, ops=gpu)
    home = placed(there, cupy.asnumpy)

A tape looks its operators up in `ops` first: convolutions and RoI pooling are those of `gpu`. All
others, the losses too, compute where their arrays are. What is small and irregular stays on the
CPU, in NumPy: anchors, targets, suppression; so truths, proposals and the rois of `moved_parts` are
NumPy's, and so are detections. Labels of `deeplab.loss` go to the device too. Optimisers change
arrays where they are; `training.train` takes `ops` as well.

Not yet run on a GPU. CuPy arrays only, not tensors of PyTorch.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .layers import arrays


class Where(NamedTuple):
    """A place for networks: Where(cupy.asarray, gpu, cupy.cuda.Device().synchronize).

    to    what brings an array there
    ops   of `Tape`
    wait  returns when all that was started there has ended
    """

    to: Callable[[Any], Any] = np.asarray
    ops: Any = None
    wait: Callable[[], object] = lambda: None


CPU = Where()


def placed(net: Any, to: Callable[[Any], Any]) -> Any:
    """A copy of a network with to(a) in place of each array a: placed(net, cupy.asarray).

    An array that several layers share is still one. What `to` raises is raised.
    """
    named = arrays(net)
    return copy.deepcopy(net, {id(a): to(a) for a in named.values()})
