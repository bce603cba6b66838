"""Where records go: standard output, or a file that a stopped job can go on with.

Until `names.csv` is whole it is called `names.csv.part`. Beside it, `names.csv.part.log` says what
the records depend on, and on a line for each record where the job stood behind it, with a
checksum. So what a kill, a full disk or a power cut has left can be told from what is whole.
"""

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BufferedIOBase, FileIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from prediction.records import CSV_HEADER, csv_row
from running.errors import InputError, RunError
from running.files import find_target, hold_lock, prepare_folder, put_in_place
from running.threads import is_pause

Item = TypeVar("Item", bound=tuple[Any, ...])
Stream: TypeAlias = FileIO | BufferedIOBase

# Records carry file names as they are, whatever bytes those are of.
ENCODING = "utf-8", "surrogateescape"


class Place(NamedTuple):
    """Where a job stands behind a record."""

    records: int = 0
    end: int = 0  # bytes of the file
    checksum: int = 0  # CRC-32 of these
    failed: int = 0  # records with an error
    num_ood: int = 0  # photographs; see `Answers`
    paths: str = ""  # a digest of all photographs' paths, in their order

    def behind(self, content: bytes) -> "Place":
        """Say where it stands behind some more bytes, which are no record."""
        end, checksum = self.end + len(content), zlib.crc32(content, self.checksum)
        return self._replace(end=end, checksum=checksum)

    @classmethod
    def read(cls, line: bytes) -> "Place":
        """Read a line of a log.

        Raises:
            ValueError: it is none, or not whole.
        """
        *numbers, paths, end = line.decode("ascii").split(" ")
        if end != "\n" or len(numbers) != len(cls._fields) - 1:
            raise ValueError("cut off")
        return cls._make([*map(int, numbers), paths])

    def line(self) -> bytes:
        """Write it as a line of a log."""
        return (" ".join(map(str, self)) + " \n").encode()


class Output:
    """Takes records; `place` says how many there are, those of a stopped job included."""

    def __init__(self, name: str, file: Stream, encoding: tuple[str, str] = ENCODING):
        self.name, self.file, self.encoding = name, file, encoding
        self.place = Place()
        self.log: FileIO | None = None
        self.part: Path | None = None  # what the file is called until it is whole
        self.begun_again = False  # whether records of a stopped job were there

    def write(self, text: str, file: str, failed: bool = False, num_ood: int = 0) -> None:
        """Write and flush the record of a photograph.

        Args:
            text: the record.
            file: the photograph's path.
            failed: whether it is an error.
            unfamiliar: how many photographs of all up to this one are unfamiliar.

        Raises:
            RunError: the disk is full.
        """
        self._write(text)
        self.place = self.place._replace(
            records=self.place.records + 1,
            failed=self.place.failed + failed,
            num_ood=num_ood,
            paths=_chain(self.place.paths, file),
        )
        if self.log:
            self.put(self.log, self.place.line())

    def write_header(self, text: str) -> None:
        """Write what stands before all records, unless a stopped job has done so."""
        if text and not self.place.end:
            self._write(text)

    def _write(self, text: str) -> None:
        content = text.encode(*self.encoding)
        self.put(self.file, content)
        self.place = self.place.behind(content)

    def put(self, file: Stream, content: bytes) -> None:
        """Write and flush bytes.

        Raises:
            RunError: the disk is full.
        """
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[file.write(rest) :]
            file.flush()
        except OSError as error:
            raise RunError(f"{self.name} cannot be written: {error.strerror}") from error

    def skip(self, paths: Iterable[Item]) -> Iterator[Item]:
        """Leave out the photographs that have their records; the path is the first of each item.

        Raises:
            InputError: the records are of other photographs.
        """
        left, expected, digest = self.place.records, self.place.paths, ""
        for item in paths:
            if not left or is_pause(item):
                yield item
                continue
            digest, left = _chain(digest, item[0]), left - 1
            if not left and digest != expected:
                break
        if digest != expected:
            raise InputError(
                f"{self.part} is of other photographs, or of these in another order; name the same "
                "ones, or leave out --continue, and it is begun again",
                can_go_on=False,
            )


def _chain(digest: str, path: str) -> str:
    """Add a path to the digest of those before it."""
    return hashlib.blake2b(digest.encode() + os.fsencode(path), digest_size=12).hexdigest()


