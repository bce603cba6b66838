"""Files: whole or not there, one run a folder, earlier ones kept."""

import glob
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from running.errors import InputError, RunError


def is_special(path: str | os.PathLike[str]) -> bool:
    """Tell pipes, devices and sockets, which could keep a reader waiting for ever."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file whose content appears at `path` whole, or not at all.

    It is written beside its place, synced to the disk and renamed when the block ends. What a
    link leads to is replaced, not the link.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        put_in_place(temporary, path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a whole file its name, so that content and name outlive a power cut.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    with open(temporary, "r+b") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if os.name == "posix":
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def hold_lock(lock: Path, busy: str, files: Iterable[Path]) -> Iterator[None]:
    """Keep other processes out of the block, and clear what killed ones left half written.

    A process that is killed lets go. Where there are no such locks, on Windows and on some
    network file systems, nobody is kept out.

    Args:
        lock: a file that is there during the block; its folder exists.
        busy: what is said where another process is in the block.
        files: what is written in the block.

    Raises:
        InputError: another process is in the block.
        RunError: the lock cannot be written.
    """
    try:
        file = open(lock, "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise RunError(f"{lock} cannot be written: {error.strerror}") from error
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:  # its last holder has just removed it
                raise InputError(busy)
        except BlockingIOError:
            raise InputError(busy) from None
        except (ImportError, OSError):
            pass
        try:
            for path in (*files, lock.with_name("write_test")):  # the latter of `prepare_folder`
                for half in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
                    shutil.rmtree(half) if half.is_dir() else half.unlink(missing_ok=True)
            yield
        finally:
            with suppress(PermissionError):  # Windows keeps files that are open
                lock.unlink(missing_ok=True)


def lock_folder(
    folder: str | os.PathLike[str], files: Iterable[str]
) -> AbstractContextManager[None]:
    """Keep other runs, which write these files, out of a folder during the block."""
    return hold_lock(
        Path(folder, ".train.lock"),
        f"another train.py is at work in {folder}; wait for its end, or give another folder",
        [Path(folder, name) for name in files],
    )


@contextmanager
def take_turns(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let one process at a time go through the block; the others wait for it.

    A process that is killed lets go. Where there are no such locks, see `hold_lock`,
    nobody waits.

    Args:
        path: of an empty file, which stays there.
    """
    with open(path, "w") as file:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} cannot be written to: it is not a folder") from None
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be written to: {error.strerror}") from None
    for path in (folder / name for name in files):
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "a pipe or a device"
            raise InputError(f"{path} is {what}, where a file would be written")


def find_target(path: str | os.PathLike[str], reads: Iterable[str | os.PathLike[str]] = ()) -> Path:
    """See that a file can be written at a path, and say where that is: links are followed.

    Args:
        path: as the user named it.
        reads: the files that the same command reads, which may be missing.

    Raises:
        InputError: it cannot, or the command reads it.
    """
    if is_special(path) or _is_descriptor(path):
        raise InputError(f"{path} is a pipe or a device, where a file would be written")
    target = Path(os.path.realpath(path) if os.path.islink(path) else path)
    if target.is_symlink():
        raise InputError(f"{path} is a link that leads back to itself")
    for other in reads:
        if is_same_file(target, other):
            raise InputError(f"{path} is what this command reads; give another name to write to")
    prepare_folder(target.parent, [target.name])
    return target


@contextmanager
def write_alone(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file as `atomic_write` does, where a user wants it and nobody else writes it.

    Raises:
        InputError: it cannot be written there, or another process is at it.
        RunError: the disk is full.
    """
    target = find_target(path)
    busy = f"another predict.py is writing {path}; wait for its end, or give another name"
    with (
        hold_lock(target.with_name(f".{target.name}.lock"), busy, [target]),
        atomic_write(target) as file,
    ):
        yield file


def is_same_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Tell whether two paths lead to one file, by links of any kind."""
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them is not there
        return False


def _is_descriptor(path: str | os.PathLike[str]) -> bool:
    """Tell /dev/stdout and the like, which may lead to the file that output is appended to."""
    step = os.path.abspath(path)
    for _ in range(40):  # as many links as Linux follows
        folder = os.path.realpath(os.path.dirname(step))
        if folder.startswith(("/proc/", "/dev/fd")):
            return True
        if not os.path.islink(step):
            return False
        step = os.path.join(folder, os.readlink(step))
    return False
