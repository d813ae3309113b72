"""What can go wrong in a call of an implementation, besides a wrong value."""


class Failed(AssertionError):
    """A call that gave no result to judge.

    kind  "raised", "hung", "died", "type", "shape" or "dtype"
    """

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind

    @property
    def fatal(self) -> bool:
        """Whether trying it again, only to find a smaller example, costs too much."""
        return self.kind in ("hung", "died")


class NotSupported(Exception):
    """The call needs something that the implementation does not support; no failure.

    lacks  what, in the words of `features.WORDS`, or as the implementation said it
    """

    def __init__(self, *lacks: str):
        super().__init__(", ".join(lacks))
        self.lacks = lacks


class Refused(NotSupported):
    """The implementation itself refused the call, by NotImplementedError."""
