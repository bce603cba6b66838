"""What can go wrong, as sentences for the user, each with the exit code of a script."""


class FlowersError(Exception):
    """What went wrong, as one sentence for the user; a script prints it and exits.

    `can_go_on`: False where a run that is resumed would come to the same again.
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
    return (
        isinstance(error, MemoryError)
        or "OutOfMemory" in type(error).__name__
        or "can't allocate memory" in str(error)
        or "out of memory" in str(error)
    )


def is_lost_connection(error: BaseException) -> bool:
    """Recognise what torch.distributed raises where another process has gone."""
    return type(error).__name__.startswith("Dist") or any(
        word in str(error).lower() for word in ("gloo", "connection")
    )
