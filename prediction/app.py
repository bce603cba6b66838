"""A folder that names flowers on a phone: a static page, the network and what computes it.

The page's own files lie in prediction/web/. What computes the network in a browser is ONNX Runtime
Web, of which two files are taken out of its package on npm.
"""

import base64
import hashlib
import json
import math
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from formats.schema import KEEP, NetworkInfo
from prediction.answers import PROMISES, AnswerPolicy, Answers
from running.console import Progress, no_progress
from running.download import Checksum, Remote, fetch, verify
from running.errors import InputError, RunError
from running.files import hold_lock, prepare_folder, take_turns

FORMAT, FORMAT_VERSION = "name-that-flower app", 1  # what flowers.json begins with

SOURCES = Path(__file__).parent / "web"
NETWORK, KNOWN = "flowers.onnx", "flowers.json"
PAGE, SERVICE_WORKER = "index.html", "sw.js"

# ONNX Runtime Web (MIT licence), as npm has it: https://www.npmjs.com/package/onnxruntime-web.
REGISTRY, REGISTRY_VARIABLE = "https://registry.npmjs.org", "npm_config_registry"
VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
PACKAGE_SIZE = 33_106_585
# npm's "integrity" of the package.
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="

# What a browser needs of it, under names that every server knows the types of. It computes on the
# processor, which all browsers have, in one thread or several.
RUNTIME = {
    "package/dist/ort.wasm.bundle.min.mjs": "onnxruntime.js",
    "package/dist/ort-wasm-simd-threaded.wasm": "onnxruntime.wasm",
}


def default_rules(info: NetworkInfo) -> AnswerPolicy:
    """Say what an app answers where nobody asked for anything else.

    What looks like nothing the network learned is unknown; and the highest of some promises is
    kept, where one can be.
    """
    rules = AnswerPolicy(keep=KEEP)
    for promise in PROMISES:
        try:
            Answers(info, info.names, rules._replace(promise=promise))
        except InputError:
            continue
        return rules._replace(promise=promise)
    return rules


def write_app(
    folder: str | os.PathLike[str],
    network: bytes,
    answers: Answers,
    progress: Progress = no_progress,
) -> None:
    """Write a folder that any web server can serve. It appears whole, or not at all.

    Args:
        folder: a new one, an empty one, or an earlier app, which is replaced.
        network: the content of an exported network, see `network.export.to_onnx`.
        answers: what is answered; its rules may be `keep` and `promise`.
        progress: of the download, where there is one.

    Raises:
        InputError: the folder holds something else, or the runtime cannot be downloaded.
        RunError: the disk is full, or the folder cannot be written to.
    """
    target = find_app(folder)
    files = {path.name: path.read_bytes() for path in sorted(SOURCES.iterdir()) if path.is_file()}
    files |= find_runtime(progress)
    files[NETWORK] = network
    known = {**_describe(answers), "files": [*files, KNOWN]}
    files[KNOWN] = (json.dumps(known, indent=1) + "\n").encode()
    files[SERVICE_WORKER] = _list_files(files) + files[SERVICE_WORKER]
    busy = f"another predict.py is writing {folder}; wait for its end, or give another name"
    new, old = (target.with_name(f".{target.name}.{what}.tmp") for what in ("new", "old"))
    with hold_lock(target.with_name(f".{target.name}.lock"), busy, [target]):
        try:
            _fill(new, files)
            _replace(target, new, old)
        except OSError as error:
            raise RunError(f"{folder} cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)


def find_app(folder: str | os.PathLike[str]) -> Path:
    """See that an app can be written to a folder, and say where that is: links are followed.

    Raises:
        InputError: it cannot.
    """
    target = Path(os.path.realpath(folder))
    if target.exists() and not target.is_dir():
        raise InputError(f"{folder} is a file, where a folder would be written")
    try:
        foreign = sorted({*os.listdir(target)} - _files_of_app(target)) if target.exists() else []
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    if foreign:
        raise InputError(
            f"{folder} holds {foreign[0]}, which is of no app of predict.py; give a new folder, an "
            "empty one, or an earlier app, which is replaced"
        )
    prepare_folder(target.parent, [])
    return target


def _files_of_app(folder: Path) -> set[str]:
    """Name the files that `write_app` wrote into a folder, whichever version; none elsewhere."""
    try:
        known = json.loads((folder / KNOWN).read_bytes())
        return set(known["files"]) if known["format"] == FORMAT else set()
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return set()


def _describe(answers: Answers) -> dict[str, Any]:
    """Say in plain data what the page has to know beside the network."""
    info, rules = answers.info, answers.rules
    if rules.sets or rules.groups or rules.only is not None:
        raise ValueError("the page knows no such rules")
    promise = None
    if answers.limit:
        promise = {
            "promise": rules.promise,
            "lowest": answers.limit.lowest,
            "least": answers.least,
        }
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "names": answers.names,
        "categories": info.categories,
        "preprocessing": {
            key: getattr(info.preprocessing, key) for key in ("resize", "crop", "interpolation")
        },
        "lowest": answers.lowest if math.isfinite(answers.lowest) else None,
        "promise": promise,
    }


def _list_files(files: Mapping[str, bytes]) -> bytes:
    """Write the first lines of the service worker: the digests of the app's files, and of all.

    Browsers look whether this file has changed. If it has, it loads what it lists.
    """
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    whole = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    kept = {"./": digests[PAGE], **digests}
    del kept[SERVICE_WORKER]
    return f'const DIGEST = "{whole}";\nconst FILES = {json.dumps(kept, indent=1)};\n\n'.encode()


def _fill(new: Path, files: Mapping[str, bytes]) -> None:
    new.mkdir()
    for name, content in files.items():
        (new / name).write_bytes(content)


def _replace(target: Path, new: Path, old: Path) -> None:
    """Put a folder into the place of another one, or of none."""
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


# --- The runtime ----------------------------------------------------------------------


def find_runtime(progress: Progress = no_progress) -> dict[str, bytes]:
    """Take what a browser computes with out of its package, which is downloaded once.

    Raises:
        InputError: the package is not there and cannot be downloaded, or is damaged.
        RunError: the disk is full.
    """
    registry = os.environ.get(REGISTRY_VARIABLE) or REGISTRY
    url = f"{registry.rstrip('/')}/onnxruntime-web/-/{PACKAGE}"
    remote = Remote(url, Checksum("sha512", base64.b64decode(SHA512).hex()), PACKAGE_SIZE)
    path = package_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with take_turns(path.with_name(f".{path.name}.lock")):
            if path.exists():
                verify(path, remote)
            else:
                fetch(remote, path, progress)
        return _unpack(path, RUNTIME)
    except InputError as error:
        raise InputError(f"the app computes with ONNX Runtime Web: {error}") from error
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error


def package_path() -> Path:
    """Say where the package is kept: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "name-that-flower", PACKAGE)


def _unpack(path: Path, wanted: Mapping[str, str]) -> dict[str, bytes]:
    """Read some files of a package of known checksum, each under its new name."""
    found = {}
    with tarfile.open(path, "r|gz") as package:
        for member in package:
            file = package.extractfile(member) if member.name in wanted else None
            if file:
                found[wanted[member.name]] = file.read()
            if len(found) == len(wanted):
                break
    return found
