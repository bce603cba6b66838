"""Photographs of every odd kind, the data folder, names, and writing files whole."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import data_utils
from data_utils import ImageError, InputError, Preprocessing, RunError

SMALL = Preprocessing(50, 40, (127.0,) * 3, (128.0,) * 3)


def halves(size=(120, 80)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    return image


def corner_colors(pixels: np.ndarray) -> list[str]:
    """Name the colours top left, top right, bottom left, bottom right."""
    return ["red" if p[0] > p[2] else "blue" for p in pixels[[5, 5, -5, -5], [5, -5, 5, -5]]]


# --- One preprocessing ----------------------------------------------------------------


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_every_format_is_read(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    halves().save(path)
    pixels = data_utils.load_image(path, SMALL)
    assert pixels.dtype == np.uint8 and pixels.shape == (40, 40, 3)
    assert corner_colors(pixels) == ["red", "blue"] * 2


@pytest.mark.parametrize(
    "mode, white",
    [
        ("L", 255),
        ("1", 1),
        ("LA", (0, 0)),
        ("RGBA", (0, 0, 0, 0)),
        ("CMYK", (0, 0, 0, 0)),
        ("I;16", 65535),
        ("I", 65535),
        ("I", 255),
        ("F", 1.0),
        ("F", 255.0),
        ("F", 1e6),
    ],
)
def test_white_and_transparent_become_white_in_every_mode(tmp_path, mode, white):
    path = tmp_path / ("a.tiff" if mode in ("CMYK", "I", "F") else "a.png")
    Image.new(mode, (60, 60), white).save(path)
    assert (data_utils.load_image(path, SMALL) == 255).all()


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((60, 60), 257 * 100, np.uint16)).save(tmp_path / "a.png")
    assert (data_utils.load_image(tmp_path / "a.png", SMALL) == 100).all()


def test_palette_with_transparency_is_on_white(tmp_path):
    image = Image.new("P", (60, 60), 3)
    image.putpalette([0] * 768)
    image.save(tmp_path / "a.png", transparency=3)
    assert (data_utils.load_image(tmp_path / "a.png", SMALL) == 255).all()


@pytest.mark.parametrize(
    "orientation, colors",
    [
        (1, ["red", "blue", "red", "blue"]),
        (2, ["blue", "red", "blue", "red"]),
        (3, ["blue", "red", "blue", "red"]),
        (4, ["red", "blue", "red", "blue"]),
        (5, ["red", "red", "blue", "blue"]),
        (6, ["red", "red", "blue", "blue"]),
        (7, ["blue", "blue", "red", "red"]),
        (8, ["blue", "blue", "red", "red"]),
    ],
)
@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tiff", "avif"])
def test_exif_orientation_is_followed(tmp_path, extension, orientation, colors):
    exif = Image.Exif()
    exif[data_utils.ORIENTATION] = orientation
    halves().save(tmp_path / f"a.{extension}", exif=exif)
    assert corner_colors(data_utils.load_image(tmp_path / f"a.{extension}", SMALL)) == colors


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage!",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
    ],
)
def test_broken_exif_leaves_the_photograph_as_it_is(tmp_path, exif):
    halves().save(tmp_path / "a.jpg", exif=exif)
    assert corner_colors(data_utils.load_image(tmp_path / "a.jpg", SMALL)) == ["red", "blue"] * 2


def test_centre_is_cut_from_the_resized_picture(tmp_path):
    # Against the plain definition: resize the whole picture, then crop.
    pixels = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    plain = Image.fromarray(pixels).resize((75, 50), Image.Resampling.BICUBIC).crop((18, 5, 58, 45))
    difference = data_utils.load_image(tmp_path / "a.png", SMALL).astype(int) - np.asarray(plain)
    assert abs(difference).max() <= 1


def test_a_picture_of_the_right_size_is_not_resampled(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (data_utils.load_image(tmp_path / "a.png", SMALL) == pixels[5:45, 10:50]).all()


def test_scaled_jpeg_decoding_changes_little(tmp_path):
    smooth = Image.effect_noise((12, 8), 40).convert("RGB").resize((1200, 800), 3)
    smooth.save(tmp_path / "a.jpg", quality=95)
    Image.open(tmp_path / "a.jpg").save(tmp_path / "a.png")  # decoded in full
    jpeg, png = (data_utils.load_image(tmp_path / f"a.{e}", SMALL) for e in ("jpg", "png"))
    assert abs(jpeg.astype(int) - png).mean() < 2


@pytest.mark.parametrize("size", [(1, 1), (5000, 3), (3, 2000), (50, 50), (51, 50)])
def test_extreme_shapes_are_read(tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    assert data_utils.load_image(tmp_path / "a.png", SMALL).shape == (40, 40, 3)


def test_unreadable_files_raise_an_error_that_names_them(tmp_path):
    halves().save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "damaged.png")
    png = bytearray((tmp_path / "damaged.png").read_bytes())
    png[5000:5008] = bytes(8)
    (tmp_path / "damaged.png").write_bytes(png)
    for name, content in {
        "cut.jpg": whole[:-300],
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "head.jpg": whole[:20],
    }.items():
        (tmp_path / name).write_bytes(content)
    Image.new("RGB", (40, 40)).save(tmp_path / "other.ico")
    (tmp_path / "folder.jpg").mkdir()
    for name in (
        "damaged.png",
        "cut.jpg",
        "empty.jpg",
        "text.jpg",
        "head.jpg",
        "other.ico",
        "folder.jpg",
        "missing.jpg",
    ):
        with pytest.raises(ImageError, match=name):
            data_utils.load_image(tmp_path / name, SMALL)


def test_heic_takes_a_package(tmp_path, monkeypatch):
    path = tmp_path / "a.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "b.jpg").write_bytes(path.read_bytes())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match="a.HEIC: to read HEIC, pip install pillow-heif"):
        data_utils.load_image(path, SMALL)
    with pytest.raises(ImageError, match="b.jpg: to read HEIC, pip install pillow-heif"):
        data_utils.load_image(tmp_path / "b.jpg", SMALL)


def test_avif_of_a_general_brand_is_not_taken_for_heic(tmp_path, monkeypatch):
    halves().save(tmp_path / "a.avif")
    content = bytearray((tmp_path / "a.avif").read_bytes())
    content[8:12] = b"mif1"  # the major brand that HEIC and AVIF share
    (tmp_path / "a.avif").write_bytes(content)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert corner_colors(data_utils.load_image(tmp_path / "a.avif", SMALL)) == ["red", "blue"] * 2


def test_heic_is_read_where_the_package_is(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(halves()).save(tmp_path / "a.heic")
    assert corner_colors(data_utils.load_image(tmp_path / "a.heic", SMALL)) == ["red", "blue"] * 2


def test_interpolation_is_the_networks(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    plain = Image.fromarray(pixels).resize((50, 50), Image.Resampling.BILINEAR).crop((5, 5, 45, 45))
    ours = data_utils.load_image(tmp_path / "a.png", SMALL._replace(interpolation="bilinear"))
    assert abs(ours.astype(int) - np.asarray(plain)).max() <= 1


def test_batches_keep_the_order(tmp_path):
    paths = []
    for i in range(11):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.new("RGB", (60, 60), (i * 20, 0, 0)).save(paths[-1])
    batches = list(data_utils.load_batches(paths, SMALL, workers=3, batch_size=4))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert [image[0, 0, 0] for batch in batches for image in batch] == [i * 20 for i in range(11)]


@pytest.mark.parametrize(
    "size, expected",
    [
        ((50, 50), (50, 50)),
        ((50, 70), (50, 70)),
        ((30, 20), (30, 20)),
        ((100, 160), (50, 80)),
        ((50, 170), (50, 100)),
        ((1000, 90), (100, 50)),
        ((20, 1), (2, 1)),
    ],
)
def test_the_whole_of_a_photograph_is_only_scaled_down(tmp_path, size, expected):
    Image.new("RGB", size, (9, 99, 200)).save(tmp_path / "a.png")
    pixels = data_utils.load_image(tmp_path / "a.png", SMALL, whole=True)
    assert pixels.shape == (expected[1], expected[0], 3) and (pixels == (9, 99, 200)).all()


# --- The data folder ------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes small photographs: put("train/1/a.jpg", ...)."""

    def put(*names):
        for name in names:
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            halves().save(path, format="PNG")
        return tmp_path / "data"

    return put


