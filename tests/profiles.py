"""ICC profiles, built from their definition, for pictures in other colour spaces."""

import io
import struct

import numpy as np
from PIL import Image, ImageCms

# Columns of red, green and blue in XYZ, relative to D50, and gamma (ICC.1:2022, annex F).
DISPLAY_P3 = (0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841)
ADOBE_RGB = (0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)


def icc(space: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ") -> bytes:
    """Build a profile of version 2."""
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78), **tags}
    body, table = b"", struct.pack(">I", len(tags))
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = b"\x02\x10\0\0" + b"scnr" + space + pcs + bytes(12) + b"acsp" + bytes(28)
    header += struct.pack(">iii", 63190, 65536, 54061) + bytes(48)  # the illuminant D50
    return struct.pack(">I", 132 + len(table) - 4 + len(body)) + bytes(4) + header + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * each) for each in values))


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IHxx", 1, round(256 * gamma))


def rgb_profile(columns: tuple[tuple[float, ...], ...], gamma: float = 2.2) -> bytes:
    tags = {b"wtpt": xyz(0.9642, 1, 0.8249)}
    for name, column in zip((b"r", b"g", b"b"), columns):
        tags |= {name + b"XYZ": xyz(*column), name + b"TRC": curve(gamma)}
    return icc(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    return icc(b"GRAY", {b"wtpt": xyz(0.9642, 1, 0.8249), b"kTRC": curve(gamma)})


def cmyk_profile() -> bytes:
    """Inks of which each darkens the paper, but cyan makes it greener than Pillow's would."""
    table = b""
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        lightness = 255 * (1 - 0.3 * c) * (1 - 0.4 * m) * (1 - 0.1 * y) * (1 - k)
        table += bytes([round(lightness), 128 - 60 * c + 60 * m, 128 + 60 * y - 20 * c])
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    head = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix
    lut = head + bytes(range(256)) * 4 + table + bytes(range(256)) * 3
    return icc(b"CMYK", {b"wtpt": xyz(0.9642, 1, 0.8249), b"A2B0": lut}, pcs=b"Lab ")


def look_alike(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert a picture so that it looks the same in the colour space of a profile."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), source, 1)
    assert converted
    return converted
