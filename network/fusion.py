"""Layers that become one: BatchNorm and activations as a part of the convolution before them."""

from itertools import pairwise
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from network.layers import InvertedResidual, SameConv2d

OPERATORS = (
    "_convolution_pointwise",
    "_reorder_convolution_weight",
    "_is_mkldnn_bf16_supported",
)

# What oneDNN calls an activation, and its numbers.
ACTIVATIONS: dict[type, tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}


def fold_batch_norm(body: nn.Module) -> None:
    """Put every BatchNorm that follows a convolution into that, with its running statistics.

    In evaluation mode the network computes the same, faster. One that goes on learning from
    ImageNet's weights learns better so, too (docs/tried.md).
    """
    body.eval()
    for parent in body.modules():
        children = [*parent.named_children()]
        for (name, conv), (after, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, after, nn.Identity())


def fuse_activations(body: nn.Module) -> None:
    """Put every convolution together with the activation that follows it, for inference on a CPU.

    The places of the layers stay. A body with weights that are no numbers is left alone: oneDNN's
    activations would turn what comes of them into 0, and nobody would notice.
    """
    if not _has_onednn() or not all(value.isfinite().all() for value in body.parameters()):
        return
    for parent in [*body.modules()]:
        in_order = type(parent).forward is nn.Sequential.forward
        repeats = len({*parent._modules.values()}) < len(parent._modules)
        if repeats or not (in_order or isinstance(parent, InvertedResidual)):
            continue
        # Between the two stands nothing but what is left of a BatchNorm.
        layers = [
            (name, layer)
            for name, layer in parent.named_children()
            if not isinstance(layer, nn.Identity)
        ]
        for (name, conv), (after, activation) in pairwise([*layers, ("", nn.Identity())]):
            if not _can_fuse(conv):
                continue
            if type(activation) in ACTIVATIONS:
                setattr(parent, after, nn.Identity())
            else:
                activation = nn.Identity()
            setattr(parent, name, FusedConv2d(conv, activation))


def _has_onednn() -> bool:
    """Tell whether PyTorch has the operators of oneDNN, which its own compiler calls, too."""
    operators = torch.ops.mkldnn
    return torch.backends.mkldnn.is_available() and all(hasattr(operators, o) for o in OPERATORS)


def _can_fuse(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Tell whether a layer is a convolution with zeros around the maps that oneDNN computes."""
    if type(layer) is not nn.Conv2d and type(layer) is not SameConv2d:
        return False
    if isinstance(layer, SameConv2d) and layer.stride != (1, 1):
        return False
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


class FusedConv2d(nn.Conv2d):
    """A convolution and the activation behind it, if there is one.

    On a CPU, where nothing is learned, oneDNN computes both in one pass over the memory, which
    is where the time goes, and with weights that it has put into its own order, a second copy
    of them. (PyTorch itself leaves filters of one pixel to another kernel, where one thread
    works on fewer than 16 pictures.) Everywhere else it is the one, and then the other.
    """

    activation: nn.Module

    def __init__(self, conv: nn.Conv2d, activation: nn.Module):
        nn.Module.__init__(self)
        self.__dict__.update(conv.__dict__)  # its weights are shared, under their names
        self._modules = {"activation": activation}
        self.packed: tuple[Any, torch.Tensor] | None = None  # of what, and what became of it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self._fits(x):
            return self.activation(super().forward(x))
        geometry = [*self.padding], [*self.stride], [*self.dilation], self.groups
        of = (x.shape, self.weight.dtype, self.weight.data_ptr(), self.weight._version)
        packed = self.packed
        if packed is None or packed[0] != of:
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, *geometry, [*x.shape]
            )
            self.packed = packed = of, weight
        kind, numbers = ACTIVATIONS.get(type(self.activation), ("none", []))
        return torch.ops.mkldnn._convolution_pointwise(
            x, packed[1], self.bias, *geometry, kind, numbers, ""
        )

    def _fits(self, x: torch.Tensor) -> bool:
        """Tell whether oneDNN may compute it."""
        dtype = self.weight.dtype
        if x.device.type != "cpu" or x.dim() != 4 or x.dtype != dtype:
            return False
        if dtype == torch.bfloat16:
            known = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        else:
            known = dtype == torch.float32
        translated = torch.compiler.is_compiling() or torch.jit.is_tracing()
        # Tensors that were made in inference mode do not tell whether they have changed.
        changing = torch.is_grad_enabled() or self.weight.is_inference()
        return known and not (translated or changing or torch.is_autocast_enabled("cpu"))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "packed": None}  # which can be neither copied nor saved
