"""Networks of depthwise-separable convolutions: mobilenet-mnist (source document 004), mobilenetv2 (CIFAR form).

Convolutions have biases only in a network without norm, which the papers do not know and which starts as He et al.
2015 say (normal, fan in), because nothing else would keep the signal up. Dropout stands before the head.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

# Sandler et al. 2018, table 2: expansion t, channels c, blocks n, stride s of the first; 24's stride is 1 for 32 x 32.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_mnist(shape: tuple[int, ...], classes: int, *, norm: bool, dropout: float) -> nn.Module:
    """A 3x3 convolution of 32 (stride 2), separable ones of 64 and 128 (stride 2), mean over the image, the head.

    Source: document 004, example 1, after Howard et al. 2017. Differs from the document: no biases before norm layers,
    hence 13,322 parameters at 1 x 28 x 28 with 10 classes; padding is one pixel on every side where Keras' "same" at
    stride 2 pads an even image only below and to the right; the head gives logits.
    """
    layers = OrderedDict[str, nn.Module](
        stem=_conv(shape[0], 32, 3, norm, stride=2),
        block1=_separable(32, 64, 1, norm),
        block2=_separable(64, 128, 2, norm),
    )
    return _finish(layers, 128, classes, dropout)


def mobilenetv2(shape: tuple[int, ...], classes: int, *, norm: bool, dropout: float) -> nn.Module:
    """Inverted residuals with linear bottlenecks, the strides of the stem and of the first narrowing set to 1.

    Source: Sandler et al. 2018, table 2. Differs from the paper: those two strides. 2,236,682 parameters with 10
    classes, as the paper's rule gives: a shortcut only where shapes agree, no expansion layer where t = 1. The count
    of 2,296,922 that is often seen for CIFAR belongs to a variant that adds 1x1 convolutions on the shortcuts of
    stride-1 blocks that change width (59,152) and an expansion layer at t = 1 (1,088).
    """
    layers = OrderedDict[str, nn.Module](stem=_conv(shape[0], 32, 3, norm, cap=6))
    into = 32
    for index, (expansion, out, blocks, stride) in enumerate(STAGES, start=1):
        stage = nn.Sequential()
        for place in range(blocks):
            stage.append(Inverted(into, out, expansion, stride if place == 0 else 1, norm))
            into = out
        layers[f"stage{index}"] = stage
    layers["last"] = _conv(into, 1280, 1, norm, cap=6)
    return _finish(layers, 1280, classes, dropout)


class Inverted(nn.Module):
    """Expand by 1x1, convolve each channel, project by 1x1 without rectifier: [N, into, H, W] to [N, out, H/s, W/s]."""

    def __init__(self, into: int, out: int, expansion: int, stride: int, norm: bool) -> None:
        super().__init__()
        hidden = into * expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion > 1:
            layers["expand"] = _conv(into, hidden, 1, norm, cap=6)
        layers["depthwise"] = _conv(hidden, hidden, 3, norm, stride=stride, groups=hidden, cap=6)
        layers["project"] = _conv(hidden, out, 1, norm, cap=0)
        self.inner = nn.Sequential(layers)
        self.adds = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.inner(x)
        return x + inner if self.adds else inner


def _separable(into: int, out: int, stride: int, norm: bool) -> nn.Module:
    depthwise = _conv(into, into, 3, norm, stride=stride, groups=into)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=_conv(into, out, 1, norm)))


def _conv(
    into: int, out: int, size: int, norm: bool, *, stride: int = 1, groups: int = 1, cap: int | None = None
) -> nn.Module:
    """Convolution, norm, rectifier: `cap` None is ReLU, 6 is ReLU6, 0 is none (a linear bottleneck)."""
    conv = nn.Conv2d(into, out, size, stride=stride, padding=size // 2, groups=groups, bias=not norm)
    layers = OrderedDict[str, nn.Module](conv=conv)
    if norm:
        layers["norm"] = nn.BatchNorm2d(out)
    elif conv.bias is not None:
        # With PyTorch's initialisation mobilenet-mnist without norm stood at 0.10 after 3 epochs of digits.
        nn.init.kaiming_normal_(conv.weight, nonlinearity="linear" if cap == 0 else "relu")
        nn.init.zeros_(conv.bias)
    if cap != 0:
        layers["relu"] = nn.ReLU() if cap is None else nn.ReLU6()
    return nn.Sequential(layers)


def _finish(layers: OrderedDict[str, nn.Module], into: int, classes: int, dropout: float) -> nn.Module:
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["head"] = nn.Linear(into, classes)
    return nn.Sequential(layers)
