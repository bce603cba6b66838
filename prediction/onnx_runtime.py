"""prediction/onnx_runtime.py"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from prediction.info import Calibration, Prediction, check_history, check_preprocessing, check_types
from running.environment import default_workers, require
from running.errors import FlowersError, InputError
from running.files import is_special
from running.signals import signals_wait
from running.threads import map_ahead

K = TypeVar("K")


FORMAT_VERSION = 1


# uint8 (N, crop, crop, 3), RGB, 0..255; float32 (N, C), rows sum to 1; float32 (N,), -1..1.
IMAGES, PROBABILITIES, FAMILIARITY = "images", "probabilities", "familiarity"


# The metadata, each as JSON: what a checkpoint holds beside its weights.
ENTRIES = (
    "format_version",
    "arch",
    "categories",
    "names",
    "preprocessing",
    "calibration",
    "figures",
    "seed",
    "command",
    "date",
    "versions",
)


# Characters of all metadata; the names of ten thousand categories fit ten times.
LARGEST_METADATA = 4_000_000


# Bytes that ONNX Runtime may take while it computes: a file could ask for any number.
LARGEST_MEMORY = 2 * 2**30


# The last field of the file: an entry "sha256" of the metadata, whose 64 hexadecimal digits end
# it. As ONNX's protobuf it is ModelProto.metadata_props (field 14, 74 bytes), with key and value.
SEAL = b"\x72\x4a\x0a\x06sha256\x12\x40"


DIGITS = 64


def is_exported(path: str | os.PathLike) -> bool:
    """Tell by the extension whether a file should be an exported network."""
    return os.path.splitext(path)[1].lower() == ".onnx"


def seal(content: bytes) -> bytes:
    """Append a checksum to an ONNX file, which has none of its own, as one more metadata entry."""
    return content + SEAL + _checksum(content)


def _checksum(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _read_sealed(path: str | os.PathLike) -> bytes:
    """Read a file of `seal`.

    Raises:
        InputError: it is missing or another file, or has changed since.
    """
    if is_special(path):
        raise InputError(f"{path} is a pipe or a device, not a file")
    broken = InputError(f"{path} is damaged or no network that predict.py exported")
    try:
        with open(path, "rb") as file:
            start = file.seek(0, os.SEEK_END) - len(SEAL) - DIGITS
            file.seek(max(start, 0))
            if not file.read().startswith(SEAL):  # before much of what it is not is read
                raise broken
            file.seek(0)
            content = file.read()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if _checksum(memoryview(content)[:start]) != content[-DIGITS:]:
        raise broken
    return content


def load(path: str | os.PathLike) -> tuple[Callable[[np.ndarray], Prediction], dict[str, Any]]:
    """Load an exported network; return what predicts one photograph, and what the file knows.

    The function takes uint8 (crop, crop, 3) and may be called by several threads at once. The
    entries are those of `load_checkpoint`, but for what only torch can use.

    Raises:
        InputError: the file is missing, damaged or another one, or onnxruntime is missing.
    """
    require("onnxruntime", os.fspath(path))
    content = _read_sealed(path)
    try:
        session = _start(content)
        info = _read_metadata(session)
        _check_form(session, info["preprocessing"].crop, len(info["categories"]))
    except MemoryError:
        raise
    except Exception as error:  # ONNX Runtime and hostile metadata raise almost anything
        raise InputError(f"{path} is damaged: its parts do not fit together") from error
    if info["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{path} was written by another version of this project (format "
            f"{info['format_version']}, here {FORMAT_VERSION}); export it again"
        )

    def predict(image: np.ndarray) -> Prediction:
        try:
            probabilities, familiarity = session.run(
                [PROBABILITIES, FAMILIARITY], {IMAGES: image[None]}
            )
            if not (
                probabilities.shape == (1, len(info["categories"]))
                and familiarity.shape == (1,)
                and np.isfinite(probabilities).all()
            ):
                raise ValueError("no probabilities")
        except Exception as error:  # of ONNX Runtime's own kinds
            raise InputError(
                f"{path} is damaged, or takes more than {LARGEST_MEMORY / 2**30:.0f} GiB to compute"
            ) from error
        return Prediction(probabilities[0], float(familiarity[0]))

    return predict, info


def _start(content: bytes):
    """Make a session of ONNX Runtime that believes no more of a file than it has to.

    It computes on the thread that calls it: several photographs at once are quicker than
    one on several threads, and each is rounded alike in whatever company it comes.
    """
    with signals_wait():
        import onnxruntime
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
    return onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"], enable_fallback=False
    )  # which would print


@functools.cache  # ONNX Runtime takes one for the process
def _limit_memory() -> None:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_usual = -1  # how it grows, from what size on, and what it may waste
    onnxruntime.create_and_register_allocator(
        memory, onnxruntime.OrtArenaCfg(LARGEST_MEMORY, as_usual, as_usual, as_usual)
    )


def _read_metadata(session) -> dict[str, Any]:
    """Read what a network's file says of it, and see that it can be.

    Raises:
        KeyError, RecursionError, TypeError, ValueError: it cannot be.
    """
    texts = session.get_modelmeta().custom_metadata_map
    if sum(map(len, texts.values())) > LARGEST_METADATA:
        raise ValueError("too much metadata")
    info = {key: json.loads(texts[key]) for key in ENTRIES}
    check_types(info, {"format_version": int, "arch": str, "calibration": dict})
    check_history(info)
    calibration = info["calibration"]
    check_types(calibration, {"temperature": float, "quantiles": list})
    quantiles = np.array(calibration["quantiles"])
    if (
        quantiles.dtype != np.float64
        or quantiles.shape != (1001,)
        or not np.isfinite(quantiles).all()
        or (np.diff(quantiles) < 0).any()
        or calibration["temperature"] <= 0
    ):
        raise ValueError("impossible calibration")
    return {
        **info,
        "preprocessing": check_preprocessing(info["preprocessing"]),
        "calibration": Calibration(calibration["temperature"], None, quantiles.astype(np.float32)),
    }


def _check_form(session, crop: int, num_classes: int) -> None:
    """See that a network takes and gives what it should.

    Raises:
        ValueError: it does not.
    """
    form = [
        (value.name, value.type, value.shape[1:])
        for value in (*session.get_inputs(), *session.get_outputs())
    ]
    if form != [
        (IMAGES, "tensor(uint8)", [crop, crop, 3]),
        (PROBABILITIES, "tensor(float)", [num_classes]),
        (FAMILIARITY, "tensor(float)", []),
    ]:
        raise ValueError("another network")


def count_threads() -> int:
    """As many as OMP_NUM_THREADS says, which PyTorch follows, too, else all processors."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and 0 < int(wanted) <= 1024 else default_workers()


def predict_each(
    predict: Callable[[np.ndarray], Prediction],
    items: Iterable[tuple[K, np.ndarray | FlowersError]],
) -> Iterator[tuple[K, Prediction | FlowersError]]:
    """Put predictions in the place of photographs, as `predict_each` does.

    `predict` is from `load`.

    Raises:
        InputError: the network's file turns out to be damaged.
    """

    def replace(item: tuple[K, np.ndarray | FlowersError]) -> tuple[K, Prediction | FlowersError]:
        key, image = item
        return key, predict(image) if isinstance(image, np.ndarray) else image

    threads = count_threads()
    return map_ahead(replace, items, threads, 2 * threads + 1)
