"""Known data sets: downloaded, unpacked and divided into a folder, all or nothing."""

import os
import shutil
import tarfile
from pathlib import Path

from images.datasets import KNOWN_DATA_SETS, KnownDataSet
from images.splits import find_splits
from running.console import Progress, no_progress
from running.download import fetch, verify
from running.errors import InputError, RunError
from running.files import lock_folder, prepare_folder


def download(name: str, data_dir: str | os.PathLike[str], progress: Progress = no_progress) -> None:
    """Put a known data set into a folder without photographs, as train, valid and test.

    Its archive is downloaded where it does not lie in the folder, and stays there. Whatever
    interrupts this, the same call goes on behind what has been downloaded; train appears last,
    when all is there.

    Args:
        name: of `KNOWN_DATA_SETS`.
        data_dir: is made where it does not exist.
        progress: is shown bytes, and then photographs.

    Raises:
        InputError: the folder cannot be used, the archive cannot be downloaded or is another
            one.
        RunError: the disk is full.
    """
    known, data_dir = KNOWN_DATA_SETS[name], Path(data_dir)
    archive, unpacked = data_dir / known.archive, data_dir / f".{name}.unpacked"
    prepare_folder(data_dir, [])
    with lock_folder(data_dir, []):
        try:
            if not (unpacked / "train").exists():  # else it was killed while these were moved
                _require_no_photographs(data_dir)
                if os.path.lexists(archive):
                    verify(archive, known.remote)
                else:
                    fetch(known.remote, archive, progress)
                _unpack(known, archive, unpacked, progress)
            for split in ("test", "valid", "train"):
                if (unpacked / split).exists():
                    os.replace(unpacked / split, data_dir / split)
            unpacked.rmdir()
        except OSError as error:
            raise RunError(
                f"{name} cannot be written into {data_dir}: {error.strerror or error}; with room "
                "there, the same command goes on"
            ) from error


def describe_download(name: str, data_dir: str | os.PathLike[str]) -> str:
    """Say what `download` is about to do."""
    known = KNOWN_DATA_SETS[name]
    place = f"{known.archive} if it lies there, else from {known.url}"
    return f"putting {name} into {data_dir}, from {place}"


def _require_no_photographs(data_dir: Path) -> None:
    found, _ = find_splits(data_dir, ())
    if any(any(by_category.values()) for by_category in found.values()):
        raise InputError(
            f"{data_dir} has photographs, but no folder train; a data set is downloaded into a "
            "folder of its own"
        )


def _unpack(known: KnownDataSet, archive: Path, unpacked: Path, progress: Progress) -> None:
    """Write the photographs of a verified archive into a folder that appears when it is whole."""
    half = unpacked.with_suffix(".half")
    for leftover in (half, unpacked):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with tarfile.open(archive, "r|gz") as tar:
            batches = known.read(tar, known.photographs)
            for batch in progress(batches, known.photographs, "unpacking"):
                for path, content in batch:
                    place = half / path
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content)
        if hasattr(os, "sync"):  # a folder that outlives a power cut shall not be of empty files
            os.sync()
        os.replace(half, unpacked)
    except tarfile.TarError as error:
        raise InputError(f"{archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
