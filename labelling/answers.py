"""The names that a person gives to photographs of a heap: labels.csv, and what is made of it."""

import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from formats.table import format_table, read_table, safe_path, safe_text
from images.folders import find_photographs, has_train, new_folder, normalise
from images.links import link
from prediction.sorting import folder_name
from running.errors import InputError
from running.files import atomic_write, is_special

FILE, WHAT = "labels.csv", "a labels.csv of --label"
COLUMNS = ("file", "name", "answer")
UNLABELLED = "unlabelled"  # the folder of a heap beside the folders of categories
SKIPPED = ""  # the name of what a person cannot or will not name


class Heap(NamedTuple):
    """Photographs of which some, or none, are in a folder of their category."""

    folder: Path
    files: list[str]  # relative to the folder, with slashes
    known: dict[str, str]  # the categories of the others, by file

    def path(self, file: str) -> str:
        """Return where a file is."""
        return os.path.join(self.folder, file)


def find_heap(folder: str | Path) -> Heap:
    """Find what is to be labelled in a folder.

    Those are the photographs at its top and in its folder `unlabelled`; the others have the name of
    their folder, in `train` where there is one. Without such photographs all are to be labelled.
    Raises InputError if there are none.
    """
    if not os.path.isdir(folder):
        raise InputError(f"the folder {folder} does not exist, or is a file")
    files = [Path(os.path.relpath(path, folder)).as_posix() for path in find_photographs(folder)]
    top = {file: file.split("/") for file in files}
    free = [f for f, parts in top.items() if len(parts) == 1 or parts[0].lower() == UNLABELLED]
    others = {f: parts for f, parts in top.items() if f not in {*free}}
    if has_train(folder):
        train = {f: parts[1:] for f, parts in others.items() if parts[0].lower() == "train"}
        others = {f: parts for f, parts in train.items() if len(parts) > 1}
    elif not free:
        free, others = files, {}
    if not free:
        raise InputError(
            f"{folder} has no photographs to label: put them into its top, or into a folder "
            f"{UNLABELLED} there"
        )
    known = {file: normalise(parts[0]) for file, parts in others.items()}
    return Heap(Path(folder), [*free, *known], known)


class Answers:
    """What a person has said, kept in labels.csv after each answer.

    A row has a photograph, its name, or none if it was skipped, and the number of the answer that
    gave it. A user may edit the table at any time: it is read again where it has changed. Raises
    InputError if it is another file.
    """

    def __init__(self, heap: Heap, path: Path | None = None):
        self.path = path or heap.folder / FILE
        self.rows: dict[str, tuple[str, int]] = {}
        self.stamp: tuple[int, int] | None = None
        self.read()

    def read(self) -> None:
        """Read the table, where it has changed."""
        stamp = self._look()
        if stamp == self.stamp:
            return
        rows: dict[str, tuple[str, int]] = {}
        table = read_table(self.path, COLUMNS[:2], WHAT) if stamp else ()
        for number, row in enumerate(table, 1):
            file = row["file"].removeprefix("./")
            answer = row.get("answer", "").strip()
            name = normalise(row["name"].strip().removeprefix("'"))
            rows[file] = name, int(answer) if answer.isdecimal() else number
        self.rows, self.stamp = rows, stamp  # not before: what cannot be read is not overwritten

    @property
    def count(self) -> int:
        """How many answers were given."""
        return max((answer for _, answer in self.rows.values()), default=0)

    def give(self, files: Iterable[str], name: str, cost: int = 1) -> None:
        """Name photographs, or skip them, in so many answers; write the table."""
        self.read()
        answer = self.count + cost
        self._write(self.rows | dict.fromkeys(files, (name, answer)))

    def take_back(self, files: Collection[str]) -> None:
        """Forget the names of photographs; write the table."""
        self.read()
        self._write({file: row for file, row in self.rows.items() if file not in files})

    def _write(self, rows: dict[str, tuple[str, int]]) -> None:
        table = ((safe_path(file), safe_text(name), n) for file, (name, n) in rows.items())
        with atomic_write(self.path) as file:
            file.write(format_table(COLUMNS, table))
        self.rows, self.stamp = rows, self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


def spell(name: str, known: Collection[str]) -> str:
    """Spell a name as it was spelled before: "Tulip " is "tulip", if that is known."""
    name = " ".join(normalise(name).split())
    spelled = {each.casefold(): each for each in known}
    return spelled.get(name.casefold(), name)


def is_labels(path: str | Path) -> bool:
    """Whether a file is a labels.csv, by its first line."""
    if is_special(path):  # reading a pipe may never end
        return False
    try:
        with open(path, "rb") as file:
            start = file.readline(1000).lower()
    except OSError:
        return False
    return b"file" in start and b"name" in start and b"accept" not in start


def apply_labels(heap: Heap, table: str | Path, target: str | Path) -> str:
    """Make a folder of categories, of links, with all that is named; return a sentence on it.

    Raises InputError if the folder exists already or nothing is named, RunError if it cannot be
    written.
    """
    target, names = Path(target), {**heap.known}
    files = {*heap.files}
    rows = Answers(heap, Path(table)).rows
    if lost := [file for file in rows if file not in files]:
        more = f"{len(lost)} of the {len(rows)} photographs of {table} are not in {heap.folder}"
        raise InputError(f"{more}, such as {lost[0]}")
    names |= {file: name for file, (name, _) in rows.items() if name != SKIPPED}
    if not names:
        raise InputError(f"nothing is named in {table}")
    if os.path.lexists(target):
        raise InputError(f"{target} is there already; --to takes the name of a new folder")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(heap.folder)):
        raise InputError(f"{target} is within {heap.folder}; make it beside that")
    done = Counter[str]()
    with new_folder(target) as new:
        for file, name in names.items():
            source = Path(os.path.realpath(heap.path(file)))
            done[link(source, new / folder_name(name) / Path(file).name)] += 1
    counts = ", ".join(f"{number} photographs {kind}" for kind, number in done.items())
    return f"{target}: {len({*names.values()})} categories, {counts}"
