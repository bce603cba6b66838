"""Downloading: a file of known checksum, resumed where it broke off, verified, then renamed."""

import hashlib
import os
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.request import Request, urlopen

from running.console import Progress, no_progress
from running.errors import InputError
from running.files import put_in_place

TIMEOUT = 20  # seconds that a server may be silent
CHUNK = 2**16  # bytes


def fetch(
    url: str, path: str | os.PathLike[str], checksum: str, progress: Progress = no_progress
) -> None:
    """Download a file, unless it is there already, and verify it.

    Until it is verified it is called `path` + ".part", which the next attempt continues. The
    checksum, such as "sha256:f37072fd", has the algorithm, and at least the first digits. Raises
    InputError if it cannot be downloaded or another file is there, OSError if it cannot be written.
    """
    path, algorithm = Path(path), checksum.split(":")[0]
    if os.path.lexists(path):
        if path.is_file() and _matches(path, checksum):
            return
        raise InputError(
            f"{path} is damaged or another file (its {algorithm} differs); move it away, and the "
            f"same command downloads {url}"
        )
    failure = f"try the same command again, or put {path.name} into {path.parent} by hand"
    part = path.with_name(path.name + ".part")
    done = part.stat().st_size if part.exists() else 0
    if not done or not _matches(part, checksum):  # else the last attempt was killed before renaming
        try:
            request = Request(url, headers={"Range": f"bytes={done}-"} if done else {})
            response = urlopen(request, timeout=TIMEOUT)
        except (OSError, HTTPException) as error:
            if getattr(error, "code", None) == 416:  # the server's file ends before that
                part.unlink(missing_ok=True)
            why = error if hasattr(error, "code") else getattr(error, "reason", error)
            why = str(getattr(why, "strerror", None) or why)
            raise InputError(f"{url} cannot be downloaded ({why}); {failure}") from error
        done = done if response.status == 206 else 0
        total = None if response.length is None else done + response.length
        with response, open(part, "ab" if done else "wb") as file:
            received = _receive(response, failure)
            for chunk in progress(received, total, "downloading", "B", done):
                file.write(chunk)
        if not _matches(part, checksum):
            part.unlink()
            raise InputError(f"what {url} sent was removed, as its {algorithm} differs; {failure}")
    put_in_place(part, path)


def _matches(path: Path, checksum: str) -> bool:
    algorithm, digits = checksum.split(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest().startswith(digits)


def _receive(response: HTTPResponse, failure: str) -> Iterator[bytes]:
    """Yield the bytes of a response; errors of the network, not of the disk, are the user's."""
    why: object = None
    try:
        while chunk := response.read(CHUNK):
            yield chunk
        if response.length:
            why = f"{response.length} bytes are missing"
    except (OSError, HTTPException) as error:
        why = error
    if why:
        raise InputError(f"{response.url} broke off ({why}); {failure}")
