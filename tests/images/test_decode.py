"""One photograph of every odd kind, and the one preprocessing."""

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from images.decode import (
    END_OF_IMAGE,
    LARGEST_SIDE,
    LFS_POINTER,
    ORIENTATION,
    START_OF_SCAN,
    Preprocessing,
    load_image,
    open_image,
    thumbnail,
)
from running.errors import ImageError

SMALL = Preprocessing(50, 40, (127.0,) * 3, (128.0,) * 3)


def halves(size=(120, 80)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    return image


def corner_colors(pixels: np.ndarray) -> list[str]:
    """Name the colours top left, top right, bottom left, bottom right."""
    return ["red" if p[0] > p[2] else "blue" for p in pixels[[5, 5, -5, -5], [5, -5, 5, -5]]]


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_every_format_is_read(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    halves().save(path)
    pixels = load_image(path, SMALL)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (40, 40, 3)
    assert corner_colors(pixels) == ["red", "blue"] * 2


@pytest.mark.parametrize(
    ("mode", "white"),
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
    assert (load_image(path, SMALL) == 255).all()


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((60, 60), 257 * 100, np.uint16)).save(tmp_path / "a.png")
    assert (load_image(tmp_path / "a.png", SMALL) == 100).all()


# --- As the camera was held -----------------------------------------------------------


@pytest.mark.parametrize(
    ("orientation", "colors"),
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
    exif[ORIENTATION] = orientation
    halves().save(tmp_path / f"a.{extension}", exif=exif)
    assert corner_colors(load_image(tmp_path / f"a.{extension}", SMALL)) == colors


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage!",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # which the scripts do not show either
def test_broken_exif_leaves_the_photograph_as_it_is(tmp_path, exif):
    halves().save(tmp_path / "a.jpg", exif=exif)
    assert corner_colors(load_image(tmp_path / "a.jpg", SMALL)) == ["red", "blue"] * 2


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


@pytest.mark.parametrize(
    ("size", "expected"),
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
    pixels = load_image(tmp_path / "a.png", SMALL, whole=True)
    assert pixels.shape == (expected[1], expected[0], 3)
    assert (pixels == (9, 99, 200)).all()


# --- What cannot be read --------------------------------------------------------------


def test_a_thumbnail_is_small_and_upright(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the left half, red, is the upper one
    halves((1200, 800)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    small = Image.open(io.BytesIO(thumbnail(tmp_path / "a.jpg", 160)))
    assert (small.format, small.size, small.getexif()) == ("JPEG", (160, 240), {})
    turned = np.asarray(halves((1200, 800)).rotate(-90, expand=True).resize((160, 240)), float)
    assert np.abs(np.asarray(small, float) - turned).mean() < 5


def test_unreadable_files_raise_an_error_that_names_them(tmp_path):
    halves().save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "damaged.png")
    png = bytearray((tmp_path / "damaged.png").read_bytes())
    png[5000:5008] = bytes(8)
    broken = {
        "damaged.png": png,
        "cut.jpg": whole[:-300],
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "head.jpg": whole[:20],
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    Image.new("RGB", (40, 40)).save(tmp_path / "other.ico")
    (tmp_path / "folder.jpg").mkdir()
    for name in (*broken, "other.ico", "folder.jpg", "missing.jpg"):
        with pytest.raises(ImageError, match=name):
            load_image(tmp_path / name, SMALL)


def png_of(width: int, height: int) -> bytes:
    """Claim a size, and give nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((12_000, 12_000), "12000 x 12000 pixels are too many"),
        ((LARGEST_SIDE + 1, 1), f"{LARGEST_SIDE + 1} x 1 pixels are too many"),
        # Pillow refuses these, and does not say how large they are.
        ((20_000, 20_000), "more than 100 million pixels are too many"),
        ((2**31 - 1, 1), "more than 100 million pixels are too many"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_that_is_far_too_large_is_not_decoded(tmp_path, size, words, monkeypatch):
    (tmp_path / "a.png").write_bytes(png_of(*size))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it is decoded"))
    with pytest.raises(ImageError, match=f"a.png cannot be read: {words}$"):
        load_image(tmp_path / "a.png", SMALL)


def test_what_is_not_there_itself_is_told(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.touch()
    with pytest.raises(ImageError, match="a.jpg is empty$"):
        open_image(path)
    path.write_bytes(LFS_POINTER + b"v1\n")
    with pytest.raises(ImageError, match="a.jpg is a Git LFS pointer; git lfs pull fetches the"):
        open_image(path)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ImageError, match="a.jpg cannot be read: Permission denied$"):
        open_image(path)


# --- JPEGs that are cut off -----------------------------------------------------------


def jpeg_of(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def flower(mode: str) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    return Image.fromarray(noise).resize((450, 301), Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize("resize", [40, 90, 200, 301], ids="decoded at 1/{}".format)
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"restart_marker_rows": 1}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_may_lack_its_end(tmp_path, mode, options, resize):
    whole, path = jpeg_of(flower(mode), **options), tmp_path / "a.jpg"
    wanted = SMALL._replace(resize=resize)
    path.write_bytes(whole)
    pixels = load_image(path, wanted)
    for missing in (1, 2):
        path.write_bytes(whole[:-missing])
        assert (load_image(path, wanted) == pixels).all()
    for missing in (50, len(whole) // 100, len(whole) // 10, len(whole) // 2):
        path.write_bytes(whole[:-missing])
        with pytest.raises(ImageError, match="a.jpg cannot be read: image file is truncated"):
            load_image(path, wanted)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_progressive_jpeg_that_is_cut_off_may_lack_detail(tmp_path, mode):
    whole = jpeg_of(flower(mode), progressive=True)
    (tmp_path / "a.jpg").write_bytes(whole)
    load_image(tmp_path / "a.jpg", SMALL)
    last = whole.rfind(START_OF_SCAN)
    for cut in (whole[:-1], whole[:-2], whole[:last], whole[: whole.rfind(START_OF_SCAN, 0, last)]):
        (tmp_path / "a.jpg").write_bytes(cut)
        with pytest.raises(ImageError, match="image file is truncated"):
            load_image(tmp_path / "a.jpg", SMALL)


def test_a_jpeg_that_lacks_a_whole_scan_is_cut_off(tmp_path):
    # One scan a colour, of the same grey picture three times.
    grey = jpeg_of(flower("L"))
    frame, scan = grey.find(b"\xff\xc0"), grey.find(START_OF_SCAN)
    size = grey[frame + 5 : frame + 9]
    parts = b"".join(bytes([n, 0x11, 0]) for n in (1, 2, 3))
    tables = grey[:frame] + b"\xff\xc0\0\x11\x08" + size + b"\x03" + parts + grey[frame + 13 : scan]
    scans = [grey[scan : scan + 5] + bytes([n]) + grey[scan + 6 : -2] for n in (1, 2, 3)]
    path = tmp_path / "a.jpg"
    path.write_bytes(tables + b"".join(scans) + END_OF_IMAGE)
    load_image(path, SMALL)
    path.write_bytes(tables + b"".join(scans[:2]))
    with pytest.raises(ImageError, match="image file is truncated"):
        load_image(path, SMALL)


def test_pipes_and_devices_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", "/dev/zero"):
        with pytest.raises(ImageError, match="is a pipe or a device, not a file"):
            open_image(path)


# --- HEIC -----------------------------------------------------------------------------


def test_heic_needs_a_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for name in ("a.HEIC", "b.jpg"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
        with pytest.raises(
            ImageError, match=f"{name} is HEIC; to read it, pip install pillow-heif"
        ):
            load_image(tmp_path / name, SMALL)


def test_heic_is_read_where_the_package_is(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(halves()).save(tmp_path / "a.heic")
    assert corner_colors(load_image(tmp_path / "a.heic", SMALL)) == ["red", "blue"] * 2
