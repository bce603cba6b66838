"""The check of a data folder's images: what is suspicious about which photograph."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from checking.copies import LONGEST_CHAIN, SIDE, find_copies
from checking.issues import (
    COPY,
    LABEL,
    LEAVE_OUT,
    MOVE,
    Issue,
    issue_lines,
    write_csv,
    write_page,
)
from checking.labels import find_neighbours, score_labels
from data_utils import FEW, DataSet, Inspected
from images.copies import group_pairs
from images.decode import load_image, open_image, typical_side
from learning.resources import Resources
from learning.run import Run, new_run
from network.devices import find_device, rows_at_once
from network.inference import extract_features, for_inference
from reporting.page import Picture
from running.console import Progress
from running.errors import InputError
from running.run_folder import RunFolder
from running.settings import Settings
from running.threads import map_ahead

# Of equally good copies in several splits those stay by which networks are evaluated.
STAYS = {"train": 0, "valid": 1, "test": 2}
# Why one of two copies is the better one, in the order in which it counts.
BETTER = (
    "whose label is more plausible",
    "which has no such flaw",
    "which is larger",
    "whose file is larger",
    "which is used to evaluate networks",
    "which comes first",
)

# An outlier is this many interquartile ranges above the third quartile, and among this share; fewer
# where its label is suspicious, too: what looks like nothing else is no other category either.
FENCE, OUTLIERS, FENCE_OF_SUSPECTS = 1.0, 0.01, 0.75

SUSPICIOUS = 0.5  # the score from which on a label is

# The kinds of issues in the order of the report; and in that in which they decide about a
# photograph that has several.
KINDS = (
    *(LABEL, COPY, "outlier"),
    *("blank", "dark", "bright", "blurred", "tiny"),
)
FIRST = (
    *("blank", "outlier", COPY, LABEL),
    *("dark", "bright", "blurred", "tiny"),
)

TILES, SHARPEST = 8, 6  # rows and columns of a photograph's tiles, of which the sharpest ones count

# Grey values, 0..255, between which 90 % of a photograph's pixels lie.
RANGE = 10  # from the darkest to the brightest of them: less is blank
DARK = 50  # the brightest
BRIGHT = 205  # the darkest
# Blurred: the logarithm of the sharpness so many robust standard deviations below the median of the
# folder's photographs, and half as sharp as these at most.
BLURRED, HALF = 3.0, np.log(2)


class Look(NamedTuple):
    """What a photograph looks like."""

    darkest: float  # the grey value below which 5 % of the pixels lie, 0..255
    brightest: float  # that above which 5 % lie
    sharpness: float  # the mean second difference of grey values where it is highest
    side: int  # the short side of the file's picture, in pixels
    small: np.ndarray  # itself, as uint8 (SIDE, SIDE, 3)


def check_folder(
    inspected: Inspected,
    folder: RunFolder,
    settings: Settings,
    workers: int,
    gpu: bool,
    progress: Progress,
) -> list[str]:
    """Check the images of a data folder with the network that `settings` choose.

    Writes data_report.csv and data_report.html into `folder`; returns the lines of a summary.
    """
    data = inspected.data
    with folder.lock():
        resources = Resources(workers, folder.path, progress=progress)
        device, side = find_device(gpu), typical_side(data.paths)
        run = new_run(settings, len(data.categories), side, device, resources)
        if run.weights_source is None:
            raise InputError("the network has no pretrained weights; --check_data files needs none")
        issues, notes = find_issues(data, inspected.names, run, resources)
        rows = write_csv(folder.data_report, data.folder, issues)
        write_page(folder.data_page, inspected, issues, rows, notes)
    lines = [*issue_lines(issues), *notes, f"report: {folder.data_page}, {folder.data_report}"]
    if issues:
        lines.append(f"next: open {folder.data_page} in a browser, and decide there")
    return lines


def find_issues(
    data: DataSet, names: Sequence[str], run: Run, resources: Resources
) -> tuple[list[Issue], list[str]]:
    """List what is suspicious among the photographs of all splits, by kind, the worst first.

    There is one issue for a photograph, with all that was found. Returns notes, too: sentences.
    """
    paths, categories, progress = data.paths, data.categories, resources.progress
    labels = np.concatenate([split.labels for split in data.splits.values()])
    splits = [name for name, split in data.splits.items() for _ in split.paths]
    features, looks = measure_images(paths, run, resources)
    neighbours, cosines = find_neighbours(features)
    small = np.stack([look.small for look in looks])
    pairs, alike, too_alike = find_copies(small, neighbours[:, :5], labels, progress)
    scores, best, logits, wrong = score_labels(
        features, labels, pairs, neighbours, cosines, progress
    )
    flaws = dict(find_flaws(looks, run.preprocessing.crop))
    # Blank photographs have no label that could be wrong; small categories cannot be recognised.
    scores[[i for i, (kind, *_) in flaws.items() if kind == "blank"]] = 0
    _, first = np.unique(group_pairs(pairs, len(labels), LONGEST_CHAIN), return_index=True)
    scores[np.bincount(labels[first], minlength=len(names))[labels] < FEW] = 0
    distances = 1 - cosines.mean(1).numpy()
    found = defaultdict[int, list[Issue]](list)

    def add(
        i: int,
        kind: str,
        score: float,
        reason: str,
        suggestion: str = LEAVE_OUT,
        others: Sequence[Picture] = (),
    ) -> None:
        place = paths[i], splits[i], categories[labels[i]]
        found[i].append(Issue(*place, kind, score, suggestion, reason, others))

    def example(i: int, label: int) -> Picture:
        """Find the most similar photograph of a category, or else its most typical one."""
        itself = [i, *pairs[(pairs == i).any(1)].ravel().tolist()]
        members = np.flatnonzero((labels == label) & ~np.isin(np.arange(len(labels)), itself))
        trusted = members[scores[members] <= SUSPICIOUS]
        similar = [j for j in neighbours[i].tolist() if j in trusted]
        typical = members[np.argsort(-logits[members, label])].tolist()
        return Picture(paths[[*similar, *typical, i][0]], names[label])

    for i, (kind, score, reason) in flaws.items():
        add(i, kind, score, reason)
    for i in _find_outliers(distances, logits, scores > SUSPICIOUS):
        others = [example(i, int(labels[i])), example(i, int(best[i]))]
        reason = "unlike all other photographs"
        add(i, "outlier", min(float(distances[i]), 1.0), reason, others=others)
    for i in np.flatnonzero(scores > SUSPICIOUS).tolist():
        reason = f"looks like {names[best[i]]}, its folder says {names[labels[i]]}"
        others = [example(i, int(labels[i])), example(i, int(best[i]))]
        add(i, LABEL, float(scores[i]), reason, MOVE + categories[best[i]], others)

    contradicted = {*pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]].ravel().tolist()}

    def worth(i: int) -> tuple[bool, bool, int, int, int, int]:
        is_doubtful = i in contradicted and bool(scores[i] > SUSPICIOUS)
        size = os.path.getsize(paths[i]) if os.path.exists(paths[i]) else 0
        return not is_doubtful, i not in flaws, looks[i].side, size, STAYS[splits[i]], -i

    for i, j, correlation in _spare_copies(pairs, alike, worth):
        why = next(text for text, *values in zip(BETTER, worth(i), worth(j)) if len({*values}) > 1)
        place = os.path.relpath(paths[j], data.folder)
        reason = f"nearly the same picture as {place}, {why}"
        if labels[i] != labels[j]:
            reason += f"; that is in category {categories[labels[j]]}"
        add(i, COPY, correlation, reason, others=[Picture(paths[j], "stays")])
    issues = sorted(map(_decide, found.values()), key=lambda e: (KINDS.index(e.kind), -e.score))
    notes, suspected = [], sum(issue.kind == LABEL for issue in issues)
    if suspected:
        number = min(round(wrong), suspected)
        about = f"about {number}" if number else "perhaps none"
        notes.append(f"{about} of {suspected} photographs with suspicious labels are misplaced")
    if too_alike:
        notes.append("photographs of different categories are too alike to tell near duplicates")
    return issues, notes


def _decide(issues: Sequence[Issue]) -> Issue:
    """Make one decision about a photograph; the reason has all that was found."""
    first = min(issues, key=lambda issue: FIRST.index(issue.kind))
    others = [issue.reason for issue in issues if issue.kind not in (first.kind, LABEL)]
    return first._replace(reason="; ".join([first.reason, *others]))


def measure_images(
    paths: Sequence[str], run: Run, resources: Resources
) -> tuple[torch.Tensor, list[Look]]:
    """Decode photographs once; return their features, float32 (N, F), and what they look like."""
    network, preprocessing = for_inference(run.model), run.preprocessing
    rows = rows_at_once(network.mean.device)
    looks: list[Look] = []

    def read(path: str) -> tuple[np.ndarray, Look]:
        with open_image(path) as opened:
            side = min(opened.size)
        image = load_image(path, preprocessing)
        return image, measure_image(image, side)

    def batches() -> Iterator[torch.Tensor]:
        decoded = map_ahead(read, paths, resources.workers, 3 * rows)
        while batch := [*islice(decoded, rows)]:
            looks.extend(look for _, look in batch)
            yield torch.from_numpy(np.stack([image for image, _ in batch]))

    shown = resources.progress(batches(), len(paths), "looking")
    return extract_features(network, shown, len(paths), 0, resources.allocate), looks


def measure_image(image: np.ndarray, side: int) -> Look:
    """Measure a decoded photograph, uint8 (H, W, 3), whose file's short side is `side` pixels."""
    picture = Image.fromarray(image)
    grey = np.asarray(picture.convert("L"), np.float32)
    middle = grey[1:-1, 1:-1]
    edges = np.abs(grey[1:-1, 2:] + grey[1:-1, :-2] + grey[2:, 1:-1] + grey[:-2, 1:-1] - 4 * middle)
    height, width = (length // TILES for length in edges.shape)
    tiles = edges[: TILES * height, : TILES * width].reshape(TILES, height, TILES, width)
    sharpness = np.sort(tiles.mean((1, 3)).ravel())[-SHARPEST]
    darkest, brightest = np.quantile(grey, (0.05, 0.95))
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))
    return Look(float(darkest), float(brightest), float(sharpness), side, small)


