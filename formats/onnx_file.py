"""Exported networks: one ONNX file, computed by ONNX Runtime instead of torch.

A file of `predict.py --export` is the network from pixels to probabilities, what a checkpoint
holds beside the weights as metadata, and a checksum as the last entry of these. A file that was
changed since is used as long as it keeps this form, and a warning is printed.
"""

import base64
import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from formats.schema import NetworkInfo, Prediction
from running.environment import require
from running.errors import FlowersError, InputError
from running.files import is_special
from running.signals import delay_signals
from running.threads import default_workers, map_ahead

if TYPE_CHECKING:
    import onnxruntime

K = TypeVar("K")

FORMAT_VERSION = 1

# uint8 (N, crop, crop, 3), RGB, 0..255; float32 (N, C), rows sum to 1; float32 (N,), -1..1.
IMAGES, PROBABILITIES, OOD_SCORE = "images", "probabilities", "familiarity"

# The metadata, each as JSON: what a checkpoint holds beside its weights.
ENTRIES = (
    *("format_version", "arch", "categories", "names", "preprocessing", "calibration"),
    *("figures", "seed", "command", "date", "versions"),
)

LARGEST_FILE = 2**31 - 1  # bytes: protobuf reads no more
LARGEST_MEMORY = 2 * 2**30  # bytes that ONNX Runtime may use: a file could ask for any number
ROUNDING = 1e-3  # how far from 1 the probabilities of a photograph may sum up to

# The last field of the file: an entry "sha256" of the metadata, whose 64 hexadecimal digits end
# it. As ONNX's protobuf it is ModelProto.metadata_props (field 14, 74 bytes), with key and value.
SEAL = b"\x72\x4a\x0a\x06sha256\x12\x40"
DIGITS = 64

FIRST_BYTE = b"\x08"  # of an ONNX file: the field ir_version of ModelProto


class ExportedNetwork(NamedTuple):
    """An exported network, ready to predict."""

    predict: Callable[[np.ndarray], Prediction]  # of uint8 (crop, crop, 3); threads may share it
    info: NetworkInfo
    sealed: bool  # whether the file is as it was exported
    engine: str  # what computes it, with its version


def is_onnx_name(path: str | os.PathLike) -> bool:
    """Whether the extension of a file to be written asks for an exported network."""
    return os.path.splitext(path)[1].lower() == ".onnx"


def is_exported(path: str | os.PathLike) -> bool:
    """Whether the first byte of a file is that of an exported network, whatever its name."""
    try:
        with open(os.devnull if is_special(path) else path, "rb") as file:
            return file.read(1) == FIRST_BYTE
    except OSError:
        return False


def load(path: str | os.PathLike[str]) -> ExportedNetwork:
    """Load an exported network; raise InputError if it is another file or cannot be run here."""
    if is_special(path):
        raise InputError(f"{path} is a pipe or a device, not a file")
    try:
        if os.path.getsize(path) > LARGEST_FILE:
            raise InputError(f"{path} is too large for an exported network")
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return load_content(content, os.fspath(path))


def load_content(content: bytes, name: str) -> ExportedNetwork:
    """Load a network from the content of a file, which errors call `name`; see `load`."""
    require("onnxruntime", name)
    try:
        session = _start_session(content)
        texts = session.get_modelmeta().custom_metadata_map
        entries = {key: json.loads(texts[key]) for key in ENTRIES}
        if entries["format_version"] != FORMAT_VERSION:
            raise ValueError("another version")
        info = NetworkInfo.from_entries(entries)
        _check_form(session, info)
    except MemoryError:
        raise
    except Exception as error:  # ONNX Runtime and hostile metadata raise almost anything
        raise InputError(f"{name} is damaged or no network that predict.py exported") from error

    def predict(image: np.ndarray) -> Prediction:
        try:
            return _run(session, image, info)
        except Exception as error:  # of ONNX Runtime's own kinds
            raise InputError(
                f"{name} is damaged, or needs more than {LARGEST_MEMORY >> 30} GiB to compute"
            ) from error

    engine = f"ONNX Runtime {import_onnxruntime().__version__}, float32"
    return ExportedNetwork(predict, info, _is_sealed(content), engine)


def to_texts(info: NetworkInfo) -> dict[str, str]:
    """Turn what a file knows beside its weights into its metadata."""
    entries = {**info.entries(), "format_version": FORMAT_VERSION}
    calibration = entries["calibration"]
    calibration["quantiles"] = calibration["quantiles"].tolist()
    for key, values in (calibration["valid"] or {}).items():
        calibration["valid"][key] = base64.b64encode(values.tobytes()).decode()
    return {key: json.dumps(entries[key]) for key in ENTRIES}


