"""Layers that become one: BatchNorm and activations as a part of the convolution before them."""

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


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

    The places of the layers stay. Whoever learns, exports or has no oneDNN gets the same from
    both, one after the other.
    """
    for parent in [*body.modules()]:
        if not isinstance(parent, nn.Sequential):  # others may run their children in any order
            continue
        # Between the two stands nothing but what is left of a BatchNorm.
        layers = [
            (name, layer)
            for name, layer in parent.named_children()
            if not isinstance(layer, nn.Identity)
        ]
        for (name, conv), (after, activation) in pairwise([*layers, ("", nn.Identity())]):
            if not isinstance(conv, nn.Conv2d) or not _can_fuse(conv):
                continue
            if type(activation) in ACTIVATIONS:
                setattr(parent, after, nn.Identity())
            else:
                activation = nn.Identity()
            setattr(parent, name, FusedConv2d(conv, activation))


def _can_fuse(conv: nn.Conv2d) -> bool:
    """Tell whether a layer does what nn.Conv2d does, with zeros around the maps, and oneDNN can."""
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return False
    if type(conv) is not nn.Conv2d and conv.stride != (1, 1):
        return False  # SameConv2d
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, OPERATOR)):
        return False
    dtype = conv.weight.dtype
    return dtype == torch.float32 or (
        dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


OPERATOR = "_convolution_pointwise"  # PyTorch's own compiler calls it in such a place

# What oneDNN calls an activation, and its numbers.
ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}


class FusedConv2d(nn.Conv2d):
    """A convolution and the activation behind it, if there is one.

    On a CPU, where nothing is learned, oneDNN computes both in one pass over the memory, which
    is where the time goes, and with weights that it has put into its own order. PyTorch does
    not do so for one thread and filters of one pixel. What is no number becomes 0 here: weights
    are looked at when they are loaded, and the loss while they learn.
    """

    activation: nn.Module

    def __init__(self, conv: nn.Conv2d, activation: nn.Module):
        nn.Module.__init__(self)
        self.__dict__.update(conv.__dict__)  # its weights are shared, under their names
        self._modules = {"activation": activation}
        self.packed: tuple[Any, torch.Tensor] | None = None  # of what, and what became of it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.activation(super().forward(x))
        geometry = [*self.padding], [*self.stride], [*self.dilation], self.groups
        version = 0 if self.weight.is_inference() else self.weight._version
        packed, of = self.packed, (x.shape, self.weight.data_ptr(), version)
        if packed is None or packed[0] != of:
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, *geometry, [*x.shape]
            )
            self.packed = packed = of, weight
        kind, numbers = ACTIVATIONS.get(type(self.activation), ("none", []))
        return torch.ops.mkldnn._convolution_pointwise(
            x, packed[1], self.bias, *geometry, kind, numbers, ""
        )
