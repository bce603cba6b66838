"""What has changed in a data folder: told by the content of its files."""

import numpy as np
import pytest

from images.manifest import NO_DIGESTS, Manifest, compare, count_changed, count_known

TRAIN, VALID = "a:lily b:lily c:rose d:rose", "e:lily f:rose"


def manifest(train: str = TRAIN, valid: str = VALID) -> Manifest:
    """Make it of photographs, each as content:category."""
    places = {"train": train.split(), "valid": valid.split()}
    categories = sorted({place[2:] for split in places.values() for place in split})
    splits = {
        name: ([*map(str, split)], np.array([categories.index(place[2:]) for place in split]))
        for name, split in places.items()
    }
    digests = {place: place[0].encode() * 16 for split in places.values() for place in split}
    return Manifest.of(categories, splits, digests)


@pytest.mark.parametrize(
    ("train", "valid", "text"),
    [
        ("d:rose c:rose b:lily a:lily", VALID, "the same photographs"),  # other file names
        (TRAIN + " a:lily", VALID, "the same photographs"),  # a copy
        (TRAIN + " x:lily y:rose", VALID, "2 added"),
        ("a:rose b:lily d:rose", VALID, "1 removed, 1 moved"),
        ("a:lily e:lily", "b:lily", "3 removed, 2 in another split, 1 removed category (rose)"),
        ("a:iris b:lily c:rose x:elm", VALID, "1 added, 1 removed, 1 moved, 2 new categories (elm"),
        # Folders may have another name, if they have just what the earlier ones had.
        ("a:lily b:lily c:iris d:iris", "e:lily f:iris", "1 renamed category (rose is iris now)"),
        ("x:iris a:lily b:lily c:iris", "e:lily f:iris", "1 added, 1 removed, 1 renamed category"),
        (
            "a:lily b:lily c:iris d:iris",
            "e:lily f:elm",
            "3 moved, 2 new categories (elm, iris), 1 ",
        ),
        ("a:iris b:lily c:iris d:iris", "e:lily f:iris", "4 moved, 1 new category (iris), 1 rem"),
        ("a:lily b:lily c:iris", "e:lily", "2 removed, 1 moved, 1 new category (iris), 1 removed"),
    ],
)
def test_changes_are_counted_by_content(train, valid, text):
    assert compare(manifest(), manifest(train, valid)).describe().startswith(text)


def test_changes_of_train_are_what_the_head_sees():
    def count(train: str, valid: str = VALID, renamed=()) -> int:
        return count_changed(manifest(), manifest(train, valid), dict(renamed))

    assert count(TRAIN, VALID + " n:lily") == 0
    assert count("e:lily f:rose b:lily c:rose d:rose", "a:lily") == 3
    assert count("a:rose b:lily c:rose d:rose") == 1
    renamed = "a:iris b:iris c:rose d:rose", "e:iris f:rose"
    assert (count(*renamed), count(*renamed, {"lily": "iris"})) == (2, 0)


def test_photographs_of_valid_that_a_network_has_learned_from_are_counted():
    learned = manifest().splits["train"][0]
    assert count_known(learned, manifest("c:rose f:rose", "a:lily e:lily")) == {"valid": 1}
    assert count_known(learned, manifest("a:lily", "a:lily")) == {"valid": 0}  # a warning says so
    assert count_known(NO_DIGESTS, manifest()) == {"valid": 0}


def test_a_photograph_that_was_in_two_splits_belongs_to_neither():
    splits = manifest(TRAIN, VALID + " a:lily").splits_by_digest()
    assert b"a" * 16 not in splits
    assert (splits[b"b" * 16], splits[b"e" * 16]) == ("train", "valid")
