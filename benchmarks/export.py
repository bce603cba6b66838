"""Exported networks by form and by runtime: size, seconds to load, photographs a second, names.

    python benchmarks/export.py checkpoint.pth flowers

The forms are float32 and weights in half precision. The other runtime is OpenVINO, where it is
installed (`pip install openvino`). Decoding is left out. ONEDNN_MAX_CPU_ISA=AVX2 in the
environment keeps OpenVINO from AVX-512; ONNX Runtime has no such switch.
"""

import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from common import machine, make_parser, run

import data_utils
import model_utils
from formats import onnx_file
from formats.onnx_file import IMAGES, PROBABILITIES, count_threads
from formats.schema import NetworkInfo, Prediction
from network.export import as_file, halve_weights, to_onnx

# Turns photographs, uint8 (N, S, S, 3), into indices (N,).
Ask: TypeAlias = Callable[[np.ndarray], np.ndarray]

# In a fresh process, so that nothing is warm but the disk's cache.
LOAD = """
import sys, time
import onnxruntime
from formats import onnx_file
started = time.perf_counter()
onnx_file.load(sys.argv[1])
print(time.perf_counter() - started)
"""


# --- Forms ----------------------------------------------------------------------------


def write_forms(folder: str, checkpoint: str) -> dict[str, str]:
    """Write a network in each form; return their paths."""
    model, info = model_utils.load_checkpoint(checkpoint, precision=torch.float32)
    network = to_onnx(model, info)
    forms = {name: os.path.join(folder, f"{name}.onnx") for name in ("float32", "half")}
    Path(forms["float32"]).write_bytes(as_file(network))
    Path(forms["half"]).write_bytes(as_file(halve_weights(network)))
    return forms


def read(paths: Sequence[str], info: NetworkInfo) -> np.ndarray:
    """Decode photographs: uint8 (N, S, S, 3)."""
    return np.concatenate([*data_utils.load_batches(paths, info.preprocessing)])


# --- Runtimes -------------------------------------------------------------------------


def with_onnx_runtime(path: str) -> Ask:
    """Ask as predict.py does: a photograph at a time on each of its threads."""
    network = onnx_file.load(path)

    def ask(images: np.ndarray) -> np.ndarray:
        named = onnx_file.predict_each(network.predict, enumerate(images))
        return np.array(
            [result.probabilities.argmax() for _, result in named if isinstance(result, Prediction)]
        )

    return ask


def with_openvino(path: str, hint: str, precision: str) -> Ask:
    """Ask OpenVINO in a mode of its own, with as many threads."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    size = model.input(0).partial_shape[1].get_length()
    model.reshape([1, size, size, 3])
    config = {
        "PERFORMANCE_HINT": hint,
        "INFERENCE_NUM_THREADS": count_threads(),
        "INFERENCE_PRECISION_HINT": precision,
    }
    queue = openvino.AsyncInferQueue(core.compile_model(model, "CPU", config))

    def ask(images: np.ndarray) -> np.ndarray:
        found = np.zeros(len(images), int)

        def keep(request: Any, i: int) -> None:
            found[i] = request.get_tensor(PROBABILITIES).data.argmax()

        queue.set_callback(keep)
        for i, image in enumerate(images):
            queue.start_async({IMAGES: image[None]}, i)
        queue.wait_all()
        return found

    return ask


def find_runtimes(forms: dict[str, str]) -> Iterator[tuple[str, Ask]]:
    """Yield what is there, each with what to ask."""
    for name, path in forms.items():
        yield f"ONNX Runtime, {name}", with_onnx_runtime(path)
    if importlib.util.find_spec("openvino"):
        for hint in ("LATENCY", "THROUGHPUT"):
            yield f"OpenVINO, {hint.lower()}", with_openvino(forms["float32"], hint, "f32")
        ask = None
        with suppress(RuntimeError):  # where it is kept from AVX-512, or there is none
            ask = with_openvino(forms["float32"], "THROUGHPUT", "bf16")
        if ask:
            yield "OpenVINO, throughput, bfloat16", ask


# --- What is measured -----------------------------------------------------------------


def time_loads(forms: dict[str, str], rounds: int) -> dict[str, float]:
    """Time how long the forms take to load in fresh processes, in turns: medians."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, path in forms.items():
            seconds[name].append(float(run("-c", LOAD, path).out))
    return {name: statistics.median(times) for name, times in seconds.items()}


def time_rounds(
    runtimes: dict[str, Ask], images: np.ndarray, rounds: int
) -> dict[str, list[float]]:
    """Count photographs a second, the runtimes in turns."""
    speeds: dict[str, list[float]] = {name: [] for name in runtimes}
    for ask in runtimes.values():
        ask(images[:20])
    for number in range(rounds):
        for name in [*runtimes][:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            runtimes[name](images)
            speeds[name].append(len(images) / (time.perf_counter() - started))
    return speeds


def main() -> None:
    parser = make_parser(__doc__, "checkpoint", "data_dir")
    parser.add_argument("--count", type=int, default=204, help="photographs of a round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    data = data_utils.find_data(args.data_dir)
    split = data.splits["valid"]
    with tempfile.TemporaryDirectory() as folder:
        forms = write_forms(folder, args.checkpoint)
        info = onnx_file.load(forms["float32"]).info
        images = read(split.paths, info)
        packages = [
            f"{name} {version(name)}"
            for name in ("onnxruntime", "openvino")
            if importlib.util.find_spec(name)
        ]
        print(machine(), ", ".join(packages), f"valid: n = {len(images)}", sep="\n", flush=True)
        runtimes = dict(find_runtimes(forms))
        loads = time_loads(forms, args.rounds)
        for name, path in forms.items():
            size = os.path.getsize(path)
            print(f"{name:8}  {size:10} bytes  loaded in {loads[name]:.3f} s")
        speeds = time_rounds(runtimes, images[: args.count], args.rounds)
        reference = runtimes["ONNX Runtime, float32"](images)
        base = speeds["ONNX Runtime, float32"]
        print(f"{count_threads()} threads, medians of {args.rounds} rounds of {args.count}")
        for name, ask in runtimes.items():
            found = ask(images)
            ratio = statistics.median(one / other for one, other in zip(speeds[name], base))
            print(
                f"{name:30}  {statistics.median(speeds[name]):6.1f} a second "
                f"({min(speeds[name]):.1f} to {max(speeds[name]):.1f}), {ratio:.2f} times; "
                f"{(found == reference).sum()} names as in float32, "
                f"{(found == split.labels).sum()} correct"
            )


if __name__ == "__main__":
    main()
