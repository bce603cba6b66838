"""What can go wrong, as sentences for the user, each with the exit code of a script."""


class FlowersError(Exception):
    """A sentence for the user, which a script prints before it exits.

    `can_go_on`: False where a resumed run would fail in the same way.
    """

    exit_code = 1

    def __init__(self, message: str, can_go_on: bool = True):
        super().__init__(message)
        self.can_go_on = can_go_on


class InputError(FlowersError):
    """What the user pointed at (data folder, names, checkpoint, ...) cannot be used."""

    exit_code = 2


class ImageError(FlowersError):
    """A photograph is missing or cannot be read."""


class RunError(FlowersError):
    """The work itself failed: a full disk, a loss that is not finite."""


def is_out_of_memory(error: BaseException) -> bool:
    """Recognise Python's own error, PyTorch's for accelerators, and its CPU allocator's."""
    words = "can't allocate memory", "out of memory"
    return (
        isinstance(error, MemoryError)
        or "OutOfMemory" in type(error).__name__
        or any(each in str(error) for each in words)
    )


def is_lost_connection(error: BaseException) -> bool:
    """Recognise what torch.distributed raises where another process has ended."""
    words = "gloo", "connection"
    return type(error).__name__.startswith("Dist") or any(w in str(error).lower() for w in words)
