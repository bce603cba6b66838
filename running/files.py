"""Files: written whole or not at all, by one process at a time."""

import glob
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from running.errors import InputError, RunError

LARGEST_TEXT = 20_000_000  # bytes; a million names fit


def is_special(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a pipe, a device or a socket, from which reading may never end."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def require_small_file(path: str | os.PathLike[str], what: str) -> None:
    """Raise InputError for what would be read without end, or take all memory."""
    if is_special(path) or (os.path.exists(path) and os.path.getsize(path) > LARGEST_TEXT):
        raise InputError(f"{what} {path} is too large, or not a file")


def is_same_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to one file, by links of any kind."""
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them does not exist
        return False


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file whose content appears at `path` whole, or not at all.

    It is written beside `path`, synced to the disk and renamed when the block ends. Where `path` is
    a link, the file that it leads to is replaced. Raises RunError if the disk is full or not
    writable.
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
    """Rename a whole file so that its content and its name outlive a power cut."""
    with open(temporary, "r+b") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    # Windows opens no folders, and network drives and FUSE may not sync them: the file is there.
    with suppress(OSError):
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def reserve(file: BinaryIO, size: int) -> None:
    """Give an open file a size, and its room on the disk where the system can; or raise OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:  # macOS and Windows
        file.truncate(size)


def _lock(file: IO[str]) -> bool:
    """Lock a file; return whether that is possible; raise BlockingIOError if another has it."""
    try:
        import fcntl
    except ImportError:
        return _lock_on_windows(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _lock_on_windows(file: IO[str]) -> bool:
    try:
        import msvcrt
    except ImportError:
        return False
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
    except OSError as error:
        raise BlockingIOError(*error.args) from None
    return True


@contextmanager
def hold_lock(lock: Path, busy: str, files: Iterable[Path]) -> Iterator[None]:
    """Keep other processes out of the block, in which `files` are written.

    What killed processes left of these files is removed. The lock of a killed process ends with it.
    Some network file systems have no locks: there nobody is kept out, and nothing is removed.
    Raises InputError with the message `busy`, RunError if the lock cannot be written.
    """
    try:
        file = open(lock, "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise RunError(f"{lock} cannot be written: {error.strerror}") from error
    with file:
        try:
            is_held = _lock(file)
        except BlockingIOError:
            raise InputError(busy) from None
        if is_held and os.fstat(file.fileno()).st_nlink == 0:  # its last holder has just removed it
            raise InputError(busy)
        try:
            # The last one is of `prepare_folder`.
            for path in (*files, lock.with_name("write_test")) if is_held else ():
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
    busy = f"another train.py is at work in {folder}; wait for its end, or give another folder"
    return hold_lock(Path(folder, ".train.lock"), busy, [Path(folder, name) for name in files])


@contextmanager
def take_turns(path: str | os.PathLike[str]) -> Iterator[None]:
    """Run the block in one process at a time; `path` is the lock, which is not removed."""
    with open(path, "w") as file:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare_folder(folder: str | os.PathLike[str], files: Iterable[str]) -> None:
    """Make a folder where there is none; raise InputError if these files cannot be written."""
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
        if os.path.exists(path) and not os.path.isfile(path):
            what = "a folder" if os.path.isdir(path) else "a pipe or a device"
            raise InputError(f"{path} is {what}, where a file would be written")


def find_target(path: str | os.PathLike[str], reads: Iterable[str | os.PathLike[str]] = ()) -> Path:
    """Follow links to where a file of the user's is to be written.

    Raises InputError if it cannot be written there, or it is among what the command `reads`.
    """
    # /dev/stdout may lead to a file that the shell appends to.
    names = [os.path.abspath(path), os.readlink(path) if os.path.islink(path) else ""]
    is_stream = any(name.startswith(("/dev/fd/", "/dev/std", "/proc/")) for name in names)
    if is_special(path) or is_stream:
        raise InputError(f"{path} is a pipe or a device, where a file would be written")
    target = Path(os.path.realpath(path) if os.path.islink(path) else path)
    if os.path.islink(target):
        raise InputError(f"{path} is a link that leads back to itself")
    if any(is_same_file(target, other) for other in reads):
        raise InputError(f"{path} is what this command reads; give another name to write to")
    prepare_folder(target.parent, [target.name])
    return target


@contextmanager
def write_alone(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file whose path the user gave, as `atomic_write` does.

    Raises InputError if it cannot be written there, or another process is writing it, RunError if
    the disk is full.
    """
    target = find_target(path)
    with hold_target(target, path), atomic_write(target) as file:
        yield file


def hold_target(target: Path, name: str | os.PathLike[str]) -> AbstractContextManager[None]:
    """Keep other processes from writing a file or folder, which errors call `name`."""
    busy = f"another predict.py is writing {name}; wait for its end, or give another name"
    return hold_lock(target.with_name(f".{target.name}.lock"), busy, [target])
