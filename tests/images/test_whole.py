"""A file that is not whole is no photograph, whatever size of it is asked for."""

import io

import numpy as np
import pytest
from PIL import Image

from images.decode import Preprocessing, digest_each, load_image
from images.whole import END_OF_IMAGE, START_OF_SCAN
from running.errors import ImageError

SMALL = Preprocessing(50, 40, (127.0,) * 3, (128.0,) * 3)


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
        with pytest.raises(
            ImageError, match="a.jpg cannot be read: a part of the picture is missing"
        ):
            load_image(path, wanted)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_progressive_jpeg_that_is_cut_off_may_lack_detail(tmp_path, mode):
    whole = jpeg_of(flower(mode), progressive=True)
    (tmp_path / "a.jpg").write_bytes(whole)
    load_image(tmp_path / "a.jpg", SMALL)
    last = whole.rfind(START_OF_SCAN)
    for cut in (whole[:-1], whole[:-2], whole[:last], whole[: whole.rfind(START_OF_SCAN, 0, last)]):
        (tmp_path / "a.jpg").write_bytes(cut)
        with pytest.raises(ImageError, match="a part of the picture is missing"):
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
    with pytest.raises(ImageError, match="a part of the picture is missing"):
        load_image(path, SMALL)


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"subsampling": 0}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_check_and_training_agree_on_a_missing_end(tmp_path, mode, options):
    noise = np.random.default_rng(1).integers(0, 256, (300, 401, 3), np.uint8)
    whole, path = jpeg_of(Image.fromarray(noise).convert(mode), **options), tmp_path / "a.jpg"
    for missing in range(1, 25):
        path.write_bytes(whole[:-missing])
        readable = []
        for resize in (1, 30, 100, 300):
            try:
                load_image(path, SMALL._replace(resize=resize, crop=1))
                readable.append(True)
            except ImageError:
                readable.append(False)
        [checked] = digest_each([str(path)], 1)
        assert {isinstance(checked, bytes), *readable} == {missing <= 2} or missing < 15
        assert len({isinstance(checked, bytes), *readable}) == 1


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_half_destroyed_jpeg_is_not_read_though_its_end_is_there(tmp_path, mode):
    whole, path = jpeg_of(flower(mode).resize((900, 602)), quality=95), tmp_path / "a.jpg"
    scan = whole.find(START_OF_SCAN) + 20
    middle, later = (scan + (len(whole) - scan) * part // 10 for part in (5, 9))
    trailer = b"motion photo " * 99 + START_OF_SCAN + bytes(99)
    path.write_bytes(whole + trailer)
    for resize in (30, 300, 600):
        load_image(path, SMALL._replace(resize=resize))
    for damaged in (
        whole[:middle] + END_OF_IMAGE,
        whole[:later] + END_OF_IMAGE,
        whole[:later] + END_OF_IMAGE + trailer,
        whole[:middle] + bytes(4096) + whole[middle + 4096 :],
        whole[:middle] + whole[middle + 4096 :],
    ):
        path.write_bytes(damaged)
        for resize in (30, 300, 600):
            with pytest.raises(ImageError, match="a part of the picture is missing"):
                load_image(path, SMALL._replace(resize=resize))


def test_grey_pictures_are_whole(tmp_path):
    for mode, grey in (("L", 128), ("RGB", (128, 128, 128)), ("CMYK", (127, 127, 127, 127))):
        (tmp_path / "a.jpg").write_bytes(jpeg_of(Image.new(mode, (333, 222), grey)))
        load_image(tmp_path / "a.jpg", SMALL)


def test_a_heic_or_avif_that_is_cut_off_is_not_read(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    for name in ("a.heic", "a.avif"):
        path = tmp_path / name
        if name == "a.heic":
            pillow_heif.from_pillow(flower("RGB")).save(path)
        else:
            flower("RGB").save(path)
        whole = path.read_bytes()
        for trailer in (b"", bytes(100), b"\0\0\xff\xffSEFT something else"):
            path.write_bytes(whole + trailer)
            load_image(path, SMALL)
        for missing in (1, len(whole) // 3, len(whole) * 87 // 100):
            path.write_bytes(whole[:-missing])
            with pytest.raises(ImageError, match=name):
                load_image(path, SMALL)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("filling", [b"\0", b"\xff"])
def test_a_half_copied_jpeg_with_restart_markers_is_cut(tmp_path, mode, subsampling, filling):
    """Between two markers the decoder makes up what is missing."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (150, 203, 3), np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    path = tmp_path / "a.jpg"
    options = {"subsampling": subsampling} if mode == "RGB" else {}
    picture.save(path, quality=85, restart_marker_rows=1, **options)
    whole = path.read_bytes()
    assert b"\xff\xdd" in whole
    load_image(path, SMALL)
    path.write_bytes(whole[:-2])  # without its end alone
    load_image(path, SMALL)
    part = len(whole) // 5
    path.write_bytes(whole[:part] + filling * (len(whole) - part))
    with pytest.raises(ImageError, match="a part of the picture is missing"):
        load_image(path, SMALL)
