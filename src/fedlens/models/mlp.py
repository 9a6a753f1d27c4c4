"""One hidden layer.

Source: McMahan et al. 2017, section 3. Differs from the paper: its "2NN" has two hidden layers of 200 units (199,210
parameters on 28 x 28); the form with one (159,010) is what this project's source documents and its benchmark use.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

HIDDEN = 200


def mlp(shape: tuple[int, ...], classes: int, *, norm: bool, dropout: float) -> nn.Module:
    """Images [N, C, H, W] to logits [N, classes] through 200 rectified units; norm, if any, before the rectifier."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    layers["fc1"] = nn.Linear(math.prod(shape), HIDDEN, bias=not norm)
    if norm:
        layers["norm1"] = nn.BatchNorm1d(HIDDEN)
    layers["relu1"] = nn.ReLU()
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["head"] = nn.Linear(HIDDEN, classes)
    return nn.Sequential(layers)