def find_flaws(looks: Sequence[Look], side: int) -> Iterator[tuple[int, tuple[str, float, str]]]:
    """Yield blank, dark, bright, blurred and tiny photographs: number; kind, score 0..1, reason.

    Blurred and tiny is relative to the others, and to what the network sees (`side` pixels).
    """
    sharpness = np.log([look.sharpness + 1e-3 for look in looks])
    middle = np.median(sharpness)
    spread = 1.4826 * np.median(np.abs(sharpness - middle))
    too_soft = max(BLURRED * spread, HALF)
    typical = float(np.median([look.side for look in looks]))
    for i, look in enumerate(looks):
        values, softer = look.brightest - look.darkest, middle - sharpness[i]
        if values < RANGE:
            yield (
                i,
                (
                    "blank",
                    1 - values / 255,
                    f"all pixels are within {values:.0f} of 255 grey values",
                ),
            )
        elif look.brightest < DARK:
            reason = f"95 % of it is darker than {look.brightest:.0f} of 255"
            yield i, ("dark", 1 - look.brightest / 255, reason)
        elif look.darkest > BRIGHT:
            reason = f"95 % of it is brighter than {look.darkest:.0f} of 255"
            yield i, ("bright", look.darkest / 255, reason)
        elif look.side < min(side, typical / 2):
            reason = f"{look.side} pixels, others have {typical:.0f}"
            yield i, ("tiny", 1 - look.side / typical, reason)
        elif softer > too_soft:
            reason = f"edges are {np.exp(softer):.0f} times as soft as usual"
            yield i, ("blurred", 1 - float(np.exp(-softer)), reason)


