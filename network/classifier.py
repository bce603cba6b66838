"""A network from pixels to logits, of which the first layers may be frozen."""

from collections.abc import Iterable, Sequence

import torch
from torch import nn


def chain(module: nn.Module) -> list[nn.Module]:
    """List the layers that a module runs one after the other, if that is all that it does.

    Residual blocks and the like stay whole. `find_feature_layers` checks the list.
    """
    layers: list[nn.Module] = []
    for child in module.children():
        layers += chain(child) if type(child).forward is nn.Sequential.forward else [child]
    return layers


def run_layer(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run a layer of a chain on what the one before it returned."""
    # Between maps and linear layers torchvision's networks flatten in their forward().
    return layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)


def count_frozen_layers(body: nn.Module) -> int:
    """Return how many layers of `chain(body)` come before its last third of layers with weights.

    These respond to edges and textures, which serve flowers as they are: freezing them costs
    little accuracy and saves most of an epoch's time.
    """
    with_weights = [i for i, layer in enumerate(chain(body)) if [*layer.parameters()]]
    return with_weights[len(with_weights) * 2 // 3]


def find_feature_layers(body: nn.Module, images: torch.Tensor) -> list[int]:
    """Choose the layers of a pretrained body whose outputs the head takes, as indices in `chain`.

    These are the last ones of every stage that ends with the frozen layers (see
    `count_frozen_layers`) or after them; a stage is a run of layers whose outputs have the same
    shape. Features of several layers classify better (Evci et al., "Head2Toe", ICML 2022). The body
    is in evaluation mode, and `images` are some input for it (N, 3, S, S). None where it is more
    than a chain with pooling last.
    """
    layers, shapes, x = chain(body), list[torch.Size](), images
    try:
        for layer in layers:
            x = run_layer(layer, x)
            shapes.append(x.shape)
        pooled = x.mean((2, 3)) if x.dim() == 4 else x
        output = body(images).flatten(1)
    except (RuntimeError, TypeError, ValueError):  # its forward() does other things in between
        return []
    if pooled.shape != output.shape or not torch.allclose(pooled, output, rtol=1e-3, atol=1e-4):
        return []
    feature_layers, start, num_frozen = list[int](), 0, count_frozen_layers(body)
    for end in range(len(layers)):
        if end + 1 == len(layers) or shapes[end + 1] != shapes[end]:
            # A stage without weights, such as the pooling at the end, adds nothing.
            stage = nn.Sequential(*layers[start : end + 1])
            if end >= num_frozen - 1 and [*stage.parameters()]:
                feature_layers.append(end)
            start = end + 1
    return feature_layers


def pool(x: torch.Tensor) -> torch.Tensor:
    """Take each channel's mean and standard deviation: (N, C, H, W) to float32 (N, 2 C).

    Vectors (N, F) stay as they are.
    """
    if x.dim() == 2:
        return x.float()
    x = x.float()
    mean = x.mean((2, 3), keepdim=True)
    variance = (x - mean).square().mean((2, 3))  # quicker than var_mean()
    return torch.cat([mean.flatten(1), (variance + 1e-5).sqrt()], 1)  # the root of 0 has no slope


class Classifier(nn.Module):
    """A network from pixels to logits: normalisation, body, pooling, head.

    Takes uint8 images (N, S, S, 3), 0..255, as `load_batches` yields them, and returns logits
    (N, C). `feature_layers` are indices in `chain(body)`: the head takes the pooled outputs of
    these layers, or without any the output of the body, flattened.

    `run_frozen` runs the first `num_frozen` layers, and `features` and `forward` the others on
    its output, or on images where `num_frozen` is 0.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module,
        mean: Iterable[float],
        std: Iterable[float],
        feature_layers: Sequence[int] = (),
    ):
        super().__init__()
        self.body, self.head, self.feature_layers = body, head, feature_layers
        # Not in the state dict: the checkpoint's preprocessing holds them.
        self.register_buffer("mean", torch.tensor([*mean]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([*std]).view(3, 1, 1), persistent=False)
        self.temperature = 1.0  # of a checkpoint the calibrated one
        self.class_means = torch.empty(0)  # of a checkpoint (C, C), for `ood_score`
        self.frozen_statistics = False

    def _normalise(self, images: torch.Tensor) -> torch.Tensor:
        # The permuted view is what PyTorch calls channels_last, the fast layout.
        x = images.permute(0, 3, 1, 2).float().sub_(self.mean).div_(self.std)
        return x.to(self.precision)

    @property
    def num_classes(self) -> int:
        """How many categories it tells apart."""
        return [*self.head.parameters()][-1].numel()  # the last bias

    @property
    def precision(self) -> torch.dtype:
        """The type of the body's weights."""
        return next(self.body.parameters()).dtype

    def run_frozen(self, images: torch.Tensor, num_frozen: int) -> torch.Tensor:
        """Run the frozen layers, at least one, on images (N, S, S, 3)."""
        x = self._normalise(images)
        for layer in chain(self.body)[:num_frozen]:
            x = run_layer(layer, x)
        return x

    def features(self, x: torch.Tensor, num_frozen: int = 0) -> torch.Tensor:
        """Compute the input of the head from the output of `run_frozen`: float32 (N, F)."""
        x = self._normalise(x) if num_frozen == 0 else x.to(self.precision)
        if not self.feature_layers:
            return self.body(x).flatten(1).float()
        layers, found = chain(self.body), []
        for i in range(num_frozen - 1, self.feature_layers[-1] + 1):
            if i >= num_frozen:
                x = run_layer(layers[i], x)
            if i in self.feature_layers:
                found.append(pool(x))
        return torch.cat(found, 1)

    def forward(self, x: torch.Tensor, num_frozen: int = 0) -> torch.Tensor:
        return self.head(self.features(x, num_frozen)) / self.temperature

    def train(self, mode: bool = True) -> "Classifier":
        """Set the mode; with `frozen_statistics` BatchNorm stays in evaluation mode.

        Fine-tuning starts from a linear probe on features of evaluation mode.
        """
        super().train(mode)
        if self.frozen_statistics:
            self.freeze_statistics()
        return self

    def freeze_statistics(self) -> None:
        """Make BatchNorm use its running statistics instead of the batch's until `train()`."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
