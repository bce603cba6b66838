"""Prediction from an exported network, by ONNX Runtime instead of torch.

A file of `predict.py --export` is one ONNX file: the network from pixels to probabilities, what
it knows as metadata, and a checksum as the last of these. A file that was changed since, by
another tool or by a bad disk, is used as long as it keeps this form. What is not formed so never
reaches ONNX Runtime's own parser.
"""

import functools
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

import numpy as np

from formats.schema import NetworkInfo, Prediction
from running.environment import require
from running.errors import FlowersError, InputError
from running.files import is_special
from running.signals import delay_signals
from running.threads import default_workers, is_pause, map_ahead

if TYPE_CHECKING:
    import onnxruntime

K = TypeVar("K")

FORMAT_VERSION = 1

# uint8 (N, crop, crop, 3), RGB, 0..255; float32 (N, C), rows sum to 1; float32 (N,), -1..1.
IMAGES, PROBABILITIES, OOD_SCORE = "images", "probabilities", "familiarity"

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

# Bytes of all metadata; the names of ten thousand categories fit ten times.
LARGEST_METADATA = 4_000_000

# Bytes of a file: protobuf reads no more.
LARGEST_FILE = 2**31 - 1

# Bytes that ONNX Runtime may take while it computes: a file could ask for any number.
LARGEST_MEMORY = 2 * 2**30

# How far from one the probabilities of a photograph may add up to, by rounding.
ROUNDING = 1e-3

# The last field of the file: an entry "sha256" of the metadata, whose 64 hexadecimal digits end
# it. As ONNX's protobuf it is ModelProto.metadata_props (field 14, 74 bytes), with key and value.
SEAL = b"\x72\x4a\x0a\x06sha256\x12\x40"
DIGITS = 64

# Protobuf (https://protobuf.dev/programming-guides/encoding): a field begins with a number that
# is eight times the field's own plus its kind. A VARINT is a whole number of seven bits a byte,
# the lowest first; before BYTES stands their number.
VARINT, BYTES = 0, 2

# What a file and an entry of its metadata may hold (ModelProto and StringStringEntryProto of
# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto): the kind of each field.
VERSION, GRAPH, METADATA = 1, 7, 14
MODEL_FIELDS = {VERSION: VARINT, 5: VARINT} | dict.fromkeys(
    (2, 3, 4, 6, GRAPH, 8, METADATA, 20, 25, 26), BYTES
)
FIRST_BYTE = bytes([8 * VERSION + VARINT])  # of the field that comes first
KEY, VALUE = 1, 2
ENTRY_FIELDS = {KEY: BYTES, VALUE: BYTES}
MOST_FIELDS = 10_000  # of a message; an export has thirty


class ExportedNetwork(NamedTuple):
    """What `load` makes of a file."""

    predict: Callable[[np.ndarray], Prediction]  # of uint8 (crop, crop, 3); threads may share it
    info: NetworkInfo
    sealed: bool  # whether the file is as it was exported


def is_onnx_name(path: str | os.PathLike) -> bool:
    """Tell by the extension whether a file that is written should be an exported network."""
    return os.path.splitext(path)[1].lower() == ".onnx"


def is_exported(path: str | os.PathLike) -> bool:
    """Tell by the first byte whether a file is an exported network, whatever it is called."""
    try:
        with open(os.devnull if is_special(path) else path, "rb") as file:
            return file.read(1) == FIRST_BYTE
    except OSError:  # there is no such file, or none that can be read
        return False


def load(path: str | os.PathLike) -> ExportedNetwork:
    """Load an exported network.

    Raises:
        InputError: the file is missing, damaged or another one, or onnxruntime is missing.
    """
    require("onnxruntime", os.fspath(path))
    return _load(*_read_file(path), os.fspath(path))


def load_content(content: bytes, name: str) -> ExportedNetwork:
    """Load what `load` would find in a file of this content; errors call it by the name.

    Raises:
        InputError: it is damaged or another file, or onnxruntime is missing.
    """
    require("onnxruntime", name)
    try:
        texts = _read_metadata(io.BytesIO(content), len(content))
    except ValueError as error:
        raise InputError(f"{name} is no network that predict.py exported") from error
    return _load(content, texts, name)


def _load(content: bytes, texts: dict[str, str], name: str) -> ExportedNetwork:
    """Make a network of a file's content and metadata; see `load_content`."""
    try:
        entries = {key: json.loads(texts[key]) for key in ENTRIES}
        version = entries["format_version"]
        if type(version) is not int:
            raise ValueError("no version")
        if version != FORMAT_VERSION:
            raise InputError(
                f"{name} was written by another version of this project (format {version}, here "
                f"{FORMAT_VERSION}); export it again"
            )
        info = NetworkInfo.from_entries(entries)
        session = _start(content)
        _check_form(session, info.preprocessing.crop, len(info.categories))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # ONNX Runtime and hostile metadata raise almost anything
        raise InputError(f"{name} is damaged: its parts do not fit together") from error

    def predict(image: np.ndarray) -> Prediction:
        try:
            return _run(session, image, len(info.categories))
        except Exception as error:  # of ONNX Runtime's own kinds
            raise InputError(
                f"{name} is damaged, or takes more than {LARGEST_MEMORY / 2**30:.0f} GiB to compute"
            ) from error

    return ExportedNetwork(predict, info, _is_sealed(content))


