"""Clients that attack: what they train on or send is not what an honest client would. To test defences against.

Sources: sign flip and Gaussian: Blanchard et al. 2017, section 5 (omniscient and Gaussian attackers), in the form of
Li et al., "RSA", AAAI 2019; scaled: Bagdasaryan et al. 2020 (model replacement); label flip: Tolpegin et al. 2020.
Running statistics are sent honestly.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from fedlens.settings import Positive, settings
from fedlens.short import spelled_out


class _Honest:
    """What an attacker does not say otherwise about, it does as an honest client."""

    def labels(self, labels: Tensor, classes: int) -> Tensor:
        """The labels [B] that it trains on."""
        return labels

    def update(self, update: Tensor, rng: np.random.Generator) -> Tensor:
        """The update [T] that it sends, given what honest training would send."""
        return update


@settings
class SignFlip(_Honest):
    """Send -`factor` times their update."""

    factor: Positive = 1.0
    kind: Literal["sign-flip"] = "sign-flip"

    def update(self, update: Tensor, rng: np.random.Generator) -> Tensor:
        return -self.factor * update


@settings
class Scaled(_Honest):
    """Send `factor` times their update."""

    factor: Positive = 10.0
    kind: Literal["scaled"] = "scaled"

    def update(self, update: Tensor, rng: np.random.Generator) -> Tensor:
        return self.factor * update


@settings
class Gaussian(_Honest):
    """Send noise: `factor` times as long as their update, in a random direction."""

    factor: Positive = 1.0
    kind: Literal["gaussian"] = "gaussian"

    def update(self, update: Tensor, rng: np.random.Generator) -> Tensor:
        noise: Tensor = torch.from_numpy(rng.standard_normal(update.shape[-1])).to(update)
        length = self.factor * float(update.norm() / noise.norm())
        return noise * length


@settings
class LabelFlip(_Honest):
    """Train on label C - 1 - y in place of y."""

    kind: Literal["label-flip"] = "label-flip"

    def labels(self, labels: Tensor, classes: int) -> Tensor:
        return classes - 1 - labels


ATTACKS: dict[str, type] = {"sign-flip": SignFlip, "scaled": Scaled, "gaussian": Gaussian, "label-flip": LabelFlip}

AnyAttack = Annotated[
    SignFlip | Scaled | Gaussian | LabelFlip,
    Field(discriminator="kind"),
    BeforeValidator(lambda value: spelled_out(value, ATTACKS, "attack")),
]
