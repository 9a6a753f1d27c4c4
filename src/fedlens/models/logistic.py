"""Multinomial logistic regression: one linear layer on the pixels. The one model here whose loss is convex."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from fedlens.errors import ConfigurationError


def logistic(shape: tuple[int, ...], classes: int, *, norm: bool, dropout: float) -> nn.Module:
    """Images [N, C, H, W] to logits [N, classes]; 7,850 parameters at 1 x 28 x 28 with 10 classes.

    Source: McCullagh and Nelder 1989, chapter 5. Differs: a weight vector for every class, not for all but one, so that
    weights are defined up to a vector that is the same for all classes. Raises ConfigurationError for normalisation.
    """
    if norm:
        raise ConfigurationError(
            "'logistic' has no hidden layer to normalise",
            where="model.norm",
            seen="a norm other than none",
            do="Leave norm unset, or choose another model, such as mlp.",
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["head"] = nn.Linear(math.prod(shape), classes)
    return nn.Sequential(layers)
