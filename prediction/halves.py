"""How the weights of an exported network are stored: in half precision where no name changes.

Half precision halves the file. What rounding the weights does to names is not known before, so it
is tried, on photographs that the user gives.
"""

from collections.abc import Sequence
from typing import NamedTuple

from formats.onnx_file import count_threads, load_content
from prediction.inputs import expand, read_each
from running.console import Progress, no_progress
from running.errors import FlowersError, InputError
from running.threads import map_ahead


class Comparison(NamedTuple):
    """What two forms of a network made of the same photographs."""

    photographs: int  # that were named by both
    changed: int  # that got another name
    unreadable: int


def compare(
    exact: bytes, halved: bytes, photographs: Sequence[str], progress: Progress = no_progress
) -> Comparison:
    """Name photographs with two forms of a network, each the content of an exported file.

    Raises:
        InputError: there is no photograph that can be read, or no onnxruntime.
    """
    one, other = (load_content(content, "the exported network") for content in (exact, halved))

    def is_same(item: tuple[str, FlowersError | None]) -> bool | None:
        _, image = read_each(item, one.info.preprocessing)
        if isinstance(image, FlowersError):
            return None
        first, second = (each.predict(image).probabilities.argmax() for each in (one, other))
        return bool(first == second)

    paths = [*expand(photographs, b"\n")]
    threads = count_threads()
    results = map_ahead(is_same, paths, threads, 2 * threads + 1)
    same = [result for (result,) in progress(((r,) for r in results), len(paths), "comparing")]
    if same.count(None) == len(same):
        raise InputError("none of the photographs to compare names on can be read")
    unreadable = same.count(None)
    return Comparison(len(same) - unreadable, same.count(False), unreadable)


def choose_weights(
    exact: bytes, halved: bytes, photographs: Sequence[str], progress: Progress = no_progress
) -> tuple[bytes, str]:
    """Choose how the weights of an exported network are stored.

    Args:
        exact: the content of the file with weights in float32.
        halved: that with weights in half precision.
        photographs: their paths and those of folders, as predict.py takes them; may be none.
        progress: is told of each photograph.

    Returns:
        One of the two, and a sentence that says why.

    Raises:
        InputError: none of the photographs can be read, or onnxruntime is missing.
    """
    if not photographs:
        return exact, (
            "float32 weights; with photographs, such as those of valid, before the checkpoint the "
            "file can be half as large"
        )
    found = compare(exact, halved, photographs, progress)
    number = "1 photograph" if found.photographs == 1 else f"{found.photographs} photographs"
    rest = f" ({found.unreadable} more cannot be read)" if found.unreadable else ""
    if found.changed:
        names = "1 name" if found.changed == 1 else f"{found.changed} names"
        return exact, (f"float32 weights: half precision changes {names} of {number}{rest}")
    return halved, f"half-precision weights: no name of {number} changes{rest}"
