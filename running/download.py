"""running/download.py"""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from photographs.known_data import KnownDataSet
from running.errors import InputError

# Seconds that a server may be silent, and bytes that it is asked for at once.
PATIENCE = 20


CHUNK = 2**16


def _require_md5(archive: Path, known: KnownDataSet) -> None:
    if not archive.is_file():
        raise InputError(f"{archive} is no file, where the archive {known.url} would lie")
    md5 = hashlib.md5(usedforsecurity=False)
    try:
        with open(archive, "rb") as file:
            while chunk := file.read(2**20):
                md5.update(chunk)
    except OSError as error:
        raise InputError(f"{archive} cannot be read: {error.strerror}") from None
    if md5.hexdigest() != known.md5:
        raise InputError(
            f"{archive} is damaged or another file (its md5 is {md5.hexdigest()}, not "
            f"{known.md5}); move it away, and the same command fetches {known.url}"
        )


def _fetch(known: KnownDataSet, archive: Path, progress: Callable[..., Iterator]) -> None:
    """Fetch an archive and verify it, going on behind what an earlier attempt left."""
    part = archive.with_name(archive.name + ".part")
    done = part.stat().st_size if part.exists() else 0
    if done != known.size:  # else the last attempt was killed before it could verify
        response, done = _ask(known, archive, done if done < known.size else 0)
        with response, open(part, "ab" if done else "wb") as file:
            for chunk in progress(
                _receive(response, known, archive, done), known.size, "fetching", "B", done
            ):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    try:
        _require_md5(part, known)
    except InputError:
        part.unlink()  # nothing to go on from
        raise _out_of_reach(
            known, archive, "what was fetched has another checksum, and was removed"
        ) from None
    os.replace(part, archive)


def _ask(known: KnownDataSet, archive: Path, done: int) -> tuple[Any, int]:
    """Ask for the bytes of an archive behind the first ones; where that fails, for all.

    Returns:
        The response, and how many bytes are before what it holds: `done` or 0.
    """
    # Imported here, as it takes longer than all else that predict.py needs of this module.
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    request = Request(known.url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urlopen(request, timeout=PATIENCE)
    except HTTPError as error:
        error.close()
        if error.code == 416 and done:  # the server's file ends before that
            return _ask(known, archive, 0)
        raise _out_of_reach(known, archive, error) from error
    except (OSError, HTTPException) as error:
        raise _out_of_reach(known, archive, error) from error
    if response.status == 206:
        wanted = f"bytes {done}-{known.size - 1}/{known.size}"
        if done and response.headers["Content-Range"] == wanted:
            return response, done
        response.close()  # a part of something else
        if done:
            return _ask(known, archive, 0)
    size = response.headers["Content-Length"]
    if response.status != 200 or size not in (None, str(known.size)):
        response.close()
        raise _out_of_reach(
            known, archive, f"status {response.status}, {size} bytes instead of {known.size}"
        )
    return response, 0


def _receive(
    response: Any, known: KnownDataSet, archive: Path, done: int
) -> Iterator[bytes]:
    """Yield the bytes of an archive behind the first ones as they come."""
    from http.client import HTTPException

    while done < known.size:
        try:  # only around the network: what the caller does with the bytes is another matter
            chunk = response.read1(min(CHUNK, known.size - done))
        except (OSError, HTTPException) as error:
            raise _out_of_reach(known, archive, error) from error
        if not chunk:
            raise _out_of_reach(known, archive, f"it broke off after {done} of {known.size} bytes")
        done += len(chunk)
        yield chunk


def _out_of_reach(known: KnownDataSet, archive: Path, why: object) -> InputError:
    return InputError(
        f"{known.url} cannot be had ({why}); try the same command again, which goes "
        f"on behind what was fetched, or put {archive.name} into {archive.parent} by "
        "hand"
    )