def predict_each(
    predict: Callable[[np.ndarray], Prediction],
    items: Iterable[tuple[K, np.ndarray | FlowersError]],
) -> Iterator[tuple[K, Prediction | FlowersError]]:
    """Put predictions in the place of photographs; errors pass unchanged, in their order.

    Args:
        predict: see `ExportedNetwork`.
        items: photographs, uint8 (crop, crop, 3), each behind a key; `PAUSE` may stand among them.

    Raises:
        InputError: the network's file turns out to be damaged.
    """

    def replace(item: tuple[K, np.ndarray | FlowersError]) -> tuple[K, Prediction | FlowersError]:
        key, image = item
        return key, predict(image) if isinstance(image, np.ndarray) else image

    threads = count_threads()
    results = map_ahead(replace, items, threads, 2 * threads + 1)
    return (result for result in results if not is_pause(result))


def count_threads() -> int:
    """As many as OMP_NUM_THREADS says, which PyTorch follows, too, else all processors."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and 0 < int(wanted) <= 1024 else default_workers()


# --- The file -------------------------------------------------------------------------


def seal(content: bytes) -> bytes:
    """Append a checksum to an ONNX file, which has none of its own, as one more metadata entry."""
    return content + SEAL + _checksum(content)


def _is_sealed(content: bytes) -> bool:
    """Tell whether a file is as `seal` left it."""
    start = len(content) - len(SEAL) - DIGITS
    return content.startswith(SEAL, max(start, 0)) and content[-DIGITS:] == _checksum(
        memoryview(content)[:start]
    )


def _checksum(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _read_file(path: str | os.PathLike) -> tuple[bytes, dict[str, str]]:
    """Read an ONNX file, once its outermost fields have shown that it is one; and its metadata.

    Raises:
        InputError: it is missing or another file.
    """
    if is_special(path):
        raise InputError(f"{path} is a pipe or a device, not a file")
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            if size > LARGEST_FILE:
                raise ValueError("too large")
            texts = _read_metadata(file, size)
            file.seek(0)
            return file.read(size), texts
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is damaged or no network that predict.py exported") from error


def _read_metadata(file: BinaryIO, size: int) -> dict[str, str]:
    """Collect the metadata of an ONNX file of so many bytes, reading little else of it.

    Raises:
        ValueError: it is no ONNX file.
    """
    if file.read(1) != FIRST_BYTE:
        raise ValueError("no ONNX file")
    file.seek(0)
    texts: dict[str, str] = {}
    graphs = total = 0
    for number, length in _walk(file, size, MODEL_FIELDS):
        graphs += number == GRAPH
        if number != METADATA:
            continue
        total += length
        if total > LARGEST_METADATA:
            raise ValueError("too much metadata")
        entry = io.BytesIO(file.read(length))
        parts = {n: entry.read(long) for n, long in _walk(entry, length, ENTRY_FIELDS)}
        texts[parts.get(KEY, b"").decode()] = parts.get(VALUE, b"").decode()
    if graphs != 1:
        raise ValueError("no network, or several")
    return texts


def _walk(file: BinaryIO, end: int, kinds: dict[int, int]) -> Iterator[tuple[int, int]]:
    """Walk through the fields of a protobuf message that ends at `end`.

    Yields:
        The number of each field and the length of its bytes, which come next in the file.

    Raises:
        ValueError: it has others than those of `kinds`, too many, or does not end there.
    """
    for _ in range(MOST_FIELDS):
        if file.tell() == end:
            return
        number, kind = divmod(_read_varint(file), 8)
        if kinds.get(number) != kind:
            raise ValueError("another message")
        length = _read_varint(file)
        if kind == VARINT:
            length = 0
        after = file.tell() + length
        if after > end:
            raise ValueError("cut off")
        yield number, length
        file.seek(after)
    raise ValueError("too many fields")


def _read_varint(file: BinaryIO) -> int:
    """Read a whole number, 0 .. 2**64 - 1.

    Raises:
        ValueError: there is none.
    """
    value = 0
    for shift in range(0, 70, 7):
        [byte] = file.read(1)  # a ValueError where the file ends
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise ValueError("no number")


# --- The network ----------------------------------------------------------------------


def _start(content: bytes) -> "onnxruntime.InferenceSession":
    """Make a session of ONNX Runtime that believes no more of a file than it has to.

    It computes on the thread that calls it: several photographs at once are quicker than
    one on several threads, and each is rounded alike in whatever company it comes.
    """
    with delay_signals():
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
    # The fallback to other providers would print.
    return onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"], enable_fallback=False
    )


@functools.cache  # ONNX Runtime takes one for the process
def _limit_memory() -> None:
    """Let ONNX Runtime take `LARGEST_MEMORY` at most, and say nothing of its own."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_usual = -1  # how it grows, from what size on, and what it may waste
    onnxruntime.create_and_register_allocator(
        memory, onnxruntime.OrtArenaCfg(LARGEST_MEMORY, as_usual, as_usual, as_usual)
    )


def _check_form(session: "onnxruntime.InferenceSession", crop: int, num_classes: int) -> None:
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
        (OOD_SCORE, "tensor(float)", []),
    ]:
        raise ValueError("another network")


def _run(
    session: "onnxruntime.InferenceSession", image: np.ndarray, num_classes: int
) -> Prediction:
    """Ask a network for a photograph, uint8 (crop, crop, 3).

    Raises:
        ValueError: its answer is none; ONNX Runtime raises errors of its own, too.
    """
    probabilities, ood_score = session.run([PROBABILITIES, OOD_SCORE], {IMAGES: image[None]})
    # What is not finite adds up to nothing near one.
    if not (
        probabilities.shape == (1, num_classes)
        and ood_score.shape == (1,)
        and probabilities.min() >= 0
        and abs(probabilities.sum() - 1) <= ROUNDING
        and math.isfinite(ood_score[0])
    ):
        raise ValueError("no probabilities")
    return Prediction(probabilities[0], float(ood_score[0]))