def predict_each(
    predict: Callable[[np.ndarray], Prediction],
    items: Iterable[tuple[K, np.ndarray | FlowersError]],
) -> Iterator[tuple[K, Prediction | FlowersError]]:
    """Replace photographs, uint8 (crop, crop, 3), by predictions, in order; errors pass unchanged.

    `predict` is that of an `ExportedNetwork`. Raises InputError if its file turns out to be
    damaged.
    """

    def replace(item: tuple[K, np.ndarray | FlowersError]) -> tuple[K, Prediction | FlowersError]:
        key, image = item
        return key, predict(image) if isinstance(image, np.ndarray) else image

    threads = count_threads()
    return map_ahead(replace, items, threads, 2 * threads + 1)


def count_threads() -> int:
    """Return OMP_NUM_THREADS, which PyTorch follows, too, else the number of processors."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and 0 < int(wanted) <= 1024 else default_workers()


def seal(content: bytes) -> bytes:
    """Append a checksum to an ONNX file, which has none of its own, as one more metadata entry."""
    return content + _make_seal(content)


def _make_seal(content: bytes | memoryview) -> bytes:
    return SEAL + hashlib.sha256(content).hexdigest().encode()


def _is_sealed(content: bytes) -> bool:
    """Whether a file is as it was exported; it is not copied."""
    end = max(0, len(content) - len(SEAL) - DIGITS)
    return content[end:] == _make_seal(memoryview(content)[:end])


def import_onnxruntime() -> Any:
    """Import ONNX Runtime without its telemetry.

    From 1.32 on it keeps a device number in the home folder and looks up a server at import.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # a call after the import would come too late
    with delay_signals():
        import onnxruntime
    return onnxruntime


def _start_session(content: bytes) -> "onnxruntime.InferenceSession":
    """Start a session that computes on the thread that calls it and reads no other file.

    Several photographs at once are faster than one on several threads, and are rounded alike in any
    batch.
    """
    onnxruntime = import_onnxruntime()
    _limit_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised, too
    for key, value in (
        ("session.use_env_allocators", "1"),  # that of _limit_memory
        ("session.load_model_format", "ONNX"),  # and not its own other format
        # Weights may be said to lie in other files: look for them where no file can be.
        ("session.model_external_initializers_file_folder_path", os.devnull),
    ):
        options.add_session_config_entry(key, value)
    # The fallback to other providers would print.
    return onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"], enable_fallback=False
    )


@functools.cache  # ONNX Runtime takes one allocator for the process
def _limit_memory() -> None:
    onnxruntime = import_onnxruntime()
    onnxruntime.set_default_logger_severity(4)
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # -1: the defaults of how it grows, from what size on, and what it may waste
    arena = onnxruntime.OrtArenaCfg(LARGEST_MEMORY, -1, -1, -1)
    onnxruntime.create_and_register_allocator(memory, arena)


def _check_form(session: "onnxruntime.InferenceSession", info: NetworkInfo) -> None:
    crop = info.preprocessing.crop
    values = (*session.get_inputs(), *session.get_outputs())
    if [(value.name, value.type, value.shape[1:]) for value in values] != [
        (IMAGES, "tensor(uint8)", [crop, crop, 3]),
        (PROBABILITIES, "tensor(float)", [len(info.categories)]),
        (OOD_SCORE, "tensor(float)", []),
    ]:
        raise ValueError("another network")


def _run(
    session: "onnxruntime.InferenceSession", image: np.ndarray, info: NetworkInfo
) -> Prediction:
    probabilities, ood_score = session.run([PROBABILITIES, OOD_SCORE], {IMAGES: image[None]})
    return to_prediction(probabilities, ood_score, info)


def to_prediction(
    probabilities: np.ndarray, ood_score: np.ndarray, info: NetworkInfo
) -> Prediction:
    """Check what a network computed for one photograph; raise ValueError if it is impossible."""
    # What is not finite sums up to nothing near 1.
    if not (
        probabilities.shape == (1, len(info.categories))
        and ood_score.shape == (1,)
        and probabilities.min() >= 0
        and abs(probabilities.sum() - 1) <= ROUNDING
        and math.isfinite(ood_score[0])
    ):
        raise ValueError("no probabilities")
    return Prediction(probabilities[0], float(ood_score[0]))
