"""The app: a folder with a static page, the network, and ONNX Runtime Web to compute it.

The page's own files are in prediction/web/. The runtime is two files of its package on npm.
"""

import base64
import gzip
import hashlib
import json
import math
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from formats.schema import KEEP, NetworkInfo
from prediction.answers import PROMISES, Answers
from running.console import Progress, no_progress
from running.download import fetch
from running.errors import InputError, RunError
from running.files import hold_target, prepare_folder, take_turns

FORMAT, FORMAT_VERSION = "name-that-flower app", 1  # of flowers.json

SOURCES = Path(__file__).parent / "web"
NETWORK, KNOWN = "flowers.onnx", "flowers.json"
PAGE, SERVICE_WORKER = "index.html", "sw.js"

# ONNX Runtime Web (MIT licence), as npm has it: https://www.npmjs.com/package/onnxruntime-web.
REGISTRY, REGISTRY_VARIABLE = "https://registry.npmjs.org", "npm_config_registry"
VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
# npm's "integrity" of the package.
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="

# Its files for the processor, which all browsers have, in one thread or several; renamed so that
# every server knows their types.
PACKED = "onnxruntime.bin"  # by gzip; browsers unpack it, as few servers compress such files
RUNTIME = {
    "package/dist/ort.wasm.bundle.min.mjs": "onnxruntime.js",
    "package/dist/ort-wasm-simd-threaded.wasm": PACKED,
}


def default_answers(info: NetworkInfo, names: list[str]) -> Answers:
    """Return the answers of an app where no flag asks for others.

    Photographs that look like nothing in the training data are unknown, and the highest of
    `PROMISES` that can be kept is kept.
    """
    for promise in PROMISES:
        with suppress(InputError):
            return Answers(info, names, keep=KEEP, promise=promise)
    return Answers(info, names, keep=KEEP)


def write_app(
    folder: str | os.PathLike[str],
    network: bytes,
    answers: Answers,
    progress: Progress = no_progress,
    pictures: Sequence[Sequence[bytes]] = (),
) -> None:
    """Write a folder that any web server can serve; it appears whole, or not at all.

    `network` is the content of an exported file; the answers have neither `only` nor `groups`.
    `pictures` are JPEGs of each category, see prediction/looks.py. An
    empty folder or an earlier app is replaced. Raises InputError if the folder holds something
    else, or the runtime cannot be downloaded, RunError if the disk is full.
    """
    target = find_app(folder)
    files = {path.name: path.read_bytes() for path in sorted(SOURCES.iterdir()) if path.is_file()}
    files |= find_runtime(progress)
    files[NETWORK] = network
    shown = [
        {f"picture-{i}-{j}.jpg": content for j, content in enumerate(each)}
        for i, each in enumerate(pictures)
    ]
    for each in shown:
        files |= each
    names = {"pictures": [[*each] for each in shown]} if shown else {}
    known = {**_describe(answers), **names, "files": [*files, KNOWN]}
    files[KNOWN] = (json.dumps(known, indent=1) + "\n").encode()
    files[SERVICE_WORKER] = _list_files(files) + files[SERVICE_WORKER]
    new, old = (target.with_name(f".{target.name}.{what}.tmp") for what in ("new", "old"))
    with hold_target(target, folder):
        try:
            new.mkdir()
            for name, content in files.items():
                (new / name).write_bytes(content)
            if os.path.exists(target):
                os.rename(target, old)
            os.rename(new, target)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            if os.path.exists(old) and not os.path.exists(target):
                os.rename(old, target)
            raise RunError(f"{folder} cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)


def find_app(folder: str | os.PathLike[str]) -> Path:
    """Return a folder's path without links; it may hold nothing but an earlier app."""
    target = Path(os.path.realpath(folder))
    if os.path.exists(target) and not target.is_dir():
        raise InputError(f"{folder} is a file, where a folder would be written")
    files: set[str] = set()  # that any version of `write_app` wrote
    with suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
        known = json.loads((target / KNOWN).read_bytes())
        files = {*known["files"]} if known["format"] == FORMAT else files
    try:
        others = sorted({*os.listdir(target)} - files) if os.path.exists(target) else []
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    if others:
        raise InputError(
            f"{folder} holds {others[0]}, which is not part of an app of predict.py; give a new "
            "folder, an empty one, or an earlier app, which is replaced"
        )
    prepare_folder(target.parent, [])
    return target


def _describe(answers: Answers) -> dict[str, Any]:
    """Describe as plain data how the page prepares photographs and answers them."""
    info, limits = answers.info, {"lowest": answers.threshold, "least": answers.least}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "names": answers.names,
        "categories": info.categories,
        "preprocessing": {
            key: getattr(info.preprocessing, key) for key in ("resize", "crop", "interpolation")
        },
        "lowest": answers.lowest if math.isfinite(answers.lowest) else None,
        "promise": {"promise": answers.promise, **limits} if answers.promise else None,
    }


def _list_files(files: Mapping[str, bytes]) -> bytes:
    """Return the service worker's first lines: a digest of all files, and one of each."""
    # When they have changed, browsers load the files again.
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    whole = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    kept = {"./": digests[PAGE], **digests}
    del kept[SERVICE_WORKER]
    return f'const DIGEST = "{whole}";\nconst FILES = {json.dumps(kept, indent=1)};\n\n'.encode()


def find_runtime(progress: Progress = no_progress) -> dict[str, bytes]:
    """Return the files of `RUNTIME` by their new names; the package is downloaded once."""
    registry = os.environ.get(REGISTRY_VARIABLE) or REGISTRY
    url = f"{registry.rstrip('/')}/onnxruntime-web/-/{PACKAGE}"
    path = package_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with take_turns(path.with_name(f".{path.name}.lock")):
            fetch(url, path, f"sha512:{base64.b64decode(SHA512).hex()}", progress)
        with tarfile.open(path) as package:
            files = {
                new: cast(IO[bytes], package.extractfile(name)).read()
                for name, new in RUNTIME.items()
            }
            return {**files, PACKED: gzip.compress(files[PACKED], mtime=0)}
    except InputError as error:
        raise InputError(f"the app computes with ONNX Runtime Web: {error}") from error
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error


def package_path() -> Path:
    """Return where the package is kept: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(_home(), ".cache")
    return Path(cache, "name-that-flower", PACKAGE)


def _home() -> str:
    home = os.path.expanduser("~")
    return tempfile.gettempdir() if home == "~" else home  # as of users of a container
