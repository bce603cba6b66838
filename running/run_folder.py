"""The folder of a training run: its files, and who may write them."""

import filecmp
import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from running.errors import InputError, RunError
from running.files import atomic_write, lock_folder, prepare_folder

P = ParamSpec("P")

DEMO_FOLDER = "drawn_flowers"  # where --demo draws its data set

# What --plot draws into the folder.
PICTURES = ("curves.png", "confusion.png", "mistakes.png")


def previous(path: Path) -> Path:
    """Say where the file of an earlier run is when a later one has set it aside."""
    return path.with_stem(f"{path.stem}.previous")


class RunFolder:
    """The files of a run; of several processes under torchrun the primary one writes them.

    A run sets the files of the run before it aside, as x.previous: in an update, of the run that
    it goes on from. Wherever it is killed, what is there tells how far it has come:

    1. last.pth is the earlier run's: nothing has been moved yet. A checkpoint.previous.pth may
       be a copy already.
    2. No last.pth, and both checkpoints are equal: the earlier run is aside. Its other files may
       still have to be moved.
    3. No last.pth, and neither history nor report: the earlier run is aside, and checkpoint.pth is
       the first one of the later run.
    4. last.pth is that of an update which has epochs before it: --resume goes on with it, and
       --update starts over from what is aside.
    5. The same behind its last epoch, without a report: that is all there is to do.
    6. With its report: the update has ended. What is aside is what it was compared with.

    Where last.pth is missing otherwise, somebody has removed it: what is aside is of a run before
    the one whose checkpoint is here, and no update may start from there.
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
        self.pictures = [self.path / name for name in PICTURES]

    def require_run(self, flag: str) -> None:
        """See that there is a run that a flag can go on from.

        Raises:
            InputError: there is none.
        """
        if not self.resume_file.exists() and not (flag == "--update" and self.is_set_aside):
            continues = "continues" if flag == "--resume" else "goes on"
            raise InputError(f"{flag} {continues} from {self.resume_file}, which does not exist")

    @property
    def has_report(self) -> bool:
        """Whether the run has ended; its user may have removed one of the two files."""
        return self.report.exists() or self.page.exists()

    @property
    def is_set_aside(self) -> bool:
        """Whether the earlier run is aside, and the later one broke off before its last.pth."""
        here, aside = self.checkpoint, previous(self.checkpoint)
        if self.resume_file.exists() or not previous(self.resume_file).exists():
            return False
        if not (here.exists() and aside.exists()):
            return aside.exists()
        later = not (self.history.exists() or self.has_report)
        return later or filecmp.cmp(here, aside, shallow=False)

    def prepare(self) -> None:
        """Make the folder where there is none, and see that the files can be written.

        Raises:
            InputError: they cannot.
        """
        if self.writes:
            prepare_folder(self.path, self._names)

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs out during the block.

        Raises:
            InputError: another run is at work there.
        """
        if not self.writes:
            return nullcontext()
        return lock_folder(self.path, [*self._names, DEMO_FOLDER])

    @property
    def _names(self) -> list[str]:
        files = (*self.files, *self.pictures, self.data_report, self.data_page, self.features)
        return [file.name for file in files]

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

    def back_up_data_report(self) -> None:
        """Set an earlier data_report.csv aside: its user may have written into it.

        Raises:
            RunError: the folder cannot be written to.
        """
        aside = previous(self.data_report)
        try:
            if self.data_report.exists():
                os.replace(self.data_report, aside)
        except OSError as error:
            raise RunError(f"{aside} cannot be written: {error.strerror or error}") from error

    def back_up(self, is_broken_off: bool = False) -> Path | None:
        """Set the files of an earlier run aside before this one replaces them: x.previous.pth.

        They are kept together: what an even earlier run has there goes, also where the earlier
        one has no such file. What is aside already stays, where the run behind it has broken off
        (`is_broken_off` tells it where there is a last.pth): the files of that one go. The order
        is one in which nothing is lost, wherever it ends.

        Returns:
            The first file that was set aside, if there is any.

        Raises:
            RunError: a file cannot be written.
        """
        if not self.writes:
            return None
        others = [self.history, self.report, self.page, *self.pictures]
        there = [path for path in (self.checkpoint, self.resume_file, *others) if path.exists()]
        path = self.checkpoint
        try:
            if is_broken_off:
                for path in (*others, self.resume_file):
                    path.unlink(missing_ok=True)
                return None
            is_set_aside = self.is_set_aside
            if self.checkpoint in there and not is_set_aside:
                for path in (self.resume_file, *others):
                    if path not in there:
                        previous(path).unlink(missing_ok=True)
                path = self.checkpoint  # copied, so that there is one at any time
                with atomic_write(previous(path)) as file, open(path, "rb") as original:
                    shutil.copyfileobj(original, file)
            for path in (self.resume_file, *others):
                if path in there:
                    os.replace(path, previous(path))
        except OSError as error:
            raise RunError(
                f"{previous(path)} cannot be written: {error.strerror or error}"
            ) from error
        return previous(there[0]) if there and not is_set_aside else None

    def write_checkpoint(
        self, function: Callable[Concatenate[Path, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call a function that writes the checkpoint; what was said of an earlier one goes."""
        if self.writes:
            function(self.checkpoint, *args, **kwargs)
            for path in (self.report, self.page, *self.pictures):
                path.unlink(missing_ok=True)
