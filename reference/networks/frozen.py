"""Layers that training leaves as they are: in the released code conv1, res2 and all batch norms.

    plan = RELEASED["R-FCN", "VOC"]        plan.frozen has their names, those of MXNet
    train(state, draw, loss, ..., frozen=freeze(net, plan))

`freeze` changes the network: its norms keep to their running statistics from then on.

The paper does not say what its networks freeze. What is frozen at the bottom costs no backward: a
tape records from the first layer on that learns.
"""

from . import imported_names as names
from .layers import parameters
from .protocols import Protocol
from .resnet import Trunk


def freeze(net: object, plan: Protocol) -> frozenset[str]:
    """Freezes norms of a ResNet, or of a network that has one, and names the parameters that stay.

    Norms whose scale and shift are frozen also keep to their running statistics, from now on: they
    are changed here, and are no parameters any more. Raises ValueError where the protocol does not
    say what is frozen, and for a trunk of other blocks.
    """
    words = tuple(plan.need("frozen"))
    home, trunk = ("trunk.", net.trunk) if hasattr(net, "trunk") else ("", net)
    if not isinstance(trunk, Trunk):
        raise ValueError(f"{type(net).__name__} has no trunk of `resnet`")
    table = names.mxnet_trunk(trunk, home)
    stay = {
        entry.ours for theirs, entry in table.items()
        if theirs.startswith(words) or theirs.endswith(words)
    }  # fmt: skip
    for place in names.places(trunk, home):
        if {f"{place.path}.norm.{part}" for part in ("scale", "shift")} <= stay:
            place.unit.norm.frozen = True
    return frozenset(stay & parameters(net).keys())
