"""The layers of our own networks: EfficientNet-Lite and the basic CNN."""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


class SameConv2d(nn.Conv2d):
    """A convolution without bias and with TensorFlow's SAME padding.

    The output's side is ceil(side / stride); where the padding is odd, the extra row and
    column go to the bottom and the right.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stride = self.stride[0]
        if stride == 1:
            return super().forward(x)
        # Padding the input by hand would copy it. Where one side needs a pixel more, both
        # sides get that and a stride, and the first row or column of the output is dropped.
        padding = [
            max((math.ceil(side / stride) - 1) * stride + self.kernel_size[0] - side, 0)
            for side in x.shape[2:]
        ]
        odd = [pixels % 2 for pixels in padding]
        padding = [pixels // 2 + stride * o for pixels, o in zip(padding, odd)]
        y = F.conv2d(x, self.weight, self.bias, stride, padding, 1, self.groups)
        return y[:, :, odd[0] :, odd[1] :]


def _conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = SameConv2d(inputs, outputs, kernel, stride, groups)
    return [conv, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)]


def _relu6() -> nn.Module:
    return nn.ReLU6(inplace=True)  # small things stay in the cache


class InvertedResidual(nn.Sequential):
    """Expand, filter each channel, project; added to the input where the shapes allow it.

    Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks" (CVPR 2018).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        hidden = inputs * expansion
        layers = [*_conv_bn(inputs, hidden, 1), _relu6()] if expansion > 1 else []
        layers += [*_conv_bn(hidden, hidden, kernel, stride, groups=hidden), _relu6()]
        super().__init__(*layers, *_conv_bn(hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y.add_(x) if self.residual else y


def efficientnet_lite(width: float = 1.0, depth: float = 1.0) -> nn.Sequential:
    """Build an EfficientNet-Lite without its classifier: (N, 3, H, W) to (N, 1280, 1, 1).

    Tan & Le, "EfficientNet" (ICML 2019), in the Lite form of TensorFlow's TPU repository: ReLU6, no
    squeeze-and-excitation. `width` multiplies Lite0's channels, rounded to multiples of 8, but for
    stem and end; `depth` its repeats, rounded up, but for the first and the last stage. The layers
    stand in the order of the PyPI files.
    """
    stages = [  # outputs, repeats, stride, expansion, kernel
        (16, 1, 1, 1, 3),
        (24, 2, 2, 6, 3),
        (40, 2, 2, 6, 5),
        (80, 3, 2, 6, 3),
        (112, 3, 1, 6, 5),
        (192, 4, 2, 6, 5),
        (320, 1, 1, 6, 3),
    ]
    layers, channels = [nn.Sequential(*_conv_bn(3, 32, 3, stride=2), _relu6())], 32
    for outputs, repeats, stride, expansion, kernel in stages:
        outputs = 8 * math.floor(outputs * width / 8 + 0.5)
        if repeats > 1:
            repeats = math.ceil(repeats * depth)
        for repeat in range(repeats):
            layers.append(
                InvertedResidual(channels, outputs, kernel, stride if repeat == 0 else 1, expansion)
            )
            channels = outputs
    layers.append(nn.Sequential(*_conv_bn(channels, 1280, 1), _relu6()))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))


def basic_cnn() -> nn.Sequential:
    """Build the body of the basic CNN: (N, 3, S, S) to (N, 256, S / 8, S / 8).

    Thirteen layers; the linear head that follows is the fourteenth and last. The maps shrink
    early and become many late: most of the work is done where little room is left.
    """
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 64, 5, stride=2, padding=2),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 256, 3, padding=1),
        nn.BatchNorm2d(256),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, stride=2, padding=1),
        nn.BatchNorm2d(256),
        nn.ReLU(),
    )


def fold_batch_norm(body: nn.Module) -> None:
    """Fold every BatchNorm that follows a convolution into it, with its running statistics.

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
