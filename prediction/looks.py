"""What each flower looks like: small pictures of photographs, chosen by a network, for the app."""

from collections.abc import Iterator
from pathlib import Path

from formats.onnx_file import ExportedNetwork, predict_each
from formats.schema import Prediction
from images.decode import thumbnail
from images.folders import find_photographs, normalise
from prediction.inputs import read_each
from running.console import Progress, no_progress
from running.errors import InputError

LOOKED_AT = 12  # photographs of a category, evenly spread
SIDE = 144  # pixels of their short side


def choose_pictures(
    folder: str | Path, network: ExportedNetwork, progress: Progress = no_progress
) -> list[list[bytes]]:
    """Choose two typical photographs of each category in a folder of class folders.

    Returns JPEGs for each category, none where the folder has no photographs of it. Raises
    InputError if it has none of any.
    """
    categories = network.info.categories
    by_category: dict[str, list[str]] = {}
    for path in find_photographs(folder):
        by_category.setdefault(normalise(Path(path).parent.name), []).append(path)
    found = [by_category.get(normalise(category), []) for category in categories]
    if not any(found):
        raise InputError(f"{folder} has no folder that is named as a category of the network")
    some = [(index, path) for index, paths in enumerate(found) for path in _spread(paths)]

    def look() -> Iterator[tuple[int, str, Prediction]]:
        images = (read_each((path, None), network.info.preprocessing) for _, path in some)
        for (index, path), (_, result) in zip(some, predict_each(network.predict, images)):
            if isinstance(result, Prediction):
                yield index, path, result

    looked_at: list[list[tuple[bool, float, str]]] = [[] for _ in categories]
    for index, path, (probabilities, ood_score) in progress(look(), len(some), "pictures", ""):
        looked_at[index].append((probabilities.argmax() == index, ood_score, path))
    return [[thumbnail(path, SIDE) for path in _typical(each)] for each in looked_at]


def _typical(found: list[tuple[bool, float, str]]) -> list[str]:
    """Choose what the network is sure of, and then what is least unlike all that it learned."""
    # Neighbours in a folder often show the same plant, so each half of the folder gives one.
    middle = (len(found) + 1) // 2
    return [max(half)[-1] for half in (found[:middle], found[middle:]) if half]


def _spread(paths: list[str]) -> list[str]:
    count = min(len(paths), LOOKED_AT)
    return [paths[i * len(paths) // count] for i in range(count)]
