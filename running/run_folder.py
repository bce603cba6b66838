"""The folder of a training run: its files, and who may write them."""

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, ParamSpec

from running.files import atomic_write, keep_previous, lock_folder, prepare_folder

P = ParamSpec("P")


# What --plot draws into the folder.
PICTURES = ("curves.png", "confusion.png", "mistakes.png")


class RunFolder:
    """The files of a run; of several processes under torchrun the primary one writes them."""

    def __init__(self, folder: str | os.PathLike[str], writes: bool = True):
        self.path, self.writes = Path(folder), writes
        self.checkpoint = self.path / "checkpoint.pth"
        self.history = self.path / "history.csv"
        self.report = self.path / "report.json"
        self.resume_file = self.path / "last.pth"
        self.files = [self.checkpoint, self.history, self.report, self.resume_file]

    def prepare(self) -> None:
        """Make the folder where there is none, and see that the files can be written.

        Raises:
            InputError: they cannot.
        """
        if self.writes:
            prepare_folder(self.path, [file.name for file in self.files])

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs out during the block.

        Raises:
            InputError: another run is at work there.
        """
        return (
            lock_folder(self.path, [file.name for file in self.files])
            if self.writes
            else nullcontext()
        )

    def write(self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a function that writes a file, in the process that does so."""
        if self.writes:
            function(*args, **kwargs)

    def write_report(self, report: dict[str, Any]) -> None:
        """Write report.json.

        Raises:
            RunError: the disk is full, or the folder cannot be written to.
        """
        if self.writes:
            with atomic_write(self.report) as file:
                file.write(json.dumps(report, indent=1).encode())

    def keep_earlier(self) -> list[Path]:
        """Set an earlier run's files aside before this run replaces them; return the copies.

        Raises:
            RunError: a copy cannot be written.
        """
        if not self.writes:
            return []
        kept = [keep_previous(path) for path in (self.checkpoint, self.history, self.report)]
        # Moved, so that nobody resumes from there with this run's checkpoint.
        with suppress(FileNotFoundError):
            os.replace(self.resume_file, self.resume_file.with_stem("last.previous"))
        return [path for path in kept if path]
