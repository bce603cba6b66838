"""The folder of a training run: its files, and who may write them."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from running.errors import RunError
from running.files import atomic_write, lock_folder, prepare_folder

P = ParamSpec("P")

DEMO_FOLDER = "drawn_flowers"  # where --demo draws its data set


def previous(path: Path) -> Path:
    """Return where the backup of an earlier run's file is."""
    return path.with_stem(f"{path.stem}.previous")


class RunFolder:
    """The files of a run; under torchrun, only rank 0 writes them.

    Before a run replaces a file of an earlier run, it backs them all up, as checkpoint.previous.pth
    and so on. The files themselves stay until others are renamed over them, so that last.pth is
    never missing. Where a run is killed between its first checkpoint.pth and its last.pth, these
    are of two runs, and the backups are the pair of the earlier one.
    """

    def __init__(self, folder: str | os.PathLike[str], writes: bool = True):
        self.path, self.writes = Path(folder), writes
        self.checkpoint = self.path / "checkpoint.pth"
        self.history = self.path / "history.csv"
        self.report = self.path / "report.json"
        self.page = self.path / "report.html"
        self.resume_file = self.path / "last.pth"
        self.files = [self.checkpoint, self.history, self.report, self.page, self.resume_file]
        self.features = self.path / "features.bin"  # what an update need not compute again
        self.data_report = self.path / "data_report.csv"
        self.data_page = self.path / "data_report.html"

    @property
    def _names(self) -> list[str]:
        checks = self.data_report, self.data_page
        return [path.name for path in (*self.files, *checks, self.features)]

    @property
    def has_report(self) -> bool:
        """Whether the run has come to its report."""
        return os.path.exists(self.report)

    def prepare(self) -> None:
        """Make the folder where there is none; raise InputError if its files cannot be written."""
        if self.writes:
            prepare_folder(self.path, self._names)

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs out during the block; raise InputError if one is at work there."""
        if not self.writes:
            return nullcontext()
        return lock_folder(self.path, [*self._names, DEMO_FOLDER])

    def write(self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a function that writes a file, on rank 0."""
        if self.writes:
            function(*args, **kwargs)

    def write_checkpoint(
        self, function: Callable[Concatenate[Path, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call a function that writes the checkpoint; the report on the one before goes."""
        if self.writes:
            function(self.checkpoint, *args, **kwargs)
            for path in (self.report, self.page):
                path.unlink(missing_ok=True)

    def write_report(self, report: dict[str, Any]) -> None:
        """Write report.json; raise RunError if that fails."""
        if self.writes:
            with atomic_write(self.report) as file:
                file.write(json.dumps(report, indent=1).encode())

    def back_up(self) -> Path | None:
        """Back up the files of an earlier run; return the first backup, if there is one.

        The backups of an even earlier run go, so that all are of one run. May raise RunError.
        """
        there = [path for path in self.files if os.path.exists(path)]
        if not self.writes or not there:
            return None
        for path in self.files:
            if path in there:
                back_up(path)
            else:
                previous(path).unlink(missing_ok=True)
        return previous(there[0])


def back_up(path: Path) -> None:
    """Make the backup of a file, whole at any time, by a hard link or else a copy."""
    target = previous(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        try:
            os.link(os.path.realpath(path), temporary)
        except OSError:
            shutil.copyfile(path, temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise RunError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # a rename of a link to another link of the same file does nothing
            temporary.unlink()
