"""What becomes of the published archives: layout, labels, pixels; and archives that are others."""

import io
import tarfile
from collections import Counter

import numpy as np
import pytest
from archives import COUNT, PHOTOGRAPHS, RUNS, tar_of
from PIL import Image

from images import datasets as known_data
from images.datasets import CIFAR10_CATEGORIES, FLOWER_RUNS, KNOWN_DATA_SETS
from running.errors import InputError


def read(name: str, archive: bytes, count: int) -> dict[str, bytes]:
    """Read an archive as a known data set's: paths and contents."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r|gz") as tar:
        read = [each for batch in KNOWN_DATA_SETS[name].read(tar, count) for each in batch]
    assert len(dict(read)) == len(read)
    return dict(read)


@pytest.fixture
def few(monkeypatch):
    """Let there be forty flowers."""
    monkeypatch.setattr(known_data, "FLOWER_RUNS", RUNS)


def test_all_of_oxfords_categories_are_in_all_splits():
    """The runs of labels, against the counts of the paper and single photographs."""
    firsts, categories = zip(*FLOWER_RUNS)
    assert len(firsts) == 125
    assert list(firsts) == sorted(firsts)
    assert set(categories) == set(range(1, 103))
    paths = read("flowers", tar_of({f"jpg/image_{n:05}.jpg": b"" for n in range(1, 8190)}), 8189)
    assert len(paths) == 8189
    per_category = Counter(path.split("/")[1] for path in paths)
    assert min(per_category.values()) == 40
    assert max(per_category.values()) == 258
    each = Counter(path.rsplit("/", 1)[0] for path in paths)
    for category, count in per_category.items():
        assert each[f"valid/{category}"] == each[f"test/{category}"] == (count + 5) // 10
    assert [per_category[category] for category in ("1", "51", "77")] == [40, 258, 251]
    for number, category in ((1, 77), (6734, 1), (6773, 1), (6774, 21), (8189, 62)):
        assert any(path.endswith(f"/{category}/image_{number:05}.jpg") for path in paths)


def test_cifar10_has_its_layout_and_pixels():
    rng = np.random.default_rng(0)
    records = rng.integers(0, 256, (6, 20, 3073), np.uint8)
    records[:, :, 0] = np.arange(20) % 10
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    members = {
        f"cifar-10-batches-bin/{name}": batch.tobytes() for name, batch in zip(names, records)
    }
    members = dict(reversed(members.items()))  # the order in the archive does not matter
    found = read("cifar10", tar_of({**members, "cifar-10-batches-bin/readme.html": b"?"}), 120)

    assert [CIFAR10_CATEGORIES[i] for i in (0, 3, 9)] == ["airplane", "cat", "truck"]
    assert Counter(tuple(path.split("/")[:2]) for path in found) == {
        (split, category): count
        for category in CIFAR10_CATEGORIES
        for split, count in (("train", 9), ("valid", 1), ("test", 2))
    }
    for path, content in found.items():
        folder, category, file = path.split("/")
        split, number = file.removesuffix(".png").split("_")
        record = (records[5] if split == "test" else records[:5].reshape(-1, 3073))[int(number) - 1]
        assert (folder == "test") == (split == "test")
        assert category == CIFAR10_CATEGORIES[record[0]]
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        assert pixels.shape == (32, 32, 3)
        for row, column, channel in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (31, 31, 2), (5, 9, 1)):
            assert pixels[row, column, channel] == record[1 + channel * 1024 + row * 32 + column]
        assert (pixels == record[1:].reshape(3, 32, 32).transpose(1, 2, 0)).all()


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("../evil.jpg", tarfile.REGTYPE, "'../evil.jpg' in it is a link, a device or a path out"),
        ("jpg/../../evil.jpg", tarfile.REGTYPE, "a path out of the folder"),
        ("/tmp/evil.jpg", tarfile.REGTYPE, "a path out of the folder"),
        ("jpg/image_00040.jpg", tarfile.SYMTYPE, "'jpg/image_00040.jpg' in it is a link"),
        ("jpg/image_00040.jpg", tarfile.LNKTYPE, "is a link"),
        ("jpg/image_00040.jpg", tarfile.CHRTYPE, "a device"),
    ],
)
def test_a_hostile_archive_is_refused(few, name, kind, words):
    evil = tarfile.TarInfo(name)
    evil.type, evil.linkname = kind, "/etc/passwd"
    with pytest.raises(InputError, match=words):
        read("flowers", tar_of(PHOTOGRAPHS, evil), COUNT)


def test_only_expected_members_are_taken(few):
    extra = tarfile.TarInfo("jpg/image_00041.jpg")
    extra.size = 9
    others = {"jpg/readme.txt": b"?", "train/21/mine.jpg": b"?"}
    found = read("flowers", tar_of({**others, **PHOTOGRAPHS}, extra), COUNT)
    assert {f"jpg/{path.split('/')[2]}": content for path, content in found.items()} == PHOTOGRAPHS


def test_names_may_begin_with_the_present_folder_and_come_twice(few):
    dotted = {f"./{name}": content for name, content in PHOTOGRAPHS.items()}
    twice = tar_of({**dotted, "jpg/image_00001.jpg": b"?"})
    found = read("flowers", twice, COUNT)
    assert {*found.values()} == {*PHOTOGRAPHS.values()}  # the first one counts


def test_missing_files_are_counted(few):
    with pytest.raises(InputError, match=r"lacks 2 files, among them jpg/image_00039\.jpg"):
        read("flowers", tar_of(dict(list(PHOTOGRAPHS.items())[:-2])), COUNT)


def test_what_is_fetched_is_the_publishers():
    remote = KNOWN_DATA_SETS["flowers"].remote
    assert remote.url.endswith("/" + KNOWN_DATA_SETS["flowers"].archive)
    assert remote.checksum == ("md5", "52808999861908f626f3c1f4e79d11fa")
    assert remote.size == 344_862_509
