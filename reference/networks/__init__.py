"""Networks of the paper's layers (sections 2.3, 3 and 4): a tape of gradients and its operators."""

from .tape import Tape

__all__ = ["Tape"]
