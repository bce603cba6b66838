"""The page of a report: what report.json says of an evaluated split, with pictures."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reporting.calibration import reliability
from reporting.charts import calibration_chart, line_chart
from reporting.comparison import comparison_lines
from reporting.growth import growth_lines
from reporting.page import Item, Page
from reporting.report import CROSS_VALIDATION, MISNAMED_DRAWN, EvaluatedSplit, spell_share
from running.files import atomic_write

ALMOST_SURE = 0.99  # so sure a mistake is often one of the label
SIDE_BY_SIDE = 3  # photographs of each category of a confused pair

Report = Mapping[str, Any]  # what report.json says


def write_page(
    path: str | os.PathLike[str],
    report: Report,
    evaluated: EvaluatedSplit,
    history: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write report.html; it is whole at any time.

    `report` is what report.json says, see docs/reference.md; `evaluated` are its photographs, and
    `history` the rows of history.csv, if it is a run's. Raises RunError if it cannot be written.
    """
    page = make_page(report, evaluated, history)
    with atomic_write(path) as file:
        file.write(page)


def make_page(
    report: Report, evaluated: EvaluatedSplit, history: Sequence[Mapping[str, Any]] = ()
) -> bytes:
    """Return what `write_page` writes."""
    top1 = report["top1"]
    network = report["network"]
    page = Page(
        f"{top1['share']:.2%} of {_count(report['photographs'], 'photograph')} named correctly"
    )
    knows = f"{network['arch']}, which knows {len(report['categories'])} categories,"
    if report["split"] == CROSS_VALIDATION:
        page.text(
            f"What networks like this one, {knows} make of photographs that they had not learned "
            "from, in a cross-validation."
        )
    else:
        page.text(f"What {knows} makes of the photographs of {report['split']}.")
    _add_headline(page, report)
    if "growth" in report:
        page.heading("What more photographs would give")
        page.text(*growth_lines(report["growth"]))
    if "update" in report:
        page.heading("Since the earlier run")
        page.text(*comparison_lines(report["update"]))
    if len(history) > 1:
        page.heading("While it learned")
        _add_curves(page, history, network["folds"])
    page.heading("How far its probabilities can be believed")
    _add_reliability(page, evaluated)
    if report["confused"]:
        page.heading("What it confuses most")
        _add_pairs(page, report, evaluated)
    page.heading("What it named wrongly")
    _add_misnamed(page, report)
    if report.get("suspects"):
        page.heading("Labels to look at")
        _add_suspects(page, report)
    page.heading("Every category")
    page.text(
        "Recall: the share of a category's photographs that get its name. Precision: the share of "
        "the photographs with its name that are of it. F1: their harmonic mean."
    )
    _add_categories(page, report)
    page.heading("How this was made")
    _add_card(page, report)
    return page.render()


def _add_headline(page: Page, report: Report) -> None:
    # That of the report's photographs is the last one.
    calibration = [*report["calibration"].values()][-1]
    number = report["photographs"]
    evaluated = sum(row["photographs"] > 0 for row in report["categories"])
    counts = [
        [f"{top['share']:.2%}", f"{top['right']} of {number}", _interval(top["interval"])]
        for top in (report["top1"], report["top5"])
    ]
    mean = f"{report['mean_category_accuracy']:.2%}"
    error = [
        f"{calibration['expected_calibration_error']:.2%}",
        "how far probabilities are from the shares that are correct",
        _interval(calibration["interval"]),
    ]
    page.facts(
        [
            ("Correct", counts[0]),
            ("Among the five most probable", counts[1]),
            (
                "Mean per-class accuracy",
                [mean, f"each of {evaluated} categories counts the same"],
            ),
            ("Expected calibration error", error),
        ],
        large=True,
    )


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


