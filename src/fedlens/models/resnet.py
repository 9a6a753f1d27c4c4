"""Residual networks for small images: resnet8, 20, 56 (16-32-64 channels) and resnet18, 50 (64 to 512, CIFAR stem).

Source: He et al. 2016, section 4.2 (thin) and table 1 (18, 50); initialisation of convolutions He et al. 2015 (normal,
fan in). Differs from the paper: shortcuts that change shape are 1x1 convolutions with norm (option B) in the thin
networks too, where the paper pads with zeros (option A); resnet18 and 50 start with a 3x3 convolution of stride 1 and
no max pooling, as is usual for 32 x 32; resnet50 strides in its 3x3 convolution, not in the 1x1 before it. Without
norm, which the paper always has, convolutions have biases and the last one of each block starts at zero, so that the
variance does not double at every block (Zhang et al. 2019, Fixup; of its first rule only the part on branches).
resnet8 without norm reaches 0.72 in 3 epochs of digits (SGD, rate 0.01) so, and 0.11 with PyTorch's initialisation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedlens.models.norm import batch_or_nothing


def thin_resnet(blocks: int, shape: tuple[int, ...], classes: int, *, norm: bool, dropout: float) -> nn.Module:
    """Three stages of 16, 32 and 64 channels with `blocks` basic blocks each (n of the paper): depth 6n + 2."""
    return ResNet(Basic, [(16, blocks), (32, blocks), (64, blocks)], shape[0], classes, norm, dropout)


def resnet18(shape: tuple[int, ...], classes: int, *, norm: bool, dropout: float) -> nn.Module:
    """Four stages of two basic blocks."""
    return ResNet(Basic, [(64, 2), (128, 2), (256, 2), (512, 2)], shape[0], classes, norm, dropout)


def resnet50(shape: tuple[int, ...], classes: int, *, norm: bool, dropout: float) -> nn.Module:
    """Four stages of 3, 4, 6 and 3 bottleneck blocks."""
    return ResNet(Bottleneck, [(64, 3), (128, 4), (256, 6), (512, 3)], shape[0], classes, norm, dropout)


def _conv(into: int, out: int, size: int, stride: int, norm: bool) -> nn.Conv2d:
    return nn.Conv2d(into, out, size, stride=stride, padding=size // 2, bias=not norm)


def _shortcut(into: int, out: int, stride: int, norm: bool) -> nn.Module:
    """The identity where shapes agree, else option B."""
    if stride == 1 and into == out:
        return nn.Identity()
    return nn.Sequential(OrderedDict(conv=_conv(into, out, 1, stride, norm), norm=batch_or_nothing(out, norm)))


class Basic(nn.Module):
    """Two 3x3 convolutions and the shortcut: [N, into, H, W] to [N, width, H / stride, W / stride]."""

    expansion = 1

    def __init__(self, into: int, width: int, stride: int, norm: bool) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv(into, width, 3, stride, norm), batch_or_nothing(width, norm)
        self.conv2, self.norm2 = _conv(width, width, 3, 1, norm), batch_or_nothing(width, norm)
        self.shortcut = _shortcut(into, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.norm1(self.conv1(x)))
        inner = self.norm2(self.conv2(inner))
        return torch.relu(inner + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and the shortcut: [N, into, H, W] to [N, 4 width, H / stride, W / stride]."""

    expansion = 4

    def __init__(self, into: int, width: int, stride: int, norm: bool) -> None:
        super().__init__()
        out = width * self.expansion
        self.conv1, self.norm1 = _conv(into, width, 1, 1, norm), batch_or_nothing(width, norm)
        self.conv2, self.norm2 = _conv(width, width, 3, stride, norm), batch_or_nothing(width, norm)
        self.conv3, self.norm3 = _conv(width, out, 1, 1, norm), batch_or_nothing(out, norm)
        self.shortcut = _shortcut(into, out, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.norm1(self.conv1(x)))
        inner = torch.relu(self.norm2(self.conv2(inner)))
        inner = self.norm3(self.conv3(inner))
        return torch.relu(inner + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, stages of (width, blocks), mean over the image, head: [N, channels, H, W] to logits [N, classes].

    Every stage but the first halves height and width in its first block.
    """

    def __init__(
        self,
        block: type[Basic] | type[Bottleneck],
        stages: Sequence[tuple[int, int]],
        channels: int,
        classes: int,
        norm: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        into = stages[0][0]
        self.conv, self.norm = _conv(channels, into, 3, 1, norm), batch_or_nothing(into, norm)
        self.stages = nn.Sequential()
        for index, (width, blocks) in enumerate(stages, start=1):
            stage = nn.Sequential()
            for place in range(blocks):
                stage.append(block(into, width, 2 if index > 1 and place == 0 else 1, norm))
                into = width * block.expansion
            self.stages.add_module(f"stage{index}", stage)
        self.dropout: nn.Module | None = nn.Dropout(dropout) if dropout else None
        self.head = nn.Linear(into, classes)
        initialise(self, norm)

    def forward(self, x: Tensor) -> Tensor:
        features = self.stages(torch.relu(self.norm(self.conv(x)))).mean(dim=(2, 3))
        if self.dropout is not None:
            features = self.dropout(features)
        logits: Tensor = self.head(features)
        return logits


def initialise(module: nn.Module, norm: bool) -> None:
    """He et al. 2015 for convolutions; without `norm`, blocks start as the identity (their last layer is 0)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in module.modules():
        if not norm and isinstance(part, (Basic, Bottleneck)):
            nn.init.zeros_((part.conv2 if isinstance(part, Basic) else part.conv3).weight)
