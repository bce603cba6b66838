"""Exported networks by form and by runtime: size, seconds to load, photographs a second, names.

    python benchmarks/export.py checkpoint.pth flowers

The forms are float32, weights in half precision, and int8 by ONNX Runtime's own tools, from
photographs of train. The runtimes besides ONNX Runtime are OpenVINO and MNN, where they are
installed (`pip install openvino MNN`). Decoding is left out. ONEDNN_MAX_CPU_ISA=AVX2 in the
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
from network.export import add_metadata, as_file, halve_weights, to_onnx

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


class Calibration:
    """Photographs as ONNX Runtime's quantisation wants them, one after the other."""

    def __init__(self, images: np.ndarray):
        self.items = ({IMAGES: image[None]} for image in images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.items, None)


def quantise(source: str, target: str, images: np.ndarray, info: NetworkInfo) -> None:
    """Write a network whose convolutions compute with 8 bits, by the extremes of activations.

    What comes behind them stays float32: in 8 bits the pooled variances are lost.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = f"{target}.prepared"
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        target,
        Calibration(images),
        nodes_to_quantize=[*find_convolutions(onnx.load(prepared))],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    network = onnx.load(target)
    add_metadata(network, info)
    Path(target).write_bytes(as_file(network))


def find_convolutions(network: Any) -> Iterator[str]:
    """Yield the names of convolutions, and of the activations and sums between them."""
    inside = set[str]()
    for node in network.graph.node:
        sources = node.input[: {"Clip": 1, "Add": 2}.get(node.op_type, 0)]
        if node.op_type == "Conv" or (sources and inside.issuperset(sources)):
            inside |= {*node.output}
            yield node.name


def write_forms(
    folder: str, checkpoint: str, data: data_utils.DataSet, count: int
) -> dict[str, str]:
    """Write a network in each form; return their paths."""
    model, info = model_utils.load_checkpoint(checkpoint, precision=torch.float32)
    network = to_onnx(model, info)
    forms = {name: os.path.join(folder, f"{name}.onnx") for name in ("float32", "half", "int8")}
    Path(forms["float32"]).write_bytes(as_file(network))
    Path(forms["half"]).write_bytes(as_file(halve_weights(network)))
    paths = data.splits["train"].paths
    some = paths[:: max(1, len(paths) // count)][:count]
    quantise(forms["float32"], forms["int8"], read(some, info), info)
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


def with_mnn(path: str) -> Ask:
    """Ask MNN, with all threads on one photograph."""
    import MNN

    converted = path.replace(".onnx", ".mnn")
    # Its own script of this name sends reports to its vendor.
    flags = ["", "-f", "ONNX", "--modelFile", path, "--MNNModel", converted, "--bizCode", "MNN"]
    run("-c", f"import _tools; _tools.mnnconvert({flags})")
    config = {"precision": "high", "numThread": count_threads(), "backend": "CPU"}
    runtime = MNN.nn.create_runtime_manager((config,))
    network = MNN.nn.load_module_from_file(
        converted, [IMAGES], [PROBABILITIES], runtime_manager=runtime
    )

    def ask(images: np.ndarray) -> np.ndarray:
        found = []
        for image in images:
            # NCHW says that the order of the dimensions is the network's own.
            pixels = MNN.expr.const(image, [1, *image.shape], MNN.expr.NCHW, MNN.expr.uint8)
            found.append(int(network.forward([pixels])[0].read().argmax()))
        return np.array(found)

    return ask


def find_runtimes(forms: dict[str, str]) -> Iterator[tuple[str, Ask]]:
    """Yield what is there, each with what to ask."""
    for name, path in forms.items():
        yield f"ONNX Runtime, {name}", with_onnx_runtime(path)
    if importlib.util.find_spec("openvino"):
        for hint in ("LATENCY", "THROUGHPUT"):
            yield f"OpenVINO, {hint.lower()}", with_openvino(forms["float32"], hint, "f32")
        yield "OpenVINO, throughput, int8", with_openvino(forms["int8"], "THROUGHPUT", "f32")
        ask = None
        with suppress(RuntimeError):  # where it is kept from AVX-512, or there is none
            ask = with_openvino(forms["float32"], "THROUGHPUT", "bf16")
        if ask:
            yield "OpenVINO, throughput, bfloat16", ask
    if importlib.util.find_spec("MNN"):
        yield "MNN", with_mnn(forms["float32"])


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
    parser.add_argument("--calibrate", type=int, default=252, help="photographs of train, for int8")
    parser.add_argument("--count", type=int, default=204, help="photographs of a round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    data = data_utils.find_data(args.data_dir)
    split = data.splits["valid"]
    with tempfile.TemporaryDirectory() as folder:
        forms = write_forms(folder, args.checkpoint, data, args.calibrate)
        info = onnx_file.load(forms["float32"]).info
        images = read(split.paths, info)
        packages = [
            f"{name} {version(name)}"
            for name in ("onnxruntime", "openvino", "MNN")
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
