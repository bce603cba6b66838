"""Whether a photograph's file is whole: decoders show what is missing as grey, without a word."""

import hashlib
import io
import math
import os
import re
from pathlib import Path

from PIL import Image

LARGEST_JPEG = 50_000_000  # bytes, and
LARGEST_PICTURE = 100_000_000  # pixels, of a JPEG whose end is looked at

START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
MISSING = range(125, 131)  # what the decoder of JPEG makes of missing pixels

# The outermost boxes of HEIC and AVIF; what follows may be anything.
BOXES = (b"ftyp", b"meta", b"mdat", b"moov", b"free", b"skip", b"uuid")


def find_jpeg_end(content: bytes) -> int:
    """Return where the end of the first picture in a JPEG file is marked; -1 if it is not."""
    at = 2
    while content[at : at + 1] == b"\xff" and content[at : at + 2] != START_OF_SCAN:
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return content.find(END_OF_IMAGE, at)


def looks_cut(image: Image.Image) -> bool:
    """Whether the last pixel of a decoded JPEG is of the grey that missing ones get."""
    pixel = image.getpixel((image.width - 1, image.height - 1))
    return all(value in MISSING for value in (pixel if isinstance(pixel, tuple) else (pixel,)))


def lacks_restarts(content: bytes) -> bool:
    """Whether a baseline JPEG has fewer restart markers than its interval asks for (T.81, E.1.4).

    From marker to marker the decoder makes up what is missing, whatever comes next.
    """
    at, interval, frame = 2, 0, b""
    while content[at : at + 1] == b"\xff" and content[at : at + 2] != START_OF_SCAN:
        kind, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if kind == 0xDD:
            interval = int.from_bytes(content[at + 4 : at + 6], "big")
        elif kind in (0xC0, 0xC1):
            frame = content[at + 4 : at + 2 + length]
        at += 2 + length
    if not interval or len(frame) < 9:
        return False
    height, width, factors = frame[1:3], frame[3:5], frame[7::3] if frame[5] > 1 else b"\x11"
    across = math.ceil(int.from_bytes(width, "big") / (8 * max(f >> 4 for f in factors)))
    down = math.ceil(int.from_bytes(height, "big") / (8 * max(f & 15 for f in factors)))
    found = len(re.findall(rb"\xff[\xd0-\xd7]", content[at:]))
    return found < math.ceil(across * down / interval) - 1


def require_whole_jpeg(path: str | Path, image: Image.Image) -> Image.Image | None:
    """Raise ValueError if pixels of a JPEG are missing; return it with an end if only that is.

    The decoder makes up what is missing out of what comes next: if pixels are, two things that come
    next give two pictures. This is seen at full size alone. A whole scan could be missing
    unnoticed, so that a file without an end has to have one scan of all colours.
    """
    content = Path(path).read_bytes() if os.path.getsize(path) <= LARGEST_JPEG else b""
    end = find_jpeg_end(content)
    has_end, cut = end >= 0, ValueError("a part of the picture is missing")
    if lacks_restarts(content):
        raise cut
    if has_end:
        content = content[:end]
    else:
        content = content.removesuffix(END_OF_IMAGE[:1])
        components = content[content.rfind(START_OF_SCAN) + 4 :][:1]
        if "progressive" in image.info or components != bytes([len(image.getbands())]):
            raise cut
    digests = set()
    for made_up in (b"", b"\xa5" * 100):
        with Image.open(io.BytesIO(content + made_up + END_OF_IMAGE), formats=("JPEG",)) as full:
            if math.prod(full.size) > LARGEST_PICTURE:
                return None
            try:
                digests.add(hashlib.blake2b(full.tobytes()).digest())
            except OSError:
                raise cut from None
    if len(digests) > 1:
        raise cut
    return None if has_end else Image.open(io.BytesIO(content + END_OF_IMAGE), formats=("JPEG",))


def require_whole_boxes(path: str | Path) -> None:
    """Raise ValueError if a HEIC or AVIF ends within one of its boxes (ISO/IEC 14496-12, 4.2)."""
    with open(path, "rb") as file:
        size, at = file.seek(0, os.SEEK_END), 0
        while at + 8 <= size:
            file.seek(at)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            if kind not in BOXES or 0 < length < 8:
                return
            at = at + length if length else size
    if at > size:
        raise ValueError("it is cut off")
