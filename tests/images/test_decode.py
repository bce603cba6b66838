"""One photograph of every odd kind, and the one preprocessing."""

import io
import os
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from images.decode import (
    LARGEST_SIDE,
    LFS_POINTER,
    ORIENTATION,
    Preprocessing,
    load_image,
    thumbnail,
)
from running.errors import ImageError

SMALL = Preprocessing(50, 40, (127.0,) * 3, (128.0,) * 3)


def halves(size=(120, 80)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    return image


def jpeg_of(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def corners(pixels: np.ndarray) -> str:
    """Spell the colours top left, top right, bottom left, bottom right."""
    return "".join("r" if p[0] > p[2] else "b" for p in pixels[[5, 5, -5, -5], [5, -5, 5, -5]])


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_every_format_is_read(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    halves().save(path)
    pixels = load_image(path, SMALL)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (40, 40, 3))
    assert corners(pixels) == "rbrb"


def test_white_and_transparent_become_white_in_every_mode(tmp_path):
    for mode in ("L", "1", "LA", "RGBA", "CMYK"):
        path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
        white = {"L": 255, "1": 1}.get(mode, (0,) * len(mode))
        Image.new(mode, (60, 60), white).save(path)
        assert (load_image(path, SMALL) == 255).all()
    for mode, white in (
        ("I;16", 65535),
        ("I", 65535),
        ("I", 255),
        ("F", 1),
        ("F", 255),
        ("F", 1e6),
    ):
        Image.new(mode, (60, 60), white).save(tmp_path / "a.tiff")
        assert (load_image(tmp_path / "a.tiff", SMALL) == 255).all()
    # Scaled, not clipped.
    Image.fromarray(np.full((60, 60), 257 * 100, np.uint16)).save(tmp_path / "a.png")
    assert (load_image(tmp_path / "a.png", SMALL) == 100).all()


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tiff", "avif"])
def test_photographs_are_turned_as_the_camera_was_held(tmp_path, extension):
    path, exif = tmp_path / f"a.{extension}", Image.Exif()
    expected = ["rbrb", "brbr", "brbr", "rbrb", "rrbb", "rrbb", "bbrr", "bbrr"]
    for orientation, colors in enumerate(expected, start=1):
        exif[ORIENTATION] = orientation
        halves().save(path, exif=exif)
        assert corners(load_image(path, SMALL)) == colors


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # which the scripts do not show either
def test_broken_exif_leaves_the_photograph_as_it_is(tmp_path):
    for exif in (b"", b"garbage!", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\xff\xff\xff\xff"):
        halves().save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
        assert corners(load_image(tmp_path / "a.jpg", SMALL)) == "rbrb"


# --- The one preprocessing ------------------------------------------------------------


def test_centre_is_cut_from_the_resized_picture(tmp_path):
    # Against the plain definition: resize the whole picture, then crop.
    pixels = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    plain = Image.fromarray(pixels).resize((75, 50), Image.Resampling.BICUBIC).crop((18, 5, 58, 45))
    difference = load_image(tmp_path / "a.png", SMALL).astype(int) - np.asarray(plain)
    assert abs(difference).max() <= 1


def test_scaled_jpeg_decoding_changes_little(tmp_path):
    smooth = Image.effect_noise((12, 8), 40).convert("RGB").resize((1200, 800), 3)
    smooth.save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(tmp_path / "a.png")  # decoded in full
    jpeg, png = (load_image(tmp_path / f"a.{e}", SMALL) for e in ("jpg", "png"))
    assert abs(jpeg.astype(int) - png).mean() < 2


def test_the_whole_of_a_photograph_is_only_scaled_down(tmp_path):
    for size, expected in {
        (50, 50): (50, 50),
        (30, 20): (30, 20),
        (100, 160): (50, 80),
        (50, 170): (50, 100),  # the middle of a panorama
        (1000, 90): (100, 50),
        (20, 1): (2, 1),
    }.items():
        Image.new("RGB", size, (9, 99, 200)).save(tmp_path / "a.png")
        pixels = load_image(tmp_path / "a.png", SMALL, whole=True)
        assert pixels.shape == (expected[1], expected[0], 3)
        assert (pixels == (9, 99, 200)).all()


def test_a_thumbnail_is_small_and_upright(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the left half, red, is the upper one
    halves((1200, 800)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    small = Image.open(io.BytesIO(thumbnail(tmp_path / "a.jpg", 160)))
    assert (small.format, small.size, small.getexif()) == ("JPEG", (160, 240), {})
    turned = np.asarray(halves((1200, 800)).rotate(-90, expand=True).resize((160, 240)), float)
    assert np.abs(np.asarray(small, float) - turned).mean() < 5


# --- What cannot be read --------------------------------------------------------------


def test_unreadable_files_raise_an_error_that_names_them(tmp_path):
    whole, png = jpeg_of(halves()), io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    Image.fromarray(pixels).save(png, "PNG")
    damaged = png.getvalue()
    contents = {
        "damaged.png": damaged[:5000] + bytes(8) + damaged[5008:],
        "cut.jpg": whole[:-300],
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "head.jpg": whole[:20],
        "pointer.jpg": LFS_POINTER + b"v1\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    Image.new("RGB", (40, 40)).save(tmp_path / "other.ico")
    words = {"empty.jpg": "is empty", "pointer.jpg": "git lfs pull", "pipe.jpg": "is a pipe"}
    for name in (*contents, "folder.jpg", "pipe.jpg", "other.ico", "missing.jpg"):
        with pytest.raises(ImageError, match=f"{name}.*{words.get(name, '')}"):
            load_image(tmp_path / name, SMALL)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((12_000, 12_000), "12000 x 12000 pixels are too many"),
        ((LARGEST_SIDE + 1, 1), f"{LARGEST_SIDE + 1} x 1 pixels are too many"),
        ((20_000, 20_000), "more than 100 million pixels are too many"),  # by Pillow
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_that_is_far_too_large_is_not_decoded(tmp_path, size, words, monkeypatch):
    Image.new("1", (1, 1)).save(tmp_path / "a.bmp")  # claims a size, and has a pixel
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[18:26] = struct.pack("<II", *size)
    (tmp_path / "a.bmp").write_bytes(content)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it is decoded"))
    with pytest.raises(ImageError, match=f"a.bmp cannot be read: {words}$"):
        load_image(tmp_path / "a.bmp", SMALL)


# --- HEIC -----------------------------------------------------------------------------


def test_heic_needs_a_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for name in ("a.HEIC", "b.jpg"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
        with pytest.raises(ImageError, match=f"{name} is HEIC; .*pip install pillow-heif"):
            load_image(tmp_path / name, SMALL)


def test_heic_is_read_where_the_package_is(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(halves()).save(tmp_path / "a.heic")
    assert corners(load_image(tmp_path / "a.heic", SMALL)) == "rbrb"