def test_categories_come_from_train_in_natural_order(folder):
    data = data_utils.find_data(
        folder(
            "train/10/a.jpg",
            "train/2/a.jpg",
            "train/1/b.JPG",
            "train/1/a.webp",
            "valid/2/a.png",
            "valid/10/b.gif",
            "valid/1/c.png",
        )
    )
    assert data.categories == ["1", "2", "10"]
    assert [os.path.basename(p) for p in data.splits["train"].paths] == [
        "a.webp",
        "b.JPG",
        "a.jpg",
        "a.jpg",
    ]
    assert data.splits["train"].labels.tolist() == [0, 0, 1, 2]
    assert data.notes == [] and "test" not in data.splits


def test_splits_are_matched_by_folder_name(folder):
    # Category 1 is missing in valid, and valid knows a 3 that train does not.
    data = data_utils.find_data(
        folder("train/1/a.jpg", "train/2/a.jpg", "valid/2/a.jpg", "valid/3/a.jpg", "test/2/a.jpg")
    )
    assert data.splits["valid"].labels.tolist() == [1]
    assert data.splits["test"].labels.tolist() == [1]
    assert data.notes == [] and data.gaps == [
        "left out of valid, as train has no photographs of them: 3",
        "valid has no photographs of: 1",
        "test has no photographs of: 1",
    ]


