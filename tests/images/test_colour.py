"""The network sees the colours that a person sees, whatever colour space a file is in."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms
from profiles import ADOBE_RGB, DISPLAY_P3, cmyk_profile, grey_profile, look_alike, rgb_profile

from images.decode import Preprocessing, load_image, thumbnail

SMALL = Preprocessing(50, 40, (127.0,) * 3, (128.0,) * 3)
SAME = Preprocessing(60, 60, (127.0,) * 3, (128.0,) * 3)


def colours(size: int = 60) -> Image.Image:
    noise = np.random.default_rng(0).integers(30, 220, (6, 6, 3), np.uint8)
    return Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tiff", "avif"])
@pytest.mark.parametrize("columns", [DISPLAY_P3, ADOBE_RGB], ids=["Display P3", "Adobe RGB"])
def test_pictures_that_look_the_same_are_the_same(tmp_path, columns, extension):
    plain, wide, options = tmp_path / f"plain.{extension}", tmp_path / f"wide.{extension}", {}
    if extension in ("jpg", "webp", "avif"):
        options = {"quality": 100}
    if extension == "jpg":
        options["subsampling"] = 0
    image, profile = colours(), rgb_profile(columns)
    image.save(plain, **options)
    look_alike(image, profile).save(wide, icc_profile=profile, **options)
    for whole in (False, True):
        seen = [load_image(path, SAME, whole).astype(int) for path in (plain, wide)]
        assert abs(seen[0] - seen[1]).max() < 25
        assert abs(seen[0] - seen[1]).mean() < 2
    seen = [np.asarray(Image.open(io.BytesIO(thumbnail(p, 60))), int) for p in (plain, wide)]
    assert abs(seen[0] - seen[1]).mean() < 3


def test_grey_follows_its_profile_and_that_of_red_green_and_blue(tmp_path):
    grey = Image.new("L", (60, 60), 128)
    for profile, expected in (
        (grey_profile(1.0), 188),  # half of the light
        (rgb_profile(DISPLAY_P3, 1.0), 188),
        (grey_profile(2.2), 128),
    ):
        for mode in ("L", "LA", "P"):
            grey.convert(mode).save(tmp_path / "a.png", icc_profile=profile)
            is_grey_profile = profile[16:20] == b"GRAY"
            wanted = 128 if is_grey_profile and mode == "P" else expected
            assert abs(load_image(tmp_path / "a.png", SMALL).astype(int) - wanted).max() <= 2
    Image.fromarray(np.full((60, 60), 32896, np.uint16)).save(
        tmp_path / "a.png", icc_profile=grey_profile(1.0)
    )
    assert abs(load_image(tmp_path / "a.png", SMALL).astype(int) - 188).max() <= 2


def test_cmyk_follows_its_profile_before_it_becomes_red_green_and_blue(tmp_path):
    for ink in ((255, 0, 0, 0), (0, 0, 0, 0), (40, 90, 200, 10)):
        image = Image.new("CMYK", (60, 60), ink)
        for name in ("a.jpg", "a.tiff"):
            image.save(tmp_path / name, icc_profile=cmyk_profile())
            expected = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile())),
                ImageCms.createProfile("sRGB"),
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                "RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            seen = load_image(tmp_path / name, SMALL).astype(int)
            assert abs(seen - expected.getpixel((0, 0))).max() <= 4


def test_a_broken_profile_or_one_for_other_pixels_leaves_the_photograph_as_it_is(tmp_path):
    good = rgb_profile(ADOBE_RGB)
    colours().save(tmp_path / "plain.png")
    plain = load_image(tmp_path / "plain.png", SMALL)
    for profile in (
        b"x",
        good[:200],
        good[:16] + b"CMYK" + good[20:],
        grey_profile(1.0),
        bytes(500),
    ):
        colours().save(tmp_path / "a.png", icc_profile=profile)
        assert (load_image(tmp_path / "a.png", SMALL) == plain).all()
    # That of sRGB itself changes nothing either.
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    colours().save(tmp_path / "a.png", icc_profile=srgb)
    assert (load_image(tmp_path / "a.png", SMALL) == plain).all()


def test_lab_is_read(tmp_path):
    lab = ImageCms.profileToProfile(
        colours(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab
    lab.save(tmp_path / "lab.tiff")
    colours().save(tmp_path / "plain.png")
    seen = [load_image(tmp_path / name, SAME).astype(int) for name in ("plain.png", "lab.tiff")]
    assert abs(seen[0] - seen[1]).mean() < 3


def test_a_few_reflections_do_not_turn_a_picture_black(tmp_path):
    values = np.tile(np.linspace(0, 1, 60, dtype=np.float32), (60, 1))
    Image.fromarray(values).save(tmp_path / "plain.tif")
    plain = load_image(tmp_path / "plain.tif", SAME)
    for odd in (1.02, 40, np.inf, -np.inf, np.nan):
        values[0, 59] = odd
        Image.fromarray(values).save(tmp_path / "odd.tif")
        seen = load_image(tmp_path / "odd.tif", SAME).astype(int)
        assert (abs(seen - plain).max(2) > 1).sum() <= 1


def test_what_is_transparent_is_white_in_16_bits_too(tmp_path):
    values = np.full((60, 60), 30000, np.uint16)
    values[:, :30] = 0
    Image.fromarray(values).save(tmp_path / "a.png", transparency=0)
    seen = load_image(tmp_path / "a.png", SAME)
    assert (seen[:, :25] == 255).all() and (seen[:, 35:] == 117).all()


def test_a_large_picture_is_converted_as_a_small_one(tmp_path, monkeypatch):
    for mode in ("RGBA", "LA", "P", "CMYK"):
        colours().convert(mode).save(tmp_path / "a.tiff")
        at_once = load_image(tmp_path / "a.tiff", SMALL)
        monkeypatch.setattr("images.colour.STRIP", 333)
        assert (load_image(tmp_path / "a.tiff", SMALL) == at_once).all()
        monkeypatch.undo()
