"""Which network, as the user writes it."""

from __future__ import annotations

from typing import Literal

from fedlens.settings import Count, Fraction, settings

Norm = Literal["batch", "group", "layer", "none"]


@settings
class Model:
    """The network that every client trains.

    `name` is one of MODELS, or `package.module:function` of the user's own, which gives an `nn.Module`. `norm` is what
    stands after the convolutions (None: the model's own default): batch (Ioffe and Szegedy 2015), group (Wu and He
    2018, in `groups` groups of channels), layer (one group over channels, height and width), none. `dropout` is the
    probability of zeroing an input of the last layer.
    """

    name: str = "resnet8"
    norm: Norm | None = None
    groups: Count = 8
    dropout: Fraction = 0.0