def _spare_copies(
    pairs: np.ndarray, alike: np.ndarray, worth: Callable[[int], tuple[int, ...]]
) -> Iterator[tuple[int, int, float]]:
    """Yield the photographs of which a better copy stays, with that one, and how alike they are."""
    copies = defaultdict[int, dict[int, float]](dict)
    for (i, j), correlation in zip(pairs.tolist(), alike.tolist()):
        copies[i][j] = copies[j][i] = correlation
    stays: set[int] = set()
    for i in sorted(copies, key=worth, reverse=True):
        better = stays & copies[i].keys()
        if better:
            j = max(better, key=copies[i].__getitem__)
            yield i, j, copies[i][j]
        else:
            stays.add(i)


def _find_outliers(
    distances: np.ndarray, logits: np.ndarray, is_suspicious: np.ndarray
) -> list[int]:
    """Find photographs far from their neighbours (N,), which no head knows by its logits (N, C)."""
    values = np.stack([distances, logits.mean(1) - logits.max(1)])
    centred = values - np.median(values, 1, keepdims=True)
    scaled = centred / (np.median(np.abs(centred), 1, keepdims=True) + 1e-9)
    strange = scaled[0] + 0.5 * scaled[1]
    low, high = np.quantile(strange, (0.25, 0.75))
    order = np.argsort(-strange, kind="stable")
    is_outlier = is_suspicious & (strange > high + FENCE_OF_SUSPECTS * (high - low))
    few = order[: max(1, int(OUTLIERS * len(strange)))]
    is_outlier[few] |= strange[few] > high + FENCE * (high - low)
    return order[is_outlier[order]].tolist()
