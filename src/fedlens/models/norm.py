"""Normalisation layers: where they stand and what is put in their place.

Sources: batch, Ioffe and Szegedy 2015; group, Wu and He 2018; layer, Ba et al. 2016. "layer" is GroupNorm with one
group: statistics over channels, height and width of one image, and one scale and shift a channel (Ba et al. learn one
for every entry, which would tie a convolutional network to its image size).
"""

from __future__ import annotations

import math

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedlens.errors import ConfigurationError
from fedlens.models.settings import Norm


def batch_or_nothing(channels: int, norm: bool) -> nn.Module:
    """The layer that stands after a convolution: BatchNorm2d, or an Identity in a network without normalisation."""
    return nn.BatchNorm2d(channels) if norm else nn.Identity()


def batch_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """The batch normalisation layers of `module` by dotted path, a layer used under two names under both."""
    named = module.named_modules(remove_duplicate=False)
    return {path: part for path, part in named if isinstance(part, _BatchNorm)}


def swap_norm(module: nn.Module, kind: Norm, groups: int) -> nn.Module:
    """Put normalisation of `kind` in place of every BatchNorm (1d, 2d, 3d) of `module`, and return it.

    Changed in place, save where `module` is itself a BatchNorm. Epsilon, scale and shift are carried over as the same
    parameters (their values, whether they train, what they are tied to); running statistics have no heir. "batch"
    changes nothing and "none" leaves an Identity; layers of other kinds are not touched.
    Raises ConfigurationError, naming a layer, where `groups` does not divide its channels; nothing is changed then.
    """
    if kind == "batch":
        return module
    found = batch_norms(module)
    if kind == "group":
        _check_groups({path: layer.num_features for path, layer in found.items()}, groups)
    heirs = {id(layer): _heir(layer, kind, groups) for layer in found.values()}
    for path, layer in found.items():
        if not path:
            return heirs[id(layer)]
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, heirs[id(layer)])
    return module


def _heir(layer: _BatchNorm, kind: Norm, groups: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    heir = nn.GroupNorm(groups if kind == "group" else 1, layer.num_features, eps=layer.eps, affine=layer.affine)
    if layer.affine:
        heir.weight, heir.bias = layer.weight, layer.bias
    return heir.train(layer.training)


def _check_groups(channels: dict[str, int], groups: int) -> None:
    wrong = [path for path, count in channels.items() if count % groups]
    if not wrong:
        return
    shared = math.gcd(*channels.values())
    fitting = [str(count) for count in range(1, shared + 1) if shared % count == 0]
    first, others = wrong[0], len(wrong) - 1
    more = f"; so in {others} other layer{'s' if others > 1 else ''}" if others else ""
    raise ConfigurationError(
        f"{groups} groups do not divide the {channels[first]} channels of layer '{first}'",
        where="model.groups",
        seen=f"groups = {groups}{more}",
        do=f"Set groups to a number that divides the channels of every layer: {', '.join(fitting)}.",
    )
