"""What has changed in a data folder: told by the content of its files."""

import numpy as np
import pytest

from images.manifest import Manifest, compare, count_changed

PLACES = {
    "train": [("a", "lily"), ("b", "lily"), ("c", "rose"), ("d", "rose")],
    "valid": [("e", "lily"), ("f", "rose")],
}


def seen(places) -> Manifest:
    categories = sorted({category for split in places.values() for _, category in split})
    splits = {
        name: (
            [f"{name}/{category}/{number}" for number, (_, category) in enumerate(split)],
            np.array([categories.index(category) for _, category in split]),
        )
        for name, split in places.items()
    }
    digests = {
        path: letter.encode() * 16
        for name, (paths, _) in splits.items()
        for path, (letter, _) in zip(paths, places[name])
    }
    return Manifest.of(categories, splits, digests)


def changed(train, valid=PLACES["valid"]):
    return compare(seen(PLACES), seen({"train": train, "valid": valid}))


@pytest.mark.parametrize(
    ("train", "text"),
    [
        (PLACES["train"], "the same photographs"),
        (PLACES["train"][::-1], "the same photographs"),  # other file names
        ([*PLACES["train"], ("x", "lily"), ("y", "rose")], "2 added"),
        ([*PLACES["train"], ("a", "lily")], "the same photographs"),  # a copy
        (PLACES["train"][1:], "1 removed"),
        ([("a", "rose"), *PLACES["train"][1:]], "1 moved"),
        (
            [("a", "iris"), *PLACES["train"][1:3], ("x", "tulip")],
            "1 added, 1 removed, 1 moved, 2 new categories (iris, tulip)",
        ),
    ],
)
def test_changes_are_counted_by_content(train, text):
    assert changed(train).describe() == text


RENAMED = [("a", "lily"), ("b", "lily"), ("c", "iris"), ("d", "iris")]


@pytest.mark.parametrize(
    ("train", "valid", "renamed", "text"),
    [
        (RENAMED, "iris", {"rose": "iris"}, "1 renamed category (rose is iris now)"),
        (
            [("x", "iris"), *RENAMED[:3]],
            "iris",
            {"rose": "iris"},
            "1 added, 1 removed, 1 renamed category (rose is iris now)",
        ),
        # Of two categories, or from another one: these have not been renamed.
        (
            RENAMED,
            "tulip",
            {},
            "3 moved, 2 new categories (iris, tulip), 1 removed category (rose)",
        ),
        (
            [("a", "iris"), *RENAMED[1:]],
            "iris",
            {},
            "4 moved, 1 new category (iris), 1 removed category (rose)",
        ),
        # One photograph of three is too little to tell by.
        (RENAMED[:3], None, {}, "2 removed, 1 moved, 1 new category (iris), 1 removed category "),
    ],
)
def test_a_category_may_have_another_name(train, valid, renamed, text):
    changes = changed(train, [PLACES["valid"][0], *([("f", valid)] if valid else [])])
    assert changes.renamed == renamed
    assert changes.describe().startswith(text)


def test_changes_of_train_are_what_the_head_sees():
    swapped = {"train": [*PLACES["valid"], *PLACES["train"][1:]], "valid": PLACES["train"][:1]}
    assert count_changed(seen(PLACES), seen(PLACES), {}) == 0
    assert count_changed(seen(PLACES), seen(swapped), {}) == len(PLACES["valid"]) + 1
    more_valid = {**PLACES, "valid": [*PLACES["valid"], ("n", "lily")]}
    assert count_changed(seen(PLACES), seen(more_valid), {}) == 0
    digest, category = PLACES["train"][0]
    other = next(c for _, c in PLACES["train"] if c != category)
    moved = {**PLACES, "train": [(digest, other), *PLACES["train"][1:]]}
    assert count_changed(seen(PLACES), seen(moved), {}) == 1
    renamed = {
        split: [(d, c.replace("lily", "iris")) for d, c in PLACES[split]] for split in PLACES
    }
    assert count_changed(seen(PLACES), seen(renamed), {"lily": "iris"}) == 0
    assert count_changed(seen(PLACES), seen(renamed), {}) == 2
