"""Export to ONNX: one file for applications, which need neither torch nor this project."""

import json
import warnings
from typing import Any

import torch
from torch import nn

from network.classifier import Classifier
from network.familiarity import centre
from prediction.info import NetworkInfo
from prediction.onnx_runtime import (
    ENTRIES,
    FAMILIARITY,
    FORMAT_VERSION,
    IMAGES,
    PROBABILITIES,
    seal,
)
from running.errors import InputError

# Bytes of weights: protobuf takes no more than 2 GiB, and layers and names need some.
LARGEST_EXPORT = 2 * 2**30 - 2**25


class _Exported(nn.Module):
    """A network from pixels to what an application asks for, many photographs at once.

    Takes uint8 images (N, S, S, 3); returns probabilities (N, C) and familiarity (N,).
    """

    prototypes: torch.Tensor

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model
        self.register_buffer("prototypes", model.prototypes)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.model(images)  # the temperature is in them
        return logits.softmax(1), (centre(logits) @ self.prototypes.T).amax(1)


def to_onnx(model: Classifier, info: NetworkInfo) -> bytes:
    """Turn a checkpoint's network, loaded in float32, into the content of an ONNX file.

    Raises:
        InputError: the network cannot be exported.
    """
    import onnx

    try:
        network = _translate(_Exported(model), info.preprocessing.crop)
    except (torch.onnx.errors.OnnxExporterError, ValueError) as error:
        raise InputError(
            f"the network cannot be exported: {info.arch} does not fit into an ONNX file"
        ) from error
    entries = {**info.entries(), "format_version": FORMAT_VERSION}
    onnx.helper.set_model_props(network, {key: json.dumps(entries[key]) for key in ENTRIES})
    return seal(network.SerializeToString())


def _translate(exported: _Exported, crop: int) -> Any:
    """Turn a network into an onnx.ModelProto of the form that prediction/onnx_runtime.py reads.

    Raises:
        torch.onnx.errors.OnnxExporterError: ONNX has no such layers.
        ValueError: it is too large.
    """
    if sum(value.nbytes for value in exported.state_dict().values()) > LARGEST_EXPORT:
        raise ValueError("too many weights")
    for module in exported.modules():
        if getattr(module, "inplace", False):  # changed parts of tensors become slow layers
            module.inplace = False  # type: ignore[assignment]
    images = torch.zeros(2, crop, crop, 3, dtype=torch.uint8)  # with one N would count as fixed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the exporter itself does
        program = torch.onnx.export(
            exported.eval(),
            (images,),
            input_names=[IMAGES],
            output_names=[PROBABILITIES, FAMILIARITY],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    network = program.model_proto
    for part in (*network.graph.node, *network.graph.value_info):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")  # in whose folders the layer's source lies
    return network
