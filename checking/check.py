"""The check of a data folder's images: what is suspicious about which photograph."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from checking.copies import SIDE, find_copies, group_copies
from checking.issues import LEAVE_OUT, MOVE, Issue, Photograph, issue_lines, write_csv, write_page
from checking.labels import find_neighbours, score_labels
from data_utils import FEW, DataSet, Inspected
from images.batches import typical_side
from images.decode import load_image, open_image
from images.statistics import BLANK, ImageStatistics, find_flaws, measure_image
from learning.resources import Resources
from learning.run import Run, new_run
from network.devices import find_device, rows_at_once
from network.inference import extract_features, for_inference
from running.console import Progress
from running.errors import InputError
from running.run_folder import RunFolder
from running.settings import Settings
from running.threads import map_ahead

# Of copies in several splits those stay by which networks are evaluated.
STAYS = {"train": 0, "valid": 1, "test": 2}

# An outlier is this many interquartile ranges above the third quartile, and among this share.
FENCE, OUTLIERS = 1.0, 0.01


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
        issues = find_issues(data, inspected.names, run, resources)
        write_csv(folder.data_report, data.folder, issues)
        write_page(folder.data_page, inspected, issues)
    return [*issue_lines(issues), f"report: {folder.data_page}, {folder.data_report}"]


def find_issues(data: DataSet, names: Sequence[str], run: Run, resources: Resources) -> list[Issue]:
    """List what is suspicious among the photographs of all splits, by kind, the worst first."""
    categories, progress = data.categories, resources.progress
    features, statistics = measure_images(data.paths, run, resources)
    labels = np.concatenate([split.labels for split in data.splits.values()])
    splits = [name for name, split in data.splits.items() for _ in split.paths]
    photographs = [
        Photograph(path, split, categories[label], measured.side)
        for path, split, label, measured in zip(data.paths, splits, labels, statistics)
    ]
    neighbours, cosines = find_neighbours(features)
    small = np.stack([measured.small for measured in statistics])
    pairs, alike = find_copies(small, neighbours[:, :5], labels, progress)
    groups = group_copies(pairs, len(labels))
    scores, best, logits = score_labels(features, labels, groups, neighbours, cosines, progress)
    flaws = sorted(find_flaws(statistics, run.preprocessing.crop), key=lambda f: (f[1], -f[2]))
    # Blank photographs have no label that could be wrong; small categories cannot be recognised.
    scores[[i for i, kind, *_ in flaws if kind == BLANK]] = 0
    _, first = np.unique(groups, return_index=True)
    scores[np.bincount(labels[first], minlength=len(names))[labels] < FEW] = 0
    wrong = []
    order = np.argsort(-scores, kind="stable")
    for i in order[scores[order] > 0.5].tolist():
        reason = f"looks like {names[best[i]]}, its folder says {names[labels[i]]}"
        # Beside it the most similar photograph of the category that it looks like.
        others = [data.paths[j] for j in neighbours[i].tolist() if labels[j] == best[i]][:1]
        move = MOVE + categories[best[i]]
        wrong.append(Issue(photographs[i], "wrong label", float(scores[i]), move, reason, others))
    return [
        *wrong,
        *_near_duplicates(photographs, pairs, alike, groups),
        *_outliers(photographs, 1 - cosines.mean(1).numpy(), logits),
        *(Issue(photographs[i], kind, score, LEAVE_OUT, why) for i, kind, score, why in flaws),
    ]


def measure_images(
    paths: Sequence[str], run: Run, resources: Resources
) -> tuple[torch.Tensor, list[ImageStatistics]]:
    """Decode photographs once; return their features, float32 (N, F), and their statistics."""
    network, preprocessing = for_inference(run.model), run.preprocessing
    rows = rows_at_once(network.mean.device)
    statistics: list[ImageStatistics] = []

    def read(path: str) -> tuple[np.ndarray, ImageStatistics]:
        with open_image(path) as opened:
            side = min(opened.size)
        image = load_image(path, preprocessing)
        return image, measure_image(image, side, SIDE)

    def batches() -> Iterator[torch.Tensor]:
        decoded = map_ahead(read, paths, resources.workers, 3 * rows)
        while batch := [*islice(decoded, rows)]:
            statistics.extend(measured for _, measured in batch)
            yield torch.from_numpy(np.stack([image for image, _ in batch]))

    shown = resources.progress(batches(), len(paths), "looking")
    features = extract_features(network, shown, len(paths), 0, resources.allocate)
    return features, statistics


def _near_duplicates(
    photographs: Sequence[Photograph], pairs: np.ndarray, alike: np.ndarray, groups: np.ndarray
) -> Iterator[Issue]:
    """List the photographs of which there is a copy that stays, the most alike first."""
    copies: dict[int, dict[int, float]] = {}
    for (i, j), correlation in zip(pairs.tolist(), alike.tolist()):
        copies.setdefault(i, {})[j] = copies.setdefault(j, {})[i] = correlation
    # Of a group the last one stays: of the best split, the largest, the first.
    order = sorted(copies, key=lambda i: (STAYS[photographs[i].split], photographs[i].side, -i))
    stays = {groups[i]: i for i in order}
    for i, others in copies.items():
        best = stays[groups[i]]
        if best == i:
            continue
        # In a series the one that stays may be a copy of a copy.
        j = best if best in others else max(others, key=others.__getitem__)
        own, other = photographs[i], photographs[j]
        reason = f"nearly the same picture as {other.path}"
        if own.category != other.category:
            reason += f", which is in category {other.category}"
        elif own.split != other.split:
            reason += f", which is in {other.split}"
        yield Issue(own, "near duplicate", others[j], LEAVE_OUT, reason, [other.path])


def _outliers(
    photographs: Sequence[Photograph], distances: np.ndarray, logits: np.ndarray
) -> Iterator[Issue]:
    """List photographs far from their neighbours (N,), which no head knows by its logits (N, C)."""
    values = np.stack([distances, logits.mean(1) - logits.max(1)])
    centred = values - np.median(values, 1, keepdims=True)
    scaled = centred / (np.median(np.abs(centred), 1, keepdims=True) + 1e-9)
    strange = scaled[0] + 0.5 * scaled[1]
    low, high = np.quantile(strange, (0.25, 0.75))
    order = np.argsort(-strange, kind="stable")[: max(1, int(OUTLIERS * len(strange)))]
    for i in order[strange[order] > high + FENCE * (high - low)].tolist():
        score, reason = min(float(distances[i]), 1.0), "looks like no other photograph here"
        yield Issue(photographs[i], "outlier", score, LEAVE_OUT, reason)
