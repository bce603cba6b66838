"""The page of a report: what report.json says of an evaluated split, with pictures."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from formats.table import safe_path, safe_text
from reporting.calibration import reliability, softmax
from reporting.charts import calibration_chart, confusion_chart, coverage_chart, line_chart
from reporting.comparison import comparison_lines
from reporting.growth import growth_lines
from reporting.page import Item, Page, Picture
from reporting.report import CROSS_VALIDATION, EvaluatedSplit, spell_share
from reporting.review import LEAVE_OUT, MOVE, Question, add_review, make_table
from running.environment import spell_command
from running.files import atomic_write

LIVE, RELOADED = Path(__file__).with_name("live.js"), 5  # seconds

ALMOST_SURE = 0.99  # so sure a mistake is often one of the label
SHOWN = 30  # mistakes
DOTTED = 60  # photographs of a category that get a dot each
FEWEST_MISTAKES, LARGEST_MATRIX = 40, 40  # of a matrix: mistakes, and categories

Report: TypeAlias = Mapping[str, Any]  # what report.json says

# Shows where a photograph has evidence for the name with an index, see prediction/occlusion.py:
# uint8 (H, W, 3), or None where there is no time for it.
Light: TypeAlias = Callable[[str, int], np.ndarray | None]


def write_page(
    path: str | os.PathLike[str],
    report: Report,
    evaluated: EvaluatedSplit,
    history: Sequence[Mapping[str, Any]] = (),
    light: Light | None = None,
) -> None:
    """Write report.html; it is whole at any time.

    `report` is what report.json says, see docs/reference.md; `evaluated` are its photographs, and
    `history` the rows of history.csv, if it is a run's. `light` is called for each mistake that the
    page shows. Raises RunError if it cannot be written.
    """
    page = make_page(report, evaluated, history, os.path.dirname(path), light)
    with atomic_write(path) as file:
        file.write(page)


def write_progress(
    path: str | os.PathLike[str], history: Sequence[Mapping[str, Any]], epochs: int, folds: int
) -> None:
    """Write a page on a run that goes on, which loads itself anew until there is a report."""
    last = history[-1]
    where = "in the cross-validation" if folds else "of valid"
    page = Page(f"After {_epoch(last['epoch'])}: {last['valid_accuracy']:.2%} {where} correct")
    page.text(
        f"The run has {epochs} epochs. While it goes on, this page is loaded anew; at its end the "
        "report takes its place."
    )
    page.script(LIVE, {"seconds": RELOADED})
    _add_curves(page, history, folds)
    rows = [
        (_epoch(row["epoch"]), f"{row['valid_accuracy']:.2%}", f"{row['seconds']:.0f} s")
        for row in history
    ]
    page.table("What it has done", ("epoch", "accuracy", "time"), rows)
    with atomic_write(path) as file:
        file.write(page.render())


def make_page(
    report: Report,
    evaluated: EvaluatedSplit,
    history: Sequence[Mapping[str, Any]] = (),
    folder: str | os.PathLike[str] = ".",
    light: Light | None = None,
) -> bytes:
    """Return what `write_page` writes; links are relative to the folder that it will lie in."""
    page = Page(_headline(report["top1"]), folder)
    page.text(_summary(report))
    page.contents()
    page.heading("Can I rely on it?")
    _add_promises(page, report, evaluated)
    page.heading("What goes wrong")
    _add_mistakes(page, report, evaluated, light)
    if "update" in report:
        page.heading("Since the earlier run")
        _add_comparison(page, report["update"])
    if "data" in report:
        page.heading("What to do next")
        _add_next(page, report, os.path.normpath(folder))
    page.heading("Categories")
    _add_categories(page, report)
    if report["confused"]:
        pairs = (
            "{} and {} ({} times)".format(*row["names"], row["times"]) for row in report["confused"]
        )
        page.text(f"Most often confused: {', '.join(pairs)}.")
    _add_confusion(page, evaluated)
    page.heading("Probabilities")
    _add_reliability(page, report, evaluated)
    if len(history) > 1:
        page.heading("Training")
        _add_curves(page, history, report["network"]["folds"])
    page.heading("How this was made")
    _add_card(page, report)
    return page.render()


def _headline(top1: Mapping[str, Any]) -> str:
    share = top1["share"]
    if share == 1:
        return "All photographs are named correctly"
    # Rounded down: 99.96 are not 100.
    return f"{math.floor(1000 * share) / 10:g} of 100 photographs are named correctly"


def _summary(report: Report) -> str:
    top1, top5, number = report["top1"], report["top5"], report["photographs"]
    if report["split"] == CROSS_VALIDATION:
        where = "photographs, each judged by a network that had not learned from it"
    elif "data" in report:
        where = f"photographs of {report['split']}, from which the network had not learned"
    else:
        where = f"photographs of {report['split']}"
    evaluated = sum(row["photographs"] > 0 for row in report["categories"])
    return (
        f"{top1['right']} of {number} {where}: {top1['share']:.2%}, {_interval(top1['interval'])}. "
        f"Among the five most probable names is the right one for {top5['share']:.2%}. If each of "
        f"{evaluated} categories counts the same (mean per-class accuracy), it is "
        f"{report['mean_category_accuracy']:.2%}."
    )


# --- What a person asks first ---------------------------------------------------------


def _add_promises(page: Page, report: Report, evaluated: EvaluatedSplit) -> None:
    """Draw how accurate names are, if only the most certain ones are given."""
    number = report["photographs"]
    confidence = softmax(evaluated.logits).max(1)
    correct = evaluated.logits.argmax(1) == evaluated.labels
    order = np.argsort(-confidence, kind="stable")
    shares = (np.cumsum(correct[order]) / np.arange(1, number + 1)).tolist()
    points: dict[tuple[float, float], str] = {}
    for each in report.get("promises", ()):  # of promises that name the same the highest one
        point = each["named"] / number, each["right"] / max(each["named"], 1)
        points.setdefault(point, f"{each['promise']:.0%}")
    lines = ["There were too few photographs, or too many mistakes, for a promise."]
    if points:
        first = report["promises"][0]
        lines = [
            "If they are like these photographs, "
            f"predict.py --promise {first['promise']} gives only names that it is sure of, so that "
            f"{first['promise']:.0%} of them are correct, and leaves the other photographs for "
            f"review. Of these photographs it names {first['named']} of {number}, and "
            f"{first['named'] - first['right']} of the names are wrong."
        ]
    lines.insert(
        0,
        "Photographs of another camera, season or place were not tested, and may be named worse. "
        "Check a sample of them first: see what to do next.",
    )
    title = f"Correct names by coverage: {shares[-1]:.1%} if all photographs get one"
    page.text_and_chart(lines, coverage_chart(title, shares, points))


def _add_mistakes(
    page: Page, report: Report, evaluated: EvaluatedSplit, light: Light | None
) -> None:
    """Show the mistakes, and suspicious labels of train, beside what they were taken for."""
    category_of = dict(zip(evaluated.names, evaluated.categories))
    folder = report.get("data", {}).get("folder")
    questions, rows = [], []

    def add(row: Mapping[str, Any], other: str, split: str, kind: str, said: str) -> None:
        own, file = row["name"], row["file"]
        pictures = [Picture(file, f"in the folder of {own}"), *_example(evaluated, other)]
        if light and split != "train":
            pixels = light(file, evaluated.names.index(other))
            if pixels is not None:
                pictures.append(Picture(file, f"evidence for {other}", pixels))
        pictures += _example(evaluated, own)
        place = os.path.join(*Path(file).parts[-2:])
        yes, no = f"Move to {other}", f"Keep as {own}"
        questions.append(Question(pictures, said, place, yes, no))
        path = safe_path(Path(os.path.relpath(file, folder)).as_posix()) if folder else file
        category, move = safe_text(category_of[own]), MOVE + category_of[other]
        score = f"{100 * row['probability']:.0f}" if "probability" in row else ""
        rows.append([path, split, category, kind, score, move, said, ""])

    wrong = sorted(report["misnamed"], key=lambda row: -row["probability"])
    for row in wrong[:SHOWN]:
        said = f"Taken for {row['taken_for']}, {spell_share(row['probability'])} sure"
        if row["probability"] > ALMOST_SURE:
            said += "; the label may be wrong"
        add(row, row["taken_for"], report["split"], "misnamed", said)
    for row in report.get("suspects", ()):
        said = f"A photograph of train that looks like {row['looks_like']}; the label may be wrong"
        add(row, row["looks_like"], "train", "suspicious label", said)
    if not questions:
        page.text("Nothing: every name is correct.")
        return
    is_lit = any(each.pixels is not None for ask in questions for each in ask.pictures)
    dark = " What is dark in a picture of evidence could be covered without a loss."
    page.text(
        f"{len(wrong)} of {report['photographs']} photographs are named wrongly, the most certain "
        f"mistakes first. Some may lie in a wrong folder, and the name be right.{dark * is_lit}"
        if wrong
        else "No name is wrong. These labels of train are suspicious."
    )
    if folder:
        table = make_table(folder, "mistakes.csv", rows)
        add_review(page, questions, table, [*evaluated.names, LEAVE_OUT], is_open=False)
    else:
        page.gallery([each.item() for each in questions])
    if more := len(wrong[SHOWN:]):
        page.text(f"{more} more are listed in the JSON file beside this page.")


def _example(evaluated: EvaluatedSplit, name: str) -> Iterator[Picture]:
    """Find the most certain photograph that is rightly called so."""
    label = evaluated.names.index(name)
    rows = np.flatnonzero((evaluated.labels == label) & (evaluated.logits.argmax(1) == label))
    if len(rows):
        best = rows[softmax(evaluated.logits[rows])[:, label].argmax()]
        yield Picture(evaluated.paths[best], name)


def _add_comparison(page: Page, compared: Mapping[str, Any]) -> None:
    """Show which photographs an earlier network and this one name differently."""
    page.text(*(f"{line[0].upper()}{line[1:]}." for line in comparison_lines(compared)))
    page.gallery(
        [
            Item(
                [Picture(row["file"], row["name"])],
                f"{row['name']}, {'now right' if row['after'] == row['name'] else 'now wrong'}",
                f"before: {row['before'] or 'a category that is gone'}; after: {row['after']}",
            )
            for row in compared["changed"]
        ]
    )


def _add_next(page: Page, report: Report, save_dir: str) -> None:
    """Show the commands to type next, after a run in a folder."""
    folder = report["data"]["folder"]
    predict = "predict.py", "PHOTOGRAPHS", os.path.normpath(f"{save_dir}/checkpoint.pth")
    train = "train.py", folder, "--update"
    save = () if save_dir == os.curdir else ("--save_dir", save_dir)
    page.command(
        "Name photographs (PHOTOGRAPHS stands for a file or a folder of yours):",
        spell_command(*predict),
    )
    page.command(
        "Find out how good the names of your own photographs are, by checking 100 of them:",
        spell_command(*predict, "--check_sample", "100", "--output", "sample.csv"),
    )
    for promise in [each["promise"] for each in report.get("promises", ())][:1]:
        page.command(
            f"Give only names of which {promise:.0%} are correct, if yours are like these:",
            spell_command(*predict, "--promise", str(promise)),
        )
    first = report["categories"][0]
    place = os.path.join(folder, "train", first["category"])
    page.command(
        "If they are not good enough, put twenty or more of your photographs of each category into "
        f"its folder, such as {place} for {first['name']}, and learn from them, too:",
        spell_command(*train, *save),
    )
    check = spell_command("train.py", folder, "--check_data")
    page.command("Look for wrong labels and copies:", check)
    if "growth" in report:
        page.text(*(f"{line[0].upper()}{line[1:]}." for line in growth_lines(report["growth"])))


# --- Figures --------------------------------------------------------------------------


def _add_categories(page: Page, report: Report) -> None:
    """Show the categories with mistakes, those with the most of either kind first."""

    def mistakes(row: dict[str, Any]) -> int:
        return row["photographs"] + row["taken_for_it"] - 2 * row["right"]

    rows = sorted(report["categories"], key=lambda row: (-mistakes(row), row["f1"] or 0))
    cells = []
    for row in filter(mistakes, rows):
        number, right = row["photographs"], row["right"]
        dots = "\u25cf" * right + "\u25cb" * (number - right) if number <= DOTTED else ""
        others = row["taken_for_it"] - right
        cells.append((row["name"], f"{right} of {number}", str(others or ""), dots))
    if cells:
        page.table(
            "Names that were wrong or missing, those with the most mistakes first: how many of "
            "their photographs are named correctly (\u25cf, \u25cb wrong), and how many others are "
            "called so",
            ("category", "correct", "others called so", "each photograph"),
            cells,
        )
    perfect = [row for row in rows if row["photographs"] and not mistakes(row)]
    if perfect:
        named = ", ".join(f"{row['name']} ({row['photographs']})" for row in perfect)
        page.folded(f"{_count(len(perfect), 'category', 'categories')} without a mistake", named)
    lacking = [row["name"] for row in rows if not row["photographs"]]
    if lacking:
        page.text(f"Not judged, for lack of photographs: {', '.join(lacking)}.")


def _add_confusion(page: Page, evaluated: EvaluatedSplit) -> None:
    """Draw the mistakes as a matrix in which categories that are confused are neighbours."""
    taken, count = evaluated.logits.argmax(1), len(evaluated.categories)
    counts = np.zeros((count, count), int)
    np.add.at(counts, (evaluated.labels, taken), 1)
    np.fill_diagonal(counts, 0)
    both = counts + counts.T
    if counts.sum() < FEWEST_MISTAKES:
        return
    order = order_by_confusion(both)[:LARGEST_MATRIX]
    names = [evaluated.names[i] for i in order]
    title = f"Which of {len(names)} categories were taken for which"
    chart = confusion_chart(title, names, counts[np.ix_(order, order)])
    caption = "Mistakes alone: a row for what it is, a column for what it was taken for."
    if both.any(1).sum() > len(order):
        caption += f" The {len(order)} categories with the most mistakes."
    page.matrix(chart, caption)


def order_by_confusion(both: np.ndarray) -> list[int]:
    """Order the categories with mistakes (C, C, symmetric) so that confused ones are neighbours.

    Groups come one after the other, those with the most mistakes first; in each the next one is the
    category that is most often confused with those before.
    """
    total, rest = both.sum(1), {*np.flatnonzero(both.any(1)).tolist()}
    order: list[int] = []
    while rest:
        ties = both[:, order[-10:]].sum(1) if order else total * 0
        best = max(rest, key=lambda i: (ties[i], total[i], -i))
        order.append(best)
        rest.remove(best)
    return order


def _add_curves(page: Page, history: Sequence[Mapping[str, Any]], folds: int) -> None:
    valid, accuracy = ([row[key] for row in history] for key in ("valid_loss", "valid_accuracy"))
    first, on = history[0]["epoch"], "in the cross-validation" if folds else "on valid"
    losses = line_chart(
        f"Loss {on} over the epochs: from {valid[0]:.4f} to {valid[-1]:.4f}",
        "valid",
        valid,
        first,
    )
    accuracies = line_chart(
        f"Accuracy {on} over the epochs: from {accuracy[0]:.2%} to {accuracy[-1]:.2%}",
        "valid",
        accuracy,
        first,
        percent=True,
    )
    page.charts(
        (losses, f"Loss {on}: the mean cross-entropy of the calibrated probabilities, in nats."),
        (accuracies, f"Accuracy {on}. The network of the last epoch is the one that is kept."),
    )


def _add_reliability(page: Page, report: Report, evaluated: EvaluatedSplit) -> None:
    bins = reliability(evaluated.logits, evaluated.labels)
    values = ", ".join(
        f"{each['accuracy']:.1%} of {each['photographs']} with {each['confidence']:.1%} on average"
        for each in bins
    )
    calibration = [*report["calibration"].values()][-1]  # that of the report's photographs
    error = calibration["expected_calibration_error"]
    page.text(
        f"On average the probability of a name is {error:.2%} away from the share that is correct "
        f"(expected calibration error; {_interval(calibration['interval'])})."
    )
    page.charts(
        (
            calibration_chart(f"Reliability diagram, correct by probability: {values}", bins),
            "Each dot stands for an equal number of photographs, from the least to the most "
            "certain ones: the share that is named correctly, with its 95 % interval, over the "
            "mean probability of the name. Where probabilities can be believed, the line crosses "
            "the intervals.",
        ),
    )


# --- How it was made ------------------------------------------------------------------


def _add_card(page: Page, report: Report) -> None:
    """Add how the network was trained and evaluated, and what the figures do not say."""
    network, data = report["network"], report.get("data")
    entries = [("Command of this report", [report["command"]])]
    if data:
        splits = [f"{name}: {size}" for name, size in data["photographs"].items()]
        entries.append(("Data", [f"{data['folder']} ({', '.join(splits)} photographs)"]))
    else:
        entries.append(("Data", [f"{report['split']} ({report['photographs']} photographs)"]))
    side = network["image_size"]
    entries += [
        ("Network", [f"{network['arch']}, {side} x {side} pixels"]),
        (
            "Trained",
            [
                f"{network['date']}, seed {network['seed']}",
                f"{network['valid_accuracy']:.2%} correct of {network['valid_images']} photographs "
                f"{'in a cross-validation' if network['folds'] else 'of valid'} after "
                f"{_epoch(network['epoch'])}",
            ],
        ),
    ]
    if network["command"] != report["command"]:
        entries.append(("Command of the training", [network["command"]]))
    if "settings" in report:
        settings = [f"{k}: {v}" for k, v in report["settings"].items() if v not in (None, [])]
        entries.append(("Settings", [", ".join(settings)]))
    entries.append(("Versions", [", ".join(f"{k} {v}" for k, v in report["versions"].items())]))
    page.facts(entries)
    page.heading("What the figures do not say", 3)
    page.text(*_limits(report))


def _limits(report: Report) -> Iterator[str]:
    if "data" not in report:
        yield (
            "Of photographs that the network learned from, and of near copies of them, the figures "
            "are too good. A photograph in the folder of another category counts as a mistake, "
            "even if its name is right."
        )
    elif report["split"] == CROSS_VALIDATION:
        yield (
            f"Each photograph was judged by one of {report['network']['folds']} networks, which "
            "had learned from the other parts alone. The network that is kept has learned from "
            "all, and is likely to be a little better."
        )
    elif report["split"] == "valid":
        yield (
            "The network has not learned from these photographs. If you choose between runs by "
            "these figures, they become somewhat too good: photographs of a split test would tell."
        )
    else:
        yield (
            "These photographs had no part in the training, and were looked at once, at the end. "
            "If you choose between runs by these figures, they become somewhat too good."
        )
    yield (
        "Other photographs of the same kind would give other figures; a 95 % interval says within "
        "which range. It does not cover other cameras, seasons or places, on whose photographs the "
        "network may be worse. Figures of a category with few photographs can be far off."
    )
    yield (
        f"The network knows {len(report['categories'])} categories and gives one of their names to "
        "whatever it is shown, unless predict.py is asked to --reject what looks unlike them."
    )


def _epoch(epoch: int) -> str:
    return f"epoch {epoch}" if epoch else "fitting the head"


def _interval(interval: Sequence[float]) -> str:
    low, high = interval
    return f"95 % interval: {low:.2%} to {high:.2%}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