def test_hidden_and_other_files_are_ignored(folder):
    data = data_utils.find_data(
        folder(
            "train/1/a.jpg",
            "train/2/a.jpg",
            "valid/1/a.jpg",
            "train/.ipynb_checkpoints/a.jpg",
            "train/1/._a.jpg",
            "train/stray.jpg",
            "train/1/x.jpg/nested.jpg",
        )
    )
    assert data.categories == ["1", "2"] and len(data.splits["train"].paths) == 2


@pytest.mark.parametrize(
    "names, words",
    [
        (["valid/1/a.jpg"], "no folder train"),
        (["train/1/a.jpg", "train/2/a.jpg"], "no photographs of train's categories"),
        (["train/1/a.jpg", "valid/1/a.jpg", "val/1/a.jpg"], "has val and valid"),
        (["train/1/a.jpg", "valid/1/a.jpg"], "one category only"),
        (["train/1/a.txt", "valid/1/a.jpg"], "no photographs to train on"),
        (["cat_to_name.txt"], "no photographs to train on"),
        (
            ["train/1/a.jpg", "train/2/a.jpg", "valid/3/a.jpg"],
            "no photographs of train's categories",
        ),
    ],
)
def test_a_folder_that_cannot_be_learned_from_is_refused(folder, names, words):
    with pytest.raises(InputError, match=words):
        data_utils.find_data(folder(*names))


@pytest.mark.parametrize("valid", ["val", "validation"])
def test_other_names_of_valid(folder, valid):
    data = data_utils.find_data(folder("train/1/a.jpg", "train/2/a.jpg", f"{valid}/2/a.jpg"))
    assert data.splits["valid"].labels.tolist() == [1] and len(data.splits["train"].paths) == 2


def names_of(split: data_utils.Split) -> set[str]:
    return {"/".join(path.split(os.sep)[-2:]) for path in split.paths}


def test_missing_splits_are_carved_alike_everywhere(folder):
    names = [f"{category}/{i}.jpg" for category in ("a", "b") for i in range(200)]
    data = data_utils.find_data(folder(*names))
    counts = {name: len(split.paths) for name, split in data.splits.items()}
    assert sum(counts.values()) == 400 and set(counts) == {"train", "valid", "test"}
    # Three standard deviations of 400 draws with probability 0.1 are 18.
    assert abs(counts["valid"] - 40) < 18 and abs(counts["test"] - 40) < 18
    # Fixed names, fixed places: these must never change, on no machine.
    assert "a/0.jpg" in names_of(data.splits["train"])
    assert sorted(names_of(data.splits["valid"]))[:3] == ["a/138.jpg", "a/148.jpg", "a/153.jpg"]
    assert len(data.notes) == 1 and "80 %" in data.notes[0]
    # Photographs stay in their split when others are added.
    more = data_utils.find_data(folder(*[f"a/more{i}.jpg" for i in range(50)], "c/0.jpg"))
    for name in data.splits:
        assert names_of(data.splits[name]) <= names_of(more.splits[name])


