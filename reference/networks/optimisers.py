"""Gradient descent: SGD with momentum, Adam, and the paper's schedule of learning rates.

They change the parameters in place. What they remember is in `state`, by name, for checkpoints.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy import ndarray as Array

Arrays = Mapping[str, Array]


def step_schedule(rate: float, iteration: int, *, after: int, factor: float = 0.1) -> float:
    """`rate`, and `factor` of it from iteration `after` on: section 4.1 divides it by 10 once."""
    return rate * (factor if iteration >= after else 1)


def multiplier(name: str, multipliers: Mapping[str, float]) -> float:
    """The factor of a parameter's learning rate: that of the last pattern its name matches, or 1.

    The paper's beta for offset branches is {"*branch.*": beta}.
    """
    found = [factor for pattern, factor in multipliers.items() if fnmatchcase(name, pattern)]
    return found[-1] if found else 1.0


@dataclass
class SGD:
    """v = momentum v + gradient + weight_decay w;  w -= rate beta v."""

    momentum: float = 0.9
    weight_decay: float = 0.0
    multipliers: Mapping[str, float] = field(default_factory=dict)
    state: dict[str, Array] = field(default_factory=dict)

    def step(self, parameters: Arrays, gradients: Arrays, rate: float) -> None:
        """One step of all parameters; the gradients are by the same names."""
        for name, w in parameters.items():
            number, v = w.dtype.type, self.state.get(name)
            grad = gradients[name] + number(self.weight_decay) * w
            v = grad if v is None else number(self.momentum) * v + grad
            self.state[name] = v
            w -= number(rate * multiplier(name, self.multipliers)) * v


@dataclass
class Adam:
    """Kingma and Ba 2015, with both means corrected for their start at zero."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    multipliers: Mapping[str, float] = field(default_factory=dict)
    state: dict[str, Array] = field(default_factory=dict)

    def step(self, parameters: Arrays, gradients: Arrays, rate: float) -> None:
        """One step of all parameters; the gradients are by the same names."""
        count = int(self.state.get("count", 0)) + 1
        self.state["count"] = np.asarray(count)
        for name, w in parameters.items():
            grad = gradients[name] + w.dtype.type(self.weight_decay) * w
            first = self._mean(f"{name} first", grad, self.beta1)
            second = self._mean(f"{name} second", grad * grad, self.beta2)
            size = rate * multiplier(name, self.multipliers) / (1 - self.beta1**count)
            root = (second / w.dtype.type(1 - self.beta2**count)) ** 0.5
            w -= w.dtype.type(size) * first / (root + w.dtype.type(self.epsilon))

    def _mean(self, key: str, value: Any, beta: float) -> Array:
        """The running mean of a value, from zero on."""
        number, mean = value.dtype.type, self.state.get(key)
        mean = number(1 - beta) * value + (0 if mean is None else number(beta) * mean)
        self.state[key] = mean
        return mean
