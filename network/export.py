"""network/export.py"""

import json
import os
import warnings

import torch
from torch import nn

from model_utils import load_checkpoint
from network.classifier import Classifier
from network.familiarity import _centred
from prediction.info import FIGURES
from prediction.onnx_runtime import (
    ENTRIES,
    FAMILIARITY,
    FORMAT_VERSION,
    IMAGES,
    PROBABILITIES,
    seal,
)
from running.errors import InputError
from running.files import atomic_write

# Bytes of weights: protobuf takes no more than 2 GiB, and layers and names need some.
LARGEST_EXPORT = 2 * 2**30 - 2**25


class _Exported(nn.Module):
    """A network from pixels to what an application asks for, many photographs at once.

    Takes uint8 images (N, S, S, 3); returns probabilities (N, C) and familiarity (N,).
    """

    def __init__(self, model: Classifier, patterns: torch.Tensor):
        super().__init__()
        self.model = model
        self.register_buffer("patterns", patterns)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.model(images)  # the temperature is in them
        return logits.softmax(1), (_centred(logits) @ self.patterns.T).amax(1)


def export(path: str | os.PathLike, checkpoint: str | os.PathLike) -> None:
    """Write a checkpoint's network as one ONNX file, in float32, for `load`.

    Raises:
        InputError: the checkpoint cannot be used, or its network cannot be exported.
        RunError: the disk is full, or the folder cannot be written to.
    """
    import onnx

    model, info = load_checkpoint(checkpoint, precision=torch.float32)
    calibration = info["calibration"]
    try:
        network = _to_onnx(_Exported(model, calibration.patterns), info["preprocessing"].crop)
    except (torch.onnx.errors.OnnxExporterError, ValueError) as error:
        raise InputError(
            f"{checkpoint} cannot be exported: its network, {info['arch']}, does "
            "not fit into an ONNX file"
        ) from error
    entries = {
        **info,
        "format_version": FORMAT_VERSION,
        "preprocessing": info["preprocessing"]._asdict(),
        "calibration": {
            "temperature": calibration.temperature,
            "quantiles": calibration.quantiles.tolist(),
        },
        "figures": {key: info["figures"][key] for key in FIGURES},
    }
    onnx.helper.set_model_props(network, {key: json.dumps(entries[key]) for key in ENTRIES})
    with atomic_write(path) as file:
        file.write(seal(network.SerializeToString()))


def _to_onnx(exported: _Exported, crop: int):
    """Turn a network into an onnx.ModelProto of the form that `onnx_utils` describes.

    Raises:
        torch.onnx.errors.OnnxExporterError: ONNX has no such layers.
        ValueError: it is too large.
    """
    if sum(value.nbytes for value in exported.state_dict().values()) > LARGEST_EXPORT:
        raise ValueError("too many weights")
    for module in exported.modules():
        if getattr(module, "inplace", False):  # changed parts of tensors become slow layers
            module.inplace = False
    images = torch.zeros(2, crop, crop, 3, dtype=torch.uint8)  # with one N would count as fixed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the exporter itself does
        network = torch.onnx.export(
            exported.eval(),
            (images,),
            input_names=[IMAGES],
            output_names=[PROBABILITIES, FAMILIARITY],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        ).model_proto
    for part in (*network.graph.node, *network.graph.value_info):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")  # in whose folders the layer's source lies
    return network
