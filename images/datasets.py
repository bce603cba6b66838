"""Known data sets: downloaded, unpacked and divided into a folder, all or nothing."""

import io
import os
import shutil
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from images.folders import assign_splits, find_photographs, new_folder
from running.console import Progress, no_progress
from running.download import fetch
from running.errors import InputError, RunError
from running.files import lock_folder, prepare_folder


class KnownDataSet(NamedTuple):
    """A published archive; `read` yields from it paths in the data folder, and files' contents."""

    url: str
    checksum: str  # the publisher's
    photographs: int
    read: Callable[[tarfile.TarFile], Iterator[tuple[str, bytes]]]


# The category of each of Oxford's photographs, from imagelabels.mat: the first photograph of
# each run of one category (from 1 on), and that category; 8190 is the end.
_RUNS = """
    1:77 252:73 446:88 598:89 781:81 947:46 1143:74 1314:51 1491:44 1584:82 1696:83 1827:78 1964:80
    2069:75 2189:41 2316:43 2446:76 2553:84 2639:58 2753:56 2862:86 2920:60 3029:92 3095:11 3182:65
    3284:8 3369:23 3460:30 3545:72 3641:53 3734:37 3828:17 3913:51 3994:12 4081:29 4159:52 4244:18
    4326:36 4401:90 4481:71 4558:40 4625:48 4696:55 4767:85 4829:91 4897:20 4953:47 5020:59 5087:2
    5147:5 5212:28 5278:70 5340:22 5399:54 5460:87 5523:66 5584:32 5629:4 5685:42 5744:13 5793:38
    5849:63 5903:68 5957:69 6011:93 6049:14 6097:64 6149:19 6198:49 6247:61 6297:50 6346:15 6395:9
    6441:33 6487:26 6528:50 6571:25 6612:3 6652:16 6693:79 6734:1 6774:21 6814:24 6850:27 6890:31
    6929:34 6969:35 7007:39 7046:67 7086:10 7123:45 7162:6 7200:7 7234:57 7268:62 7284:89 7285:37
    7299:90 7301:85 7302:93 7304:94 7466:95 7594:96 7685:97 7751:98 7833:99 7893:100 7942:101
    8000:102 8048:24 8054:91 8062:99 8065:31 8078:67 8080:39 8082:88 8084:35 8089:71 8090:10 8098:45
    8099:7 8105:6 8112:93 8118:57 8151:62 8190:0
"""
FLOWER_RUNS = [tuple(map(int, run.split(":"))) for run in _RUNS.split()]

# In the order of the labels, from 0 on (batches.meta.txt).
CIFAR10_CATEGORIES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def download(name: str, data_dir: str | Path, progress: Progress = no_progress) -> None:
    """Put a known data set into a folder without photographs, as train, valid and test.

    Its archive is downloaded unless it is in the folder, and stays there. After an interruption the
    same call continues; train appears last. Raises InputError, or RunError if the disk is full.
    """
    known, data_dir = KNOWN_DATA_SETS[name], Path(data_dir)
    archive, unpacked = data_dir / Path(known.url).name, data_dir / f".{name}.unpacked"
    prepare_folder(data_dir, [])
    with lock_folder(data_dir, [unpacked.name]):
        try:
            if not (unpacked / "train").exists():  # else it was killed while these were moved
                if find_photographs(data_dir, []):
                    reason = "has photographs, but no folder train; give a folder of its own"
                    raise InputError(f"{data_dir} {reason}")
                fetch(known.url, archive, known.checksum, progress)
                shutil.rmtree(unpacked, ignore_errors=True)
                with new_folder(unpacked) as new:
                    _unpack(known, archive, new, progress)
            for split in ("test", "valid", "train"):
                if (unpacked / split).exists():
                    os.replace(unpacked / split, data_dir / split)
            unpacked.rmdir()
        except OSError as error:
            reason = f"{error.strerror or error}; with room there, the same command continues"
            raise RunError(f"{name} cannot be written into {data_dir}: {reason}") from error


def _unpack(known: KnownDataSet, archive: Path, folder: Path, progress: Progress) -> None:
    try:
        with tarfile.open(archive, "r|gz") as tar:
            photographs = ([each] for each in known.read(tar))
            for [(path, content)] in progress(photographs, known.photographs, "unpacking"):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
    except tarfile.TarError as error:
        raise InputError(f"{archive} cannot be unpacked: {error}") from error
    if hasattr(os, "sync"):  # after a power cut no file of a whole folder may be empty
        os.sync()


def _read_members(tar: tarfile.TarFile, wanted: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the wanted files of an archive; names never become paths."""
    missing = set(wanted)
    for member in tar:
        name = member.name.removeprefix("./")
        file = tar.extractfile(member) if member.isfile() and name in missing else None
        if file:
            missing.remove(name)
            yield name, file.read()
    if missing:
        raise InputError(f"{tar.name!s} lacks {len(missing)} files, among them {min(missing)}")


def _read_flowers(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """Read Oxford's photographs: a tenth of each category is valid, a tenth test."""
    by_category = defaultdict[str, list[str]](list)
    for (first, category), (end, _) in pairwise(FLOWER_RUNS):
        by_category[str(category)] += [f"image_{number:05}.jpg" for number in range(first, end)]
    paths = assign_splits(by_category, ["valid", "test"], "train")
    for name, content in _read_members(tar, [f"jpg/{file}" for file in paths]):
        yield paths[name.removeprefix("jpg/")], content


def _read_cifar10(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """Read CIFAR-10's pictures as PNG: a tenth of each category of its training split is valid.

    Its files are records of a label and 32 x 32 pixels, first all red ones, then green and blue,
    row by row (https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version").
    """
    train = [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)]
    test = ["cifar-10-batches-bin/test_batch.bin"]
    members = dict(_read_members(tar, train + test))
    for split, names, tenths in (("train", train, ["valid"]), ("test", test, [])):
        records = np.frombuffer(b"".join(members[name] for name in names), np.uint8)
        labels, pixels = np.split(records.reshape(-1, 1 + 3 * 32 * 32), [1], axis=1)
        files = [f"{split}_{number:05}.png" for number in range(1, len(labels) + 1)]
        by_category = defaultdict[str, list[str]](list)
        for file, label in zip(files, labels[:, 0]):
            by_category[CIFAR10_CATEGORIES[label]].append(file)
        paths = assign_splits(by_category, tenths, split)
        for file, image in zip(files, pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG")
            yield paths[file], png.getvalue()


# Nilsback & Zisserman 2008, and Krizhevsky 2009.
OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz"
CIFAR10 = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
KNOWN_DATA_SETS = {
    "flowers": KnownDataSet(OXFORD, "md5:52808999861908f626f3c1f4e79d11fa", 8189, _read_flowers),
    "cifar10": KnownDataSet(CIFAR10, "md5:c32a1d4ab5d03f1284b67883e8d87530", 60_000, _read_cifar10),
}
