"""What numbers look like, whoever made them: kept in a narrow type, or drawn as noise is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedlens.diagnosis.job import State

# The one of fewer digits first: its numbers mostly fit into the other too.
NARROW = {"bfloat16": torch.bfloat16, "float16": torch.float16}
LEAST = 64  # numbers of an entry that its spread is told from
ENTRIES = 3  # of which one spread is no chance
BELL = (2.5, 12.0)  # kurtosis: 1 for signs, 3 for normal numbers, 6 for Laplace's
APART = 4.0  # standard errors that the spreads of entries may differ by


def narrow(state: State, names: Sequence[str]) -> str:
    """The half precision type that all numbers of the entries `names` fit into although they are held in a wider one;
    "": they do not."""
    values = [state[name] for name in names if name in state and state[name].dtype in (torch.float32, torch.float64)]
    if not values or sum(int((value != 0).sum()) for value in values) < LEAST:
        return ""
    for kind, dtype in NARROW.items():
        if all(torch.equal(value.to(dtype).to(value.dtype), value) for value in values):
            return kind
    return ""


def noise_of(update: Mapping[str, Tensor]) -> float:
    """The standard deviation of an update that is alike in all its entries and bell-shaped, as noise added to every
    number is and gradients are not; 0: it is not, or entries are too few or too small to tell."""
    there = {name: value.double().flatten() for name, value in update.items() if value.numel() >= LEAST}
    if len(there) < ENTRIES or not all(bool(value.isfinite().all()) for value in there.values()):
        return 0.0
    whole = torch.cat(list(there.values()))
    power = float(whole.square().mean())
    if power <= 0:
        return 0.0
    tails = float(whole.pow(4).mean()) / power**2
    if not BELL[0] < tails < BELL[1]:
        return 0.0
    alike = all(
        abs(float(value.square().mean()) / power - 1) < APART * math.sqrt((tails - 1) / len(value))
        for value in there.values()
    )
    return math.sqrt(power) if alike else 0.0
