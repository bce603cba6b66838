"""Export to ONNX: one file for applications, which need neither torch nor this project."""

import json
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from formats.onnx_file import IMAGES, OOD_SCORE, PROBABILITIES, seal, to_texts
from formats.schema import NetworkInfo
from network.classifier import Classifier
from network.ood import centre
from prediction.answers import find_promises
from running.errors import InputError

if TYPE_CHECKING:
    import onnx

# Bytes of weights: protobuf takes no more than 2 GiB, and layers and names need some.
LARGEST_EXPORT = 2 * 2**30 - 2**25

FEWEST_HALVED = 1024  # numbers of a weight; halving fewer saves nothing worth a layer


class _Exported(nn.Module):
    """Takes uint8 images (N, S, S, 3); returns probabilities (N, C) and OOD scores (N,)."""

    prototypes: torch.Tensor  # the class means, under the name that files have

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model
        self.register_buffer("prototypes", model.class_means)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.model(images)  # the temperature is in them
        return logits.softmax(1), (centre(logits) @ self.prototypes.T).amax(1)


def to_onnx(model: Classifier, info: NetworkInfo) -> "onnx.ModelProto":
    """Turn a checkpoint's network, loaded in float32, into ONNX; raise InputError if that fails."""
    try:
        network = _translate(_Exported(model), info.preprocessing.crop)
        add_metadata(network, info)
    except (torch.onnx.errors.OnnxExporterError, ValueError) as error:
        raise InputError(
            f"the network cannot be exported: {info.arch} does not fit into an ONNX file"
        ) from error
    return network


def add_metadata(network: "onnx.ModelProto", info: NetworkInfo) -> None:
    """Replace the metadata by what a network's file knows beside its weights."""
    import onnx

    # "promises" is for applications; this project computes them from the entry "calibration".
    promises = {
        str(promise): {"probability": probability, "familiarity": least}
        for promise, probability, least, _ in find_promises(info)
    }
    texts = {**to_texts(info), "promises": json.dumps(promises)}
    onnx.helper.set_model_props(network, texts)


def halve_weights(network: "onnx.ModelProto") -> "onnx.ModelProto":
    """Copy a network with its large weights stored in half precision, float16.

    A layer computes in float32 as before: what it takes is the output of a Cast, which ONNX
    Runtime computes once, when it loads the file. Vectors, such as biases, stay as they are.
    """
    import onnx

    halved = onnx.ModelProto()
    halved.CopyFrom(network)
    casts = []
    for weight in halved.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        large = values.dtype == np.float32 and values.ndim >= 2 and values.size >= FEWEST_HALVED
        if not large or abs(values).max() > np.finfo(np.float16).max:
            continue
        name, stored = weight.name, f"{weight.name}.half"
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *halved.graph.node]  # what is used comes before its use
    halved.graph.ClearField("node")
    halved.graph.node.extend(nodes)
    return halved


def as_file(network: "onnx.ModelProto") -> bytes:
    """Turn a network into the content of its file, with the checksum."""
    return seal(network.SerializeToString())


def _translate(exported: _Exported, crop: int) -> "onnx.ModelProto":
    """Turn a network into one of the form that formats/onnx_file.py reads.

    Raises OnnxExporterError if ONNX has no such layers, ValueError if it is too large.
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
            output_names=[PROBABILITIES, OOD_SCORE],
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
