"""Data sets that fedlens knows by name."""

from __future__ import annotations

from dataclasses import dataclass

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Known:
    """Facts about a set: `hub` is its repository there ("" when it comes with a package), `shape` is [C, H, W].

    `mean` and `std` for each channel over the training images, in units of 1 = white.
    """

    hub: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, int, int]
    train: int
    test: int
    licence: str
    citation: str


SOURCES: dict[str, Known] = {
    "digits": Known(
        hub="",
        classes=DIGITS,
        mean=(0.3059,),
        std=(0.3761,),
        shape=(1, 8, 8),
        train=1437,
        test=360,
        licence="CC BY 4.0",
        citation="Alpaydin and Kaynak 1998, Optical recognition of handwritten digits (UCI); comes with scikit-learn",
    ),
    "mnist": Known(
        hub="ylecun/mnist",
        classes=DIGITS,
        mean=(0.1307,),
        std=(0.3081,),
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        licence="MIT, says the hub",
        citation="LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document recognition",
    ),
    "cifar10": Known(
        hub="uoft-cs/cifar10",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        shape=(3, 32, 32),
        train=50_000,
        test=10_000,
        licence="not stated",
        citation="Krizhevsky 2009, Learning multiple layers of features from tiny images",
    ),
    "fashion-mnist": Known(
        hub="zalando-datasets/fashion_mnist",
        classes=(
            "T-shirt / top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        mean=(0.2860,),
        std=(0.3530,),
        shape=(1, 28, 28),
        train=60_000,
        test=10_000,
        licence="MIT",
        citation="Xiao, Rasul and Vollgraf 2017, Fashion-MNIST: a novel image dataset for benchmarking",
    ),
}
