"""Exported networks computed by OpenVINO, which is optional, where that is faster.

ONNX Runtime computes in float32. On processors with bfloat16 OpenVINO computes in that, about
twice as fast (benchmarks/results/export.md); on others it gains little and is not used.
"""

import importlib.util
import sys
import threading
from importlib.metadata import version
from pathlib import Path

import numpy as np

from formats.onnx_file import (
    IMAGES,
    OOD_SCORE,
    PROBABILITIES,
    ExportedNetwork,
    count_threads,
    to_prediction,
)
from formats.schema import Prediction
from running.errors import InputError
from running.signals import delay_signals

PROBES = 8  # images on which both have to agree
TOLERANCE = 0.1  # of a probability and an OOD score; on these 0.068 was the most, on valid 0.087


def accelerate(network: ExportedNetwork, path: str) -> ExportedNetwork:
    """Let OpenVINO compute the exported network in a file, if it agrees with `network`.

    Otherwise return `network`: also where OpenVINO is not installed or the processor has no
    bfloat16. The choice depends on the file and the machine alone, so that a job that resumes
    makes the same one.
    """
    if importlib.util.find_spec("openvino") is None:
        return network
    crop = network.info.preprocessing.crop
    images = _draw_probes(crop)
    expected = [network.predict(image) for image in images]  # within ONNX Runtime's memory limit
    try:
        faster = _compile(network, Path(path).read_bytes())
        found = [faster.predict(image) for image in images] if faster else []
    except Exception:  # OpenVINO raises RuntimeError for almost anything that it cannot do
        return network
    agrees = all(map(_is_close, found, expected))
    return faster if faster and agrees else network


def _compile(network: ExportedNetwork, content: bytes) -> ExportedNetwork | None:
    # Its tools for conversion would keep a device number in the home folder and send statistics.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
    with delay_signals():
        import openvino
    core = openvino.Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    model = core.read_model(content)
    crop, threads = network.info.preprocessing.crop, count_threads()
    model.reshape({IMAGES: [1, crop, crop, 3]})
    options = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": "bf16",
        "NUM_STREAMS": threads,  # a photograph at a time on each thread, as with ONNX Runtime
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # several jobs would be pinned to the same processors
    }
    compiled = core.compile_model(model, "CPU", options)
    here = threading.local()

    def predict(image: np.ndarray) -> Prediction:
        if not hasattr(here, "request"):
            here.request = compiled.create_infer_request()
        try:
            found = here.request.infer({IMAGES: image[None]})
            return to_prediction(found[PROBABILITIES].copy(), found[OOD_SCORE], network.info)
        except (RuntimeError, ValueError) as error:
            raise InputError("the network cannot be computed by OpenVINO") from error

    return network._replace(predict=predict, engine=f"OpenVINO {version('openvino')}, bfloat16")


def _draw_probes(crop: int) -> list[np.ndarray]:
    """Draw smooth random images, uint8 (crop, crop, 3), the same ones every time."""
    rng = np.random.default_rng(0)
    steps = np.linspace(0, 2 * np.pi, crop)
    images = []
    for waves in rng.uniform(-6, 6, (PROBES, 2, 3)):
        phase = steps[:, None, None] * waves[0] + steps[:, None] * waves[1]
        images.append((127.5 + 127.5 * np.sin(phase)).astype(np.uint8))
    return images


def _is_close(one: Prediction, other: Prediction) -> bool:
    far = np.abs(one.probabilities - other.probabilities).max()
    return max(far, abs(one.ood_score - other.ood_score)) <= TOLERANCE
