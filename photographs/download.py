"""photographs/download.py"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from photographs.known_data import KNOWN_DATA_SETS, KnownDataSet
from photographs.splits import find_splits
from running.download import _fetch, _require_md5
from running.errors import InputError, RunError
from running.files import lock_folder, prepare_folder


def download(
    name: str,
    data_dir: str | os.PathLike,
    progress: Callable[..., Iterator] = lambda batches, *_: batches,
) -> None:
    """Put a known data set into a folder without photographs, as train, valid and test.

    Its archive is fetched where it does not lie in the folder, and stays there. Whatever
    interrupts this, the same call goes on behind what has been fetched; train appears last,
    when all is there.

    Args:
        name: of `KNOWN_DATA_SETS`.
        data_dir: is made where it does not exist.
        progress: is given batches, the sum of their lengths, a word for them, what their
            lengths count and how much of it was there before; passes the batches on.

    Raises:
        InputError: the folder cannot be used, the archive cannot be had or is another one.
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
                    _require_md5(archive, known)
                else:
                    _fetch(known, archive, progress)
                _unpack(known, archive, unpacked, progress)
            for split in ("test", "valid", "train"):
                if (unpacked / split).exists():
                    os.replace(unpacked / split, data_dir / split)
            unpacked.rmdir()
        except OSError as error:
            raise RunError(
                f"{name} cannot be written into {data_dir}: "
                f"{error.strerror or error}; with room there, the same command goes "
                "on"
            ) from error


def _require_no_photographs(data_dir: Path) -> None:
    found, _ = find_splits(data_dir, ())
    if any(any(by_category.values()) for by_category in found.values()):
        raise InputError(
            f"{data_dir} has photographs, but no folder train; a data set is "
            "downloaded into a folder of its own"
        )


def _unpack(
    known: KnownDataSet, archive: Path, unpacked: Path, progress: Callable[..., Iterator]
) -> None:
    """Write the photographs of a verified archive into a folder that appears when it is whole."""
    import tarfile

    half = unpacked.with_suffix(".half")
    for leftover in (half, unpacked):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for batch in progress(
                known.read(tar, known.photographs), known.photographs, "unpacking"
            ):
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
