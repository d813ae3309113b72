"""A module of the library made anew from its source, with one thing spoilt."""

import inspect
import sys
import types


def spoilt(module, right, wrong, count=1):
    """`module` with `wrong` in place of `right`, which must stand there `count` times."""
    source = inspect.getsource(module)
    assert source.count(right) == count, right
    copy = types.ModuleType(f"{module.__name__}_spoilt")
    copy.__package__ = module.__package__
    sys.modules[copy.__name__] = copy  # where a dataclass looks for its module
    try:
        exec(source.replace(right, wrong), vars(copy))
    finally:
        del sys.modules[copy.__name__]
    return copy