def test_valid_is_carved_from_train_and_test_left_alone(folder):
    data = data_utils.find_data(
        folder(*[f"train/{c}/{i}.jpg" for c in "ab" for i in range(50)], "test/a/x.jpg")
    )
    assert len(data.splits["train"].paths) + len(data.splits["valid"].paths) == 100
    assert 1 <= len(data.splits["valid"].paths) <= 20
    assert names_of(data.splits["test"]) == {"a/x.jpg"} and "90" not in data.notes[0]


@pytest.mark.parametrize("counts", [(1, 1, 3), (10, 10), (1, 2)])
def test_small_sets_keep_one_of_each_category_to_train_on(folder, counts):
    data = data_utils.find_data(
        folder(
            *[f"{category}/{i}.jpg" for category, count in enumerate(counts) for i in range(count)]
        )
    )
    assert len(data.categories) == len(counts) and data.splits["valid"].paths


def test_photographs_that_are_left_out_are_not_carved(folder):
    names = [f"{category}/{i}.jpg" for category in "ab" for i in range(3)]
    data = data_utils.find_data(folder(*names))
    for split in data.splits.values():
        fewer = data_utils.find_data(folder(), split.paths[:1])
        assert fewer.categories == data.categories and fewer.splits["valid"].paths
        assert not any(split.paths[0] in other.paths for other in fewer.splits.values())