def _add_reliability(page: Page, evaluated: EvaluatedSplit) -> None:
    bins = reliability(evaluated.logits, evaluated.labels)
    values = ", ".join(
        f"{each['accuracy']:.1%} of {each['photographs']} with {each['confidence']:.1%} on average"
        for each in bins
    )
    page.charts(
        (
            calibration_chart(f"Reliability diagram, correct by probability: {values}", bins),
            "Each dot stands for as many photographs, from the least to the most certain ones: the "
            "share that is named correctly, with its 95 % interval, over the mean probability of "
            "the name. Where probabilities can be believed, the line crosses the intervals.",
        ),
    )


# --- Photographs ----------------------------------------------------------------------


def _add_pairs(page: Page, report: Report, evaluated: EvaluatedSplit) -> None:
    """Show the most confused pairs: what was mistaken, or else what it was mistaken for."""
    index = {row["category"]: i for i, row in enumerate(report["categories"])}
    predictions = evaluated.logits.argmax(1)
    for pair in report["confused"]:
        page.heading(f"{pair['names'][0]} and {pair['names'][1]}: {pair['times']} times", 3)
        items = []
        for one, other in ((0, 1), (1, 0)):
            own, taken = (index[pair["categories"][i]] for i in (one, other))
            name, wrong = pair["names"][one], pair["names"][other]
            for said, which in (
                (f"{name}, taken for {wrong}", predictions == taken),
                (f"{name}, named correctly", predictions == own),
                (f"{name}, taken for others", predictions != own),
            ):
                rows = np.flatnonzero((evaluated.labels == own) & which).tolist()
                if rows:
                    shown = [(evaluated.paths[i], said) for i in rows[:SIDE_BY_SIDE]]
                    more = f" ({len(shown)} of {len(rows)} shown)" if rows[SIDE_BY_SIDE:] else ""
                    items.append(Item(shown, said + more))
                    break
        page.gallery(items)


def _add_misnamed(page: Page, report: Report) -> None:
    rows = sorted(report["misnamed"], key=lambda row: -row["probability"])
    if not rows:
        page.text("Nothing.")
        return
    text = "The most probable mistakes come first."
    if more := len(rows[MISNAMED_DRAWN:]):
        text += f" {more} more are listed in the JSON file beside this page."
    page.text(text)
    items = []
    for row in rows[:MISNAMED_DRAWN]:
        caption = f"{row['name']}, taken for {row['taken_for']} ({spell_share(row['probability'])})"
        if row["probability"] > ALMOST_SURE:
            caption += "; the label may be wrong"
        note = os.path.join(*Path(row["file"]).parts[-2:])
        items.append(Item([(row["file"], row["name"])], caption, note))
    page.gallery(items)


def _add_suspects(page: Page, report: Report) -> None:
    page.text(
        "Photographs of train that look like another category even to a head that has learned "
        "their own: the most suspicious ones, of which some labels may be wrong. --check_data "
        "looks more closely, and at all photographs."
    )
    items = []
    for row in report["suspects"]:
        said = f"{row['name']}, looks like {row['looks_like']}"
        items.append(Item([(row["file"], said)], said, row["file"]))
    page.gallery(items)


# --- Figures and facts ----------------------------------------------------------------


def _add_categories(page: Page, report: Report) -> None:
    def mistakes(row: dict[str, Any]) -> int:  # of either kind
        return row["photographs"] + row["taken_for_it"] - 2 * row["right"]

    rows = sorted(report["categories"], key=lambda row: (-mistakes(row), row["f1"] or 0))
    cells = []
    for row in rows:
        counts = (str(row["photographs"]), str(row["right"]))
        shares = [row[key] for key in ("precision", "recall", "f1")]
        shown = ("none" if share is None else f"{share:.1%}" for share in shares)
        cells.append((row["name"], row["category"], *counts, *shown))
    page.table(
        "Figures of each category, those with the most mistakes of either kind first",
        ("name", "category", "photographs", "correct", "precision", "recall", "F1"),
        cells,
    )


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


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
