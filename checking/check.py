"""The check of a data folder's pictures: what is suspicious about which photograph."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from checking.copies import SIDE, Copies, find_copies
from checking.issues import (
    LEAVE_OUT,
    MOVE,
    NEAR_DUPLICATE,
    OUTLIER,
    WRONG_LABEL,
    Issue,
    has_answers,
    issue_lines,
    write_issues,
)
from checking.labels import score_labels, suspicion
from checking.neighbours import find_neighbours
from checking.page import write_check_page
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
from running.run_folder import RunFolder, back_up
from running.settings import Settings
from running.threads import map_ahead

# Of copies in several splits those stay by which networks are judged.
STAYS = {"train": 0, "valid": 1, "test": 2}

# An outlier is so many interquartile ranges above the third quartile, and among so many.
FENCE, OUTLIERS = 1.0, 0.01


class Checked(NamedTuple):
    """All photographs of a folder, and what has been found out about them."""

    paths: list[str]
    labels: np.ndarray  # (N,)
    categories: list[str]  # of the labels
    split_of: list[str]  # of each
    statistics: list[ImageStatistics]
    copies: Copies

    def issue(
        self, i: int, kind: str, score: float, suggestion: str, reason: str, other: str = ""
    ) -> Issue:
        """Say what is suspicious about photograph i."""
        category = self.categories[self.labels[i]]
        place = self.paths[i], self.split_of[i], category
        return Issue(*place, kind, float(score), suggestion, reason, other)


def check_folder(
    inspected: Inspected,
    folder: RunFolder,
    settings: Settings,
    workers: int,
    gpu: bool,
    progress: Progress,
) -> list[str]:
    """Check the images of a folder and write data_report.csv and .html; return lines of a summary.

    The network is chosen by `settings`, as for a run. Raises FlowersError if a photograph has gone
    since, the network has learned nothing yet, or the report cannot be written.
    """
    data = inspected.data
    folder.prepare()
    with folder.lock():
        resources = Resources(workers, folder.path, progress=progress)
        device, side = find_device(gpu), typical_side(data.paths)
        run = new_run(settings, len(data.categories), side, device, resources)
        issues = check_pictures(data, inspected.names, run, resources)
        if has_answers(folder.data_report):
            back_up(folder.data_report)
        write_issues(folder.data_report, data.folder, issues)
        sizes = data.summary()["photographs"]
        write_check_page(folder.data_page, data.folder, sizes, inspected.problems, issues)
    return [*issue_lines(issues), f"report: {folder.data_page}, {folder.data_report}"]


def check_pictures(
    data: DataSet, names: Sequence[str], run: Run, resources: Resources
) -> list[Issue]:
    """List what is suspicious among the photographs of all splits.

    All photographs of `data` can be read, `names` are those of its categories, and `run` is a new
    one, whose pretrained network is used. Raises ImageError if a photograph has gone since,
    InputError if the network has learned nothing yet.
    """
    if run.weights_source is None:
        raise InputError(
            "the pictures are looked at with a pretrained network, and this one has no weights; "
            "--check_data files leaves the pictures out"
        )
    labels = np.concatenate([split.labels for split in data.splits.values()])
    split_of = [name for name, split in data.splits.items() for _ in split.paths]
    features, statistics = see(data.paths, run, resources)
    neighbours = find_neighbours(features)
    small = np.stack([look.small for look in statistics])
    nearest = neighbours[0][:, :5].numpy()
    copies = find_copies(small, nearest, labels, resources.progress)
    checked = Checked(data.paths, labels, data.categories, split_of, statistics, copies)
    groups = copies.groups(len(labels))
    weights, logits = score_labels(features, labels, groups, neighbours, resources.progress)
    far = 1 - neighbours[1].mean(1).numpy()
    flaws = [*_flawed(checked, run.preprocessing.crop)]
    blank = {flaw.file for flaw in flaws if flaw.kind == BLANK}  # has no label that could be wrong
    wrong = _wrong_labels(checked, weights, groups, neighbours[0], names)
    return [
        *(found for found in wrong if found.file not in blank),
        *_near_duplicates(checked, groups),
        *_outliers(checked, far, logits),
        *flaws,
    ]


def see(
    paths: Sequence[str], run: Run, resources: Resources
) -> tuple[torch.Tensor, list[ImageStatistics]]:
    """Compute the features of photographs, float32 (N, F), and look at each, decoding it once."""
    network, preprocessing = for_inference(run.model), run.preprocessing
    rows = rows_at_once(network.mean.device)
    statistics: list[ImageStatistics] = []

    def read(path: str) -> tuple[np.ndarray, ImageStatistics]:
        with open_image(path) as opened:
            side = min(opened.size)
        image = load_image(path, preprocessing)
        return image, measure_image(image, side, SIDE)

    def batches() -> Iterator[torch.Tensor]:
        pictures = map_ahead(read, paths, resources.workers, 3 * rows)
        while batch := [*islice(pictures, rows)]:
            statistics.extend(look for _, look in batch)
            yield torch.from_numpy(np.stack([image for image, _ in batch]))

    shown = resources.progress(batches(), len(paths), "looking")
    features = extract_features(network, shown, len(paths), 0, resources.allocate)
    return features, statistics


def _wrong_labels(
    checked: Checked,
    weights: np.ndarray,
    groups: np.ndarray,
    neighbours: torch.Tensor,
    names: Sequence[str],
) -> Iterator[Issue]:
    """List photographs that look more like another category, beside the most similar one of it."""
    labels = checked.labels
    scores, best = suspicion(weights, labels)
    # What has too few others of its category cannot be recognised.
    _, first = np.unique(groups, return_index=True)
    known = np.bincount(labels[first], minlength=len(names))[labels] >= FEW
    for i in np.argsort(-scores, kind="stable").tolist():
        if scores[i] > 0.5 and known[i]:
            suggestion = MOVE + checked.categories[best[i]]
            reason = f"looks like {names[best[i]]}, its folder says {names[labels[i]]}"
            like = [j for j in neighbours[i].tolist() if labels[j] == best[i]][:1]
            other = checked.paths[like[0]] if like else ""
            yield checked.issue(i, WRONG_LABEL, scores[i], suggestion, reason, other)


def _near_duplicates(checked: Checked, groups: np.ndarray) -> Iterator[Issue]:
    """List the photographs of which there is a copy that stays, the most alike first."""
    partners: dict[int, dict[int, float]] = {}
    for (i, j), alike in zip(checked.copies.pairs.tolist(), checked.copies.alike.tolist()):
        partners.setdefault(i, {})[j] = partners.setdefault(j, {})[i] = alike

    def worth(i: int) -> tuple[int, int, int]:
        return STAYS[checked.split_of[i]], checked.statistics[i].side, -i

    pinned: dict[int, int] = {}
    for i in partners:
        pinned[groups[i]] = max(i, pinned.get(groups[i], i), key=worth)
    for i, others in partners.items():
        best = pinned[groups[i]]
        if best == i:
            continue
        # In a series the one that stays may be a copy of a copy.
        j = best if best in others else max(others, key=others.__getitem__)
        other, reason = checked.paths[j], f"nearly the same picture as {checked.paths[j]}"
        if checked.labels[i] != checked.labels[j]:
            reason += f", which is in category {checked.categories[checked.labels[j]]}"
        elif checked.split_of[i] != checked.split_of[j]:
            reason += f", which is in {checked.split_of[j]}"
        yield checked.issue(i, NEAR_DUPLICATE, others[j], LEAVE_OUT, reason, other)


def _outliers(checked: Checked, far: np.ndarray, logits: np.ndarray) -> Iterator[Issue]:
    """List photographs far from their neighbours (N,), which no head knows by its logits (N, C)."""
    unknown = logits.mean(1) - logits.max(1)
    strange = _standard(far) + 0.5 * _standard(unknown)
    low, high = np.quantile(strange, (0.25, 0.75))
    fence = high + FENCE * (high - low)
    order = np.argsort(-strange, kind="stable")[: max(1, int(OUTLIERS * len(far)))]
    for i in order[strange[order] > fence].tolist():
        reason = "looks like no other photograph here"
        yield checked.issue(i, OUTLIER, min(far[i], 1.0), LEAVE_OUT, reason)


def _standard(values: np.ndarray) -> np.ndarray:
    """Centre values (N,) at their median and scale them by their spread, robustly."""
    centred = values - np.median(values)
    return centred / (np.median(np.abs(centred)) + 1e-9)


def _flawed(checked: Checked, side: int) -> Iterator[Issue]:
    """List what is blank, dark, bright, blurred or tiny, kind by kind."""
    flaws = sorted(find_flaws(checked.statistics, side), key=lambda flaw: (flaw[1], -flaw[2]))
    for i, kind, score, reason in flaws:
        yield checked.issue(i, kind, score, LEAVE_OUT, reason)