def test_one_warning_for_an_empty_category(folder):
    data = folder("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    (data / "empty").mkdir()
    gaps = [gap for gap in data_utils.find_data(data).gaps if gap.endswith("empty")]
    assert gaps == ["train has no photographs of: empty"]


def test_capitals_of_split_folders_do_not_matter(folder):
    data = data_utils.find_data(folder("Train/1/a.jpg", "Train/2/a.jpg", "VALID/2/a.jpg"))
    assert data.splits["valid"].labels.tolist() == [1] and len(data.splits["train"].paths) == 2


def test_links_that_lead_nowhere_are_found_and_cannot_be_read(folder):
    data = folder("train/1/a.jpg", "train/2/a.jpg", "valid/1/a.jpg")
    (data / "train" / "1" / "loop.jpg").symlink_to("loop.jpg")
    (data / "train" / "1" / "nowhere.jpg").symlink_to("/nowhere.jpg")
    (data / "train" / "loop").symlink_to("loop")
    paths = data_utils.find_data(data).splits["train"].paths
    errors = list(data_utils.inspect(paths, 1))
    assert [isinstance(error, bytes) for error in errors] == [True, False, False, True]


def test_what_is_wrong_with_a_folder_is_found(folder):
    data_dir = folder(
        "train/1/a.jpg",
        "train/1/b.jpg",
        "train/1/c.jpg",
        "train/2/a.jpg",
        "valid/1/twin.jpg",
        "valid/3/a.jpg",
        "test/2/a.jpg",
    )
    for i, path in enumerate(sorted(data_dir.glob("*/*/*.jpg"))):
        Image.new("RGB", (20, 20), (i, 0, 0)).save(path, "PNG")
    shutil.copy(data_dir / "train/1/b.jpg", data_dir / "valid/1/twin.jpg")
    data = data_utils.find_data(data_dir)
    paths = [path for split in data.splits.values() for path in split.paths]
    digests = dict(zip(paths, data_utils.inspect(paths, 2)))
    error = ImageError("x.jpg cannot be read")
    problems = data_utils.find_problems(data, [error], digests, ["2"])
    assert list(problems.values()) == [
        ["x.jpg cannot be read"],
        [f"{data_dir}/valid/1/twin.jpg is {data_dir}/train/1/b.jpg"],
        [
            "left out of valid, as train has no photographs of them: 3",
            "valid has no photographs of: 2",
            "test has no photographs of: 1",
        ],
        ["2: 1"],
        ["2"],
    ]
    # Moved elsewhere they are the same photographs, with another one they are not.
    before = data_utils.fingerprint(data, data_dir, digests)
    moved = data_dir.rename(data_dir.with_name("moved"))
    again = data_utils.find_data(moved)
    elsewhere = {path.replace(str(data_dir), str(moved)): digests[path] for path in paths}
    assert data_utils.fingerprint(again, moved, elsewhere) == before
    assert data_utils.fingerprint(again, moved, {path: b"" for path in elsewhere}) != before


def test_a_folder_name_that_cannot_be_printed_is_refused(folder):
    with pytest.raises(InputError, match=r"'ro\\nse' in .* cannot be printed"):
        data_utils.find_data(folder("train/ro\nse/a.jpg", "train/2/a.jpg", "valid/2/a.jpg"))


def test_natural_order():
    texts = ["rose 10", "10", "2", "rose 2", "02", "", "a", "1b", "1a"]
    assert sorted(texts, key=data_utils.natural_key) == [
        "",
        "1a",
        "1b",
        "02",
        "2",
        "10",
        "a",
        "rose 2",
        "rose 10",
    ]


# --- Names ----------------------------------------------------------------------------


def test_names_come_from_the_option_then_the_folder_then_the_project(tmp_path):
    oxford = [str(i) for i in range(1, 103)]
    names, source, unnamed = data_utils.find_names(oxford, tmp_path)
    assert names[20] == "fire lily" and names[77] == "lotus" and "Oxford" in source
    assert unnamed == []
    # A stranger's folders 1 to 10 are no flowers of Oxford.
    assert data_utils.find_names(oxford[:10], tmp_path) == (oxford[:10], "the folders' names", [])
    (tmp_path / "cat_to_name.json").write_text('{"1": "own"}')
    names, _, unnamed = data_utils.find_names(oxford, tmp_path)
    assert names[:2] == ["own", "2"] and unnamed == oxford[1:]
    (tmp_path / "given.json").write_text('{"2": "given"}')
    assert data_utils.find_names(oxford, tmp_path, tmp_path / "given.json")[0][:2] == ["1", "given"]


def test_a_names_file_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "names.json").write_bytes(b'\xef\xbb\xbf{"1": "G\xc3\xa4nseblume"}')
    assert data_utils.load_names(tmp_path / "names.json") == {"1": "Gänseblume"}


@pytest.mark.parametrize(
    "content",
    [
        b"[1, 2]",
        b'{"1": "a\\nb"}',
        b'{"1": "a\\ud800"}',
        b"{",
        b'{"1": 2}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_names_file_of_another_form_is_refused(tmp_path, content):
    (tmp_path / "names.json").write_bytes(content)
    with pytest.raises(InputError, match="names.json"):
        data_utils.load_names(tmp_path / "names.json")


def test_the_projects_names_are_oxfords():
    names = json.loads((ROOT / "cat_to_name.json").read_text())
    assert list(names) == [str(i) for i in range(1, 103)]
    assert len(set(names.values())) == 102


# --- Writing files --------------------------------------------------------------------


def test_a_file_that_fails_half_way_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("earlier")
    with pytest.raises(RunError, match="a.txt.*No space left"):
        with data_utils.atomic_write(path) as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")
    assert path.read_text() == "earlier" and os.listdir(tmp_path) == ["a.txt"]
    with data_utils.atomic_write(path) as file:
        file.write(b"later")
    assert path.read_text() == "later" and os.listdir(tmp_path) == ["a.txt"]


def test_previous_file_is_kept(tmp_path):
    path = tmp_path / "checkpoint.pth"
    assert data_utils.keep_previous(path) is None
    path.write_text("earlier")
    assert data_utils.keep_previous(path).name == "checkpoint.previous.pth"
    assert (tmp_path / "checkpoint.previous.pth").read_text() == path.read_text() == "earlier"


def test_looking_at_files_needs_no_torch():
    code = "import data_utils, sys; assert not {'torch', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
