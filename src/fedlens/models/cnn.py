"""Plain convolutional networks: cnn (McMahan et al. 2017), cifar-cnn (Reddi et al. 2021), lenet (LeCun et al. 1998),
small-cnn (ours).

All end in a layer called `head`. Normalisation, where asked for, stands between a layer and its rectifier, and a layer
followed by one has no bias, because the shift of the normalisation takes its place. Dropout stands before the head.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

Layers = OrderedDict[str, nn.Module]


def cnn(shape: tuple[int, ...], classes: int, *, norm: bool, dropout: float) -> nn.Module:
    """McMahan et al. 2017, section 3: 5x5 convolutions of 32 and 64 with 2x2 max pooling, 512 units, the head.

    1,663,370 parameters at 1 x 28 x 28 with 10 classes, as the paper counts. Differs from the paper: nothing; the
    paper does not state an initialisation, so it is PyTorch's. Images of 4 x 4 or more.
    """
    channels, height, width = shape
    layers: Layers = OrderedDict()
    _convolve(layers, 1, channels, 32, size=5, padding=2, norm=norm)
    _convolve(layers, 2, 32, 64, size=5, padding=2, norm=norm)
    layers["flatten"] = nn.Flatten()
    _connect(layers, 1, 64 * (height // 4) * (width // 4), 512, norm=norm)
    return _finish(layers, 512, classes, dropout)


def cifar_cnn(shape: tuple[int, ...], classes: int, *, norm: bool, dropout: float) -> nn.Module:
    """3x3 convolutions of 32 and 64 without padding, 2x2 max pooling after the second, 128 units, the head.

    Source: Reddi et al. 2021, their network for EMNIST, which pfl-research (Granqvist et al. 2024) takes for CIFAR-10:
    1,626,442 parameters at 3 x 32 x 32 with 10 classes. Differs: they drop 0.25 after pooling and 0.5 before the head;
    here nothing is dropped unless asked for, and half of `dropout` stands after pooling. The initialisation is
    PyTorch's, not Glorot's. Images of 6 x 6 or more.
    """
    channels, height, width = shape
    layers: Layers = OrderedDict()
    _convolve(layers, 1, channels, 32, size=3, padding=0, norm=norm, pool=False)
    _convolve(layers, 2, 32, 64, size=3, padding=0, norm=norm)
    if dropout:
        layers["dropout2"] = nn.Dropout(dropout / 2)
    layers["flatten"] = nn.Flatten()
    _connect(layers, 1, 64 * ((height - 4) // 2) * ((width - 4) // 2), 128, norm=norm)
    return _finish(layers, 128, classes, dropout)


def lenet(shape: tuple[int, ...], classes: int, *, norm: bool, dropout: float) -> nn.Module:
    """LeNet-5's plan: 5x5 convolutions of 6 and 16 without padding, 120 and 84 units, the head.

    Source: LeCun et al. 1998. Differs from the paper: rectifiers for tanh, max pooling for trained subsampling, every
    map sees every other, a linear head for radial basis functions. 62,006 parameters at 3 x 32 x 32 with 10 classes.
    Images of 16 x 16 or more. With norm "group", groups must divide 6, 16, 120 and 84: 1 or 2.
    """
    channels, height, width = shape
    layers: Layers = OrderedDict()
    _convolve(layers, 1, channels, 6, size=5, padding=0, norm=norm)
    _convolve(layers, 2, 6, 16, size=5, padding=0, norm=norm)
    layers["flatten"] = nn.Flatten()
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, width))
    _connect(layers, 1, 16 * rows * columns, 120, norm=norm)
    _connect(layers, 2, 120, 84, norm=norm)
    return _finish(layers, 84, classes, dropout)


def small_cnn(shape: tuple[int, ...], classes: int, *, norm: bool, dropout: float) -> nn.Module:
    """Ours, for 8 x 8 digits: 3x3 convolutions of 16 and 32 with 2x2 max pooling, the head. Images of 4 x 4 or more.

    The head's size follows the image. Adaptive pooling would fix it, but its backward pass on CUDA is not
    deterministic where it averages to more than one cell.
    """
    channels, height, width = shape
    layers: Layers = OrderedDict()
    _convolve(layers, 1, channels, 16, size=3, padding=1, norm=norm)
    _convolve(layers, 2, 16, 32, size=3, padding=1, norm=norm)
    layers["flatten"] = nn.Flatten()
    return _finish(layers, 32 * (height // 4) * (width // 4), classes, dropout)


def _convolve(
    layers: Layers, index: int, into: int, out: int, *, size: int, padding: int, norm: bool, pool: bool = True
) -> None:
    layers[f"conv{index}"] = nn.Conv2d(into, out, size, padding=padding, bias=not norm)
    if norm:
        layers[f"norm{index}"] = nn.BatchNorm2d(out)
    layers[f"relu{index}"] = nn.ReLU()
    if pool:
        layers[f"pool{index}"] = nn.MaxPool2d(2)


def _connect(layers: Layers, index: int, into: int, out: int, *, norm: bool) -> None:
    layers[f"fc{index}"] = nn.Linear(into, out, bias=not norm)
    if norm:
        layers[f"fcnorm{index}"] = nn.BatchNorm1d(out)
    layers[f"fcrelu{index}"] = nn.ReLU()


def _finish(layers: Layers, into: int, classes: int, dropout: float) -> nn.Module:
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["head"] = nn.Linear(into, classes)
    return nn.Sequential(layers)
