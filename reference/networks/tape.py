"""A tape: it records the calls of operators, and replays their backwards, the last call first.

An operator is a pair of functions: f(*arguments) and f_backward(grad_output, *arguments), which
returns a NamedTuple of gradients whose fields are named after the arguments, as all of this project
do. Values are plain arrays; the tape knows them by identity, so an array that was made outside it
(x + 1, x[0], x.reshape(-1)) is a constant to it.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from numpy import ndarray as Array

from deformable_convnets import reference

from .. import checks
from . import losses, primitives
from .door import namespace

Operator = Callable[..., Array]


class Record(NamedTuple):
    """One call: its pair of functions, its arguments by name, and what it returned."""

    forward: Operator
    backward: Callable[..., Any]
    arguments: dict[str, Any]
    result: Array


class Tape:
    """Calls of operators, as methods, and the gradients of what they compute.

        tape = Tape({"weight": weight})
        loss = tape.softmax_loss(tape.conv2d(x, weight, padding=1), labels)
        gradients = tape.gradients(loss)          {"weight": dloss/dweight}

    parameters  the arrays whose gradients are wanted, by name. Only calls that depend on them are
                recorded: a tape without parameters keeps nothing.
    ops         where operators are looked up first: `reference` (the default), or `gpu`, whose
                operators take arrays of a GPU; all others are those of this package, which compute
                where their arrays are
    """

    def __init__(self, parameters: Mapping[str, Array] | None = None, ops: Any = None):
        self.parameters = dict(parameters or {})
        self.homes = (ops or reference, primitives, losses)
        self.records: list[Record] = []
        self.live = {id(a) for a in self.parameters.values()}

    @property
    def recording(self) -> bool:
        """Whether gradients are wanted: networks are being trained."""
        return bool(self.parameters)

    def __getattr__(self, name: str) -> Callable[..., Array]:
        for home in self.__dict__.get("homes", ()):
            forward = getattr(home, name, None)
            backward = getattr(home, f"{name}_backward", None)
            if forward is not None and backward is not None:
                return partial(self.call, forward, backward)
        raise AttributeError(f"there is no operator {name!r} with a {name}_backward")

    def call(
        self,
        forward: Callable[..., Array],
        backward: Callable[..., Any],
        *args: Any,
        **options: Any,
    ) -> Array:
        """forward(*args, **options), recorded if one of its arguments is live."""
        result = forward(*args, **options)
        arguments = _signature(forward).bind(*args, **options).arguments
        if any(id(a) in self.live for a in arguments.values()):
            self.live.add(id(result))
            self.records.append(Record(forward, backward, arguments, result))
        return result

    def gradients(self, result: Array, grad_output: Array | None = None) -> dict[str, Array]:
        """The gradients of the parameters, by name; the tape is empty afterwards.

        result       an array that this tape has computed, such as a loss of shape ()
        grad_output  its gradient, of the same shape; 1 for a number
        Raises ValueError if a parameter has no part in the result. No two gradients share memory.
        """
        first = self._first(result, grad_output)
        try:
            found = self._replayed(result, first)
        finally:
            self.records.clear()
            self.live = {id(a) for a in self.parameters.values()}
        unused = [name for name, a in self.parameters.items() if id(a) not in found]
        if unused:
            raise ValueError(f"the result does not depend on {', '.join(unused)}")
        grads = {name: found[id(a)] for name, a in self.parameters.items()}
        return {name: grad.copy() if _shared(grad, grads, grad_output) else grad
                for name, grad in grads.items()}  # fmt: skip

    def _replayed(self, result: Array, grad_output: Array) -> dict[int, Array]:
        """The gradients by the identity of their arrays."""
        found = {id(result): grad_output}
        while self.records:
            record = self.records.pop()  # what it holds is freed as soon as it has been used
            grad = found.pop(id(record.result), None)
            if grad is not None:
                for a, more in self._through(record, grad):
                    found[id(a)] = more if id(a) not in found else found[id(a)] + more
        return found

    def _first(self, result: Array, grad_output: Array | None) -> Array:
        if not any(record.result is result for record in self.records):
            raise ValueError("this result was not computed by this tape, from its parameters")
        if grad_output is None and result.size != 1:
            raise ValueError(f"the result has shape {result.shape}: its grad_output is needed")
        if grad_output is None:
            return namespace(result).ones_like(result)
        checks.Call(result=result, grad_output=grad_output).check_shape(
            "grad_output", "as the result", result.shape
        )
        return grad_output

    def _through(self, record: Record, grad: Array) -> list[tuple[Array, Array]]:
        """The arguments of a call that are live, each with its gradient."""
        live = {name: a for name, a in record.arguments.items() if id(a) in self.live}
        wanted = {"wrt": list(live)} if "wrt" in _signature(record.backward).parameters else {}
        grads = record.backward(grad, **record.arguments, **wanted)
        without = [name for name in live if getattr(grads, name, None) is None]
        if without:
            raise ValueError(
                f"{record.forward.__name__} has no gradient of {', '.join(without)}, which depends"
                " on parameters of the tape"
            )
        return [(a, getattr(grads, name)) for name, a in live.items()]


def _shared(grad: Array, grads: dict[str, Array], grad_output: Array | None) -> bool:
    """Whether a gradient may be a part of another one, or of what the caller gave."""
    again = sum(other is grad for other in grads.values()) > 1
    return again or grad is grad_output or getattr(grad, "base", None) is not None


_SIGNATURES: WeakKeyDictionary[Callable[..., Any], inspect.Signature] = WeakKeyDictionary()


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if function not in _SIGNATURES:
        _SIGNATURES[function] = inspect.signature(function)
    return _SIGNATURES[function]
