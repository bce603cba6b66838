"""Files: whole or not there, one run a folder, earlier ones kept."""

import glob
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from running.errors import InputError, RunError


def is_special(path: str | os.PathLike[str]) -> bool:
    """Tell pipes, devices and sockets, which could keep a reader waiting for ever."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file whose content appears at `path` whole, or not at all.

    It is written beside its place, synced to the disk and renamed when the block ends.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """See that a new name in a folder outlives a power cut."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def lock_folder(folder: str | os.PathLike[str], files: Iterable[str]) -> Iterator[None]:
    """Keep other runs out of a folder during the block, and clear what killed ones left there.

    A run that is killed lets go of it. Where there are no such locks, on Windows and on some
    network file systems, nobody is kept out.

    Args:
        folder: it exists.
        files: names of what a run writes; half-written ones are removed.

    Raises:
        InputError: another run is at work there.
    """
    path = Path(folder, ".train.lock")
    with open(path, "w") as file:
        busy = InputError(
            f"another train.py is at work in {folder}; wait for its end, or give another folder"
        )
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:  # its last holder has just removed it
                raise busy
        except BlockingIOError:
            raise busy from None
        except (ImportError, OSError):
            pass
        try:
            for name in files:
                for half in Path(folder).glob(f".{glob.escape(name)}.*.tmp"):
                    half.unlink(missing_ok=True)
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def take_turns(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let one process at a time go through the block; the others wait for it.

    A process that is killed lets go. Where there are no such locks, see `lock_folder`,
    nobody waits.

    Args:
        path: of an empty file, which stays there.
    """
    with open(path, "w") as file:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def keep_previous(path: str | os.PathLike[str]) -> Path | None:
    """Copy an earlier run's x.pth to x.previous.pth; return the copy, if there was one.

    Raises:
        RunError: the copy cannot be written.
    """
    path = Path(path)
    if not path.exists():
        return None
    previous = path.with_name(f"{path.stem}.previous{path.suffix}")
    with atomic_write(previous) as file, open(path, "rb") as original:
        shutil.copyfileobj(original, file)
    return previous


def prepare_folder(folder: str | os.PathLike[str], files: Iterable[str]) -> None:
    """Make a folder where there is none, and see that these files can be written in it.

    Raises:
        InputError: they cannot.
    """
    folder = Path(folder)
    probe = folder / f".write_test.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be written to: {error.strerror}") from None
    for name in files:
        if (folder / name).is_dir():
            raise InputError(f"{folder / name} is a folder, where a file would be written")
