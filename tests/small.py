"""Small things that tests train on: 60 noisy coloured images in three classes, and networks for them."""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from fedlens import Clients, Data, Experiment, Local, Model, References
from fedlens.data import Dataset

CLASSES = ("a", "b", "c")


def _images(count: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 120, size=(count, 3, 8, 8), dtype=np.uint8)
    images[np.arange(count), labels] += 100
    return Dataset(torch.from_numpy(images), torch.from_numpy(labels), CLASSES, (0.4,) * 3, (0.25,) * 3)


def split() -> tuple[Dataset, Dataset]:
    """60 training and 30 test images u8 [N, 3, 8, 8]."""
    return _images(60, 1), _images(30, 2)


def conv_bn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A small convolution, batch norm and dropout: every kind of state a round has to carry."""
    layers = OrderedDict(
        conv=nn.Conv2d(shape[0], 4, 3, padding=1),
        norm=nn.BatchNorm2d(4),
        relu=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(2),
        flatten=nn.Flatten(),
        dropout=nn.Dropout(0.2),
        head=nn.Linear(16, classes),
    )
    return nn.Sequential(layers)


def conv_bn_without_dropout(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The same, with nothing random in it."""
    module = conv_bn(shape, classes)
    module.dropout = nn.Identity()
    return module


def experiment(**changes: object) -> Experiment:
    """A run of a second: 6 clients, 3 a round, 4 rounds."""
    settings: dict[str, object] = {
        "name": "small",
        "rounds": 4,
        "data": Data("small:split"),
        "clients": Clients(count=6, cohort=3),
        "model": Model("small:conv_bn"),
        "local": Local(batch=4, lr=0.05),
        "references": References(centralised=False),
    }
    return Experiment(**{**settings, **changes})
