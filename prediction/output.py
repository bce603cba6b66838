"""The destination of records: standard output, or a file with which a stopped job can resume.

Until `names.csv` is complete it is called `names.csv.part`. Beside it, `names.csv.part.log` holds
the options of the job and, for each record, a line with the state of the job after it and a
checksum, so that after a kill, a full disk or a power cut the complete records can be told.
"""

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedIOBase, FileIO
from pathlib import Path
from typing import Any, NamedTuple, cast

from prediction.inputs import Found
from prediction.records import CSV_COLUMNS, csv_row
from running.console import give_up_stdout
from running.errors import InputError, RunError
from running.files import find_target, hold_target, prepare_folder, put_in_place

# Records hold file names as they are, whatever their bytes.
ENCODING = "utf-8", "surrogateescape"
STDOUT = "standard output"  # in messages


class Place(NamedTuple):
    """The state of a job after a record."""

    records: int = 0
    end: int = 0  # bytes of the file
    checksum: int = 0  # CRC-32 of these
    failed: int = 0  # records with an error
    broken_off: int = 0  # the record from which on a promise was broken off
    paths: str = ""  # a digest of the paths of all photographs, in their order

    def after(self, content: bytes) -> "Place":
        """Return the place after more bytes that are not a record."""
        end, checksum = self.end + len(content), zlib.crc32(content, self.checksum)
        return self._replace(end=end, checksum=checksum)


class Output:
    """Takes records; `place` counts them, with those of the stopped job that resumes."""

    place = Place()
    log: FileIO | None = None
    part: Path | None = None  # the file until it is complete
    note = ""  # what becomes of the records of a stopped job

    def __init__(self, name: str, file: FileIO | BufferedIOBase, encoding: tuple[str, str]):
        self.name, self.file, self.encoding = name, file, encoding

    def write(self, text: str, file: str, failed: bool = False, broken_off: bool = False) -> None:
        """Write the record of the photograph `file`, after which a promise may be broken off."""
        self.write_header(text)
        self.place = self.place._replace(
            records=self.place.records + 1,
            failed=self.place.failed + failed,
            broken_off=self.place.broken_off or (self.place.records + 2) * broken_off,
            paths=_chain(self.place.paths, file),
        )
        if self.log:
            self.put(self.log, " ".join(map(str, self.place)).encode() + b"\n")

    def write_header(self, text: str) -> None:
        """Write text that is not a record."""
        content = text.encode(*self.encoding)
        self.put(self.file, content)
        self.place = self.place.after(content)

    def put(self, file: FileIO | BufferedIOBase, content: bytes) -> None:
        """Write bytes and flush them."""
        rest = memoryview(content)
        with _writing(self.name):
            while rest:
                rest = rest[file.write(rest) :]
            file.flush()

    def skip(self, found: Iterable[Found]) -> Iterator[Found]:
        """Leave out the photographs that have their records; other photographs are refused."""
        digest, found = "", iter(found)
        for _, (path, _) in zip(range(self.place.records), found):
            digest = _chain(digest, path)
        if digest != self.place.paths:
            _refuse(f"{self.part} is of other photographs, or of these in another order")
        yield from found


@contextmanager
def _writing(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if name == STDOUT:
            give_up_stdout()
        raise RunError(f"{name} cannot be written: {error.strerror}") from error


def _refuse(why: str) -> None:
    sentence = f"{why}; give the same, or leave out --continue, and it is begun again"
    raise InputError(sentence, can_go_on=False)


def _chain(digest: str, path: str) -> str:
    """Add a path to the digest of those before it."""
    return hashlib.blake2b(digest.encode() + os.fsencode(path), digest_size=12).hexdigest()


@contextmanager
def open_output(
    path: str | None, format_name: str, job: Mapping[str, Any] | None = None, resume: bool = False
) -> Iterator[Output]:
    """Open the file for records, or standard output (None); it appears when the block ends.

    After an error its records are kept, and `resume` goes on after the last one; `job` has all
    options that they depend on, as JSON has them. Raises InputError if the file cannot be written
    there, another process is writing it, or the stopped job had other options, RunError if the disk
    is full.
    """
    header = csv_row(CSV_COLUMNS) if format_name == "csv" else ""
    if path is None:
        encoding = ENCODING
        if format_name == "text":  # the terminal may not be able to show all names
            encoding = sys.stdout.encoding or ENCODING[0], "backslashreplace"
        output = Output(STDOUT, cast(BufferedIOBase, sys.stdout.buffer), encoding)
        output.write_header(header)
        yield output
        return
    target = find_target(path)
    part, log = (target.with_name(target.name + end) for end in (".part", ".part.log"))
    with hold_target(target, path):
        prepare_folder(target.parent, [part.name, log.name])
        is_empty = os.path.exists(part) and not part.stat().st_size  # its log could not be made
        if os.path.exists(part) and not os.path.exists(log) and not is_empty:
            raise InputError(f"{part} is there, but is not of predict.py; move it away")
        first = json.dumps(job or {}).encode() + b"\n"
        place, log_end, note = Place(), 0, ""
        if resume and os.path.exists(part) and not is_empty:
            place, log_end = _find_place(part, log, first)
            note = f"resumes after {place.records} records of {part}" if log_end else ""
        elif os.path.exists(part) and not is_empty:
            note = f"{part} of a stopped job is begun again, as there is no --continue"
        with _writing(path):
            file, lines = FileIO(part, "a"), FileIO(log, "a")
            file.truncate(place.end)
            lines.truncate(log_end)
        output = Output(path, file, ENCODING)
        output.place, output.log, output.part, output.note = place, lines, part, note
        try:
            with file, lines:
                if not log_end:
                    output.put(lines, first)
                    output.write_header(header)
                yield output
        except BaseException:
            if not output.place.records:
                part.unlink(missing_ok=True)
                log.unlink(missing_ok=True)
            raise
        with _writing(path):
            put_in_place(part, target)
        log.unlink(missing_ok=True)


def _find_place(part: Path, log: Path, job: bytes) -> tuple[Place, int]:
    """Find the last complete record of a stopped job, and the end of its line in the log."""
    place = Place()
    try:
        with open(part, "rb") as content, open(log, "rb") as lines:
            first = lines.readline()
            if not first.endswith(b"\n"):  # a power cut came before the first record
                return place, 0
            earlier: dict[str, Any] = {}
            with suppress(ValueError, TypeError):
                earlier = dict(json.loads(first))
            now = json.loads(job)
            if other := [key for key in now if key not in earlier or earlier[key] != now[key]]:
                named = "checkpoint" if "checkpoint" in other else ", ".join(other)
                _refuse(f"{part} was written with another {named}")
            end = len(first)
            for line in lines:
                found = _parse(line)
                piece = content.read(max(found.end - place.end, 0))
                if found[1:3] != place.after(piece)[1:3] or found.records != place.records + 1:
                    break
                place, end = found, end + len(line)
    except OSError as error:
        raise InputError(f"{part} cannot be read: {error.strerror}") from None
    return place, end if place.records else 0


def _parse(line: bytes) -> Place:
    """Read a line of the log; one that is not complete is no place of any record."""
    with suppress(ValueError, TypeError):
        *numbers, paths = line.decode("ascii").split(" ")
        if paths.endswith("\n"):
            return Place._make([*map(int, numbers), paths[:-1]])
    return Place()
