"""Downloading: a file of known checksum, resumed where it broke off, verified, then in place."""

import hashlib
import os
import re
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from running.console import Progress, no_progress
from running.errors import InputError

# Seconds that a server may be silent, and bytes that it is asked for at once.
PATIENCE = 20
CHUNK = 2**16


class Checksum(NamedTuple):
    """What tells that a file is the right one."""

    algorithm: str  # "md5" or "sha256"
    digits: str  # hexadecimal, in small letters; perhaps the first ones only


class Remote(NamedTuple):
    """A file on a server."""

    url: str
    checksum: Checksum
    size: int | None  # bytes; None: not known before it is asked for


class _Answer(NamedTuple):
    """What a server says when it is asked for a file."""

    response: HTTPResponse
    done: int  # bytes before what it holds
    total: int | None  # bytes of the whole file; None: it does not say


def verify(path: str | os.PathLike[str], remote: Remote) -> None:
    """See that a file is the one that a server has.

    Raises:
        InputError: it is another one, or cannot be read.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path} is no file, where {remote.url} would be put")
    algorithm, digits = remote.checksum
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    found = digest.hexdigest()[: len(digits)]
    if found != digits:
        raise InputError(
            f"{path} is damaged or another file (its {algorithm} is {found}, not {digits}); "
            f"move it away, and the same command downloads {remote.url}"
        )


def fetch(remote: Remote, path: str | os.PathLike[str], progress: Progress = no_progress) -> None:
    """Download a file and verify it, going on behind what an earlier attempt left.

    Until it is verified it is called `path` + ".part", which one process at a time may write.

    Raises:
        InputError: it cannot be downloaded, or is another file.
        OSError: it cannot be written.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    done = part.stat().st_size if part.exists() else 0
    if done != remote.size:  # else the last attempt was killed before it could verify
        if remote.size is not None and done > remote.size:
            done = 0
        answer = _ask(remote, path, done)
        received = _receive(answer, remote, path)
        with answer.response, open(part, "ab" if answer.done else "wb") as file:
            for chunk in progress(received, answer.total, "downloading", "B", answer.done):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    try:
        verify(part, remote)
    except InputError:
        part.unlink()  # nothing to go on from
        why = "what was downloaded has another checksum, and was removed"
        raise _failure(remote, path, why) from None
    os.replace(part, path)


def _ask(remote: Remote, path: Path, done: int) -> _Answer:
    """Ask for the bytes of a file behind the first ones; where that fails, for all."""
    request = Request(remote.url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urlopen(request, timeout=PATIENCE)
    except HTTPError as error:
        error.close()
        if error.code == 416 and done:  # the server's file ends before that
            return _ask(remote, path, 0)
        raise _failure(remote, path, error) from error
    except (OSError, HTTPException) as error:
        raise _failure(remote, path, error) from error
    status, length = response.status, response.length
    if status == 206 and done:
        content_range = response.headers["Content-Range"] or ""
        rest = re.fullmatch(rf"bytes {done}-(\d+)/(\d+)", content_range)
        if rest and int(rest[1]) + 1 == int(rest[2]) and remote.size in (None, int(rest[2])):
            return _Answer(response, done, int(rest[2]))
        response.close()  # a part of something else
        return _ask(remote, path, 0)
    if status == 200 and (remote.size is None or length in (None, remote.size)):
        return _Answer(response, 0, length if remote.size is None else remote.size)
    response.close()
    why = f"status {status}, {length} bytes"
    raise _failure(remote, path, why + (f" instead of {remote.size}" if remote.size else ""))


def _receive(answer: _Answer, remote: Remote, path: Path) -> Iterator[bytes]:
    """Yield the bytes of an answer as they come.

    Raises:
        InputError: there are fewer than there should be.
    """
    response, done, total = answer
    while total is None or done < total:
        try:  # only around the network: what the caller does with the bytes is another matter
            chunk = response.read1(CHUNK if total is None else min(CHUNK, total - done))
        except (OSError, HTTPException) as error:
            raise _failure(remote, path, error) from error
        if not chunk and total is None:
            return  # its checksum will tell whether it is whole
        if not chunk:
            raise _failure(remote, path, f"it broke off after {done} of {total} bytes")
        done += len(chunk)
        yield chunk


def _failure(remote: Remote, path: Path, why: object) -> InputError:
    return InputError(
        f"{remote.url} cannot be downloaded ({why}); try the same command again, which goes on "
        f"behind what was downloaded, or put {path.name} into {path.parent} by hand"
    )
