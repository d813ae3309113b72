"""One solution for each exercise, under the exercise's name. The tests run them.

The notebooks never import this package: look here after you have tried.
"""

from collections.abc import Callable
from typing import Any

from . import layers, roi

MODULES = (layers, roi)


def solution(name: str) -> Callable[..., Any]:
    """The solution of the exercise of this name."""
    return next(vars(module)[name] for module in MODULES if name in vars(module))