@contextmanager
def open_output(
    path: str | None, format_name: str, job: Mapping[str, Any] | None = None, goes_on: bool = False
) -> Iterator[Output]:
    """Open the file for records, or standard output.

    The file appears when the block ends. If it does not end well, what is there of it is kept.

    Args:
        path: of the file; None: standard output.
        format_name: of the records.
        job: what the records depend on beside the photographs, as JSON has it.
        goes_on: whether to go on behind the last record of a stopped job.

    Raises:
        InputError: the file cannot be written there, another process is writing it, or the stopped
            job was another.
        RunError: the disk is full.
    """
    header = csv_row(CSV_HEADER) if format_name == "csv" else ""
    if path is None:
        encoding = ENCODING
        if format_name == "text":  # names that the terminal cannot show
            encoding = sys.stdout.encoding or ENCODING[0], "backslashreplace"
        output = Output("standard output", cast(BufferedIOBase, sys.stdout.buffer), encoding)
        output.write_header(header)
        yield output
        return
    target = find_target(path)
    busy = f"another predict.py is writing {path}; wait for its end, or give another name"
    with hold_lock(target.with_name(f".{target.name}.lock"), busy, [target]):
        with _open_part(target, path, json.dumps(job or {}), goes_on) as output:
            output.write_header(header)
            yield output
        assert output.part and output.log
        try:
            put_in_place(output.part, target)
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror}") from error
        Path(str(output.log.name)).unlink(missing_ok=True)


@contextmanager
def _open_part(target: Path, name: str, job: str, goes_on: bool) -> Iterator[Output]:
    """Open what the target is called until it is whole, and its log.

    Where the block does not end well and there is no record, neither is left.
    """
    part, log = (target.with_name(target.name + end) for end in (".part", ".part.log"))
    prepare_folder(target.parent, [part.name, log.name])
    if part.exists() and not log.exists():
        raise InputError(f"{part} is there, but is not of predict.py; move it away")
    place, start = _find_place(part, log, job) if goes_on and part.exists() else (Place(), 0)
    mode = "r+" if start else "w"
    begun_again = not goes_on and part.exists() and part.stat().st_size > 0
    output = None
    try:
        with ExitStack() as files:
            try:
                lines = files.enter_context(FileIO(log, mode))
                file = files.enter_context(FileIO(part, mode))
                for each, end in ((lines, start), (file, place.end)):
                    each.truncate(end)
                    each.seek(end)
            except OSError as error:
                raise RunError(f"{part} cannot be written: {error.strerror}") from error
            output = Output(name, file)
            output.place, output.log, output.part = place, lines, part
            output.begun_again = begun_again
            if not start:
                output.put(lines, job.encode() + b"\n")
            yield output
    except BaseException:
        if output and not output.place.records:
            part.unlink(missing_ok=True)
            log.unlink(missing_ok=True)
        raise


def _find_place(part: Path, log: Path, job: str) -> tuple[Place, int]:
    """Find the last whole record of a stopped job, and where its line of the log ends.

    Raises:
        InputError: the stopped job was another, or its files cannot be read.
    """
    place = Place()
    try:
        with open(part, "rb") as content, open(log, "rb") as lines:
            first = lines.readline()
            if not first.endswith(b"\n"):  # a power cut has left less than a record
                return place, 0
            _compare(part, first, job)
            end = len(first)
            for line in lines:
                try:
                    found = Place.read(line)
                except ValueError:
                    break
                piece = content.read(max(found.end - place.end, 0))
                if found[1:3] != place.behind(piece)[1:3] or found.records != place.records + 1:
                    break
                place, end = found, end + len(line)
    except OSError as error:
        raise InputError(f"{part} cannot be read: {error.strerror}") from None
    return place, end if place.records else 0


def _compare(part: Path, first: bytes, job: str) -> None:
    """See that the stopped job was this one.

    Raises:
        InputError: it was not.
    """
    try:
        earlier = dict(json.loads(first))
    except (ValueError, TypeError):
        earlier = {}
    now = json.loads(job)
    if other := [key for key in now if key not in earlier or earlier[key] != now[key]]:
        raise InputError(
            f"{part} was written with another {', '.join(other)}; give the same, or leave out "
            "--continue, and it is begun again",
            can_go_on=False,
        )
