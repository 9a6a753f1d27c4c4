"""Noise by its looks: of a whole update, and of what was added to weights after their last step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedlens.diagnosis.job import State
from fedlens.diagnosis.watch.trained import Begun

LEAST, FEW = 64, 16  # numbers of an entry, or of its rows, that its spread is told from: many entries, and any
ENTRIES = 3  # of which one spread is no chance
BELL = (2.5, 12.0)  # kurtosis: 1 for signs, 3 for normal numbers, 6 for Laplace's
APART = 4.0  # standard errors that the spreads of entries may differ by
WITHIN = 3.0  # times what chance makes of it, that the squared spreads of an entry's rows may vary
KEPT, SOME = 4096, 12  # numbers of a parameter, and parameters, that are kept after each step
CLOSE = 1e-5  # of the largest number sent, below which one is 0 but for rounding
SEEN = 1e-3  # of the change by training, from which what was added is more than rounding


def noise_of(update: Mapping[str, Tensor]) -> float:
    """The standard deviation of an update that is alike in all its entries and their rows, and bell-shaped, as noise
    added to every number is and gradients are not; 0: it is not, or entries are too few or too small to tell."""
    there = {name: value.double() for name, value in update.items() if value.numel() >= FEW}
    large = [value for value in there.values() if value.numel() >= LEAST]
    if len(large) < ENTRIES or not all(bool(value.isfinite().all()) for value in there.values()):
        return 0.0
    whole = torch.cat([value.flatten() for value in large])
    power = float(whole.square().mean())
    if power <= 0:
        return 0.0
    tails = float(whole.pow(4).mean()) / power**2
    if not BELL[0] < tails < BELL[1]:
        return 0.0
    alike = all(
        abs(float(value.square().mean()) / power - 1) < APART * math.sqrt((tails - 1) / value.numel())
        and _rows_alike(value, tails)
        for value in there.values()
    )
    return math.sqrt(power) if alike else 0.0


def _rows_alike(value: Tensor, tails: float) -> bool:
    """Whether the rows of an entry are as large as each other, but for chance: those of a layer that learns are not."""
    rows = value.flatten(1) if value.dim() > 1 else value.reshape(1, -1)
    if len(rows) < FEW or rows.shape[1] < FEW:
        return True
    powers = rows.square().mean(dim=1)
    return float((powers / powers.mean() - 1).square().mean()) < WITHIN * (tails - 1) / rows.shape[1]


class Last:
    """Some numbers of some parameters as the last step left them: what is returned may have been changed after it."""

    def __init__(self) -> None:
        self._kept: dict[int, Tensor] = {}

    def keep(self, begun: Mapping[int, Begun]) -> None:
        """A step was taken."""
        large = [(key, one.parameter) for key, one in begun.items() if one.parameter.numel() >= LEAST][:SOME]
        self._kept = {key: parameter.detach().reshape(-1)[:KEPT].clone() for key, parameter in large}

    def told(
        self, begun: Sequence[Begun], entries: Sequence[str | None], received: State, returned: State
    ) -> dict[str, float]:
        """The fields of Watched that speak of what was returned beside what the last step left."""
        ends, sent, back = {}, {}, {}
        for one, name in zip(begun, entries, strict=True):
            end = self._kept.get(id(one.parameter))
            if end is None or name is None or name not in returned or returned[name].shape != one.parameter.shape:
                continue
            ends[name] = end.double().cpu()
            sent[name], back[name] = (x[name].reshape(-1)[:KEPT].double() for x in (received, returned))
        if len(ends) < ENTRIES:
            return {}
        change = torch.cat([ends[name] - sent[name] for name in ends])
        ways = [
            {name: back[name] - end for name, end in ends.items()},
            {name: back[name] - (end - sent[name]) for name, end in ends.items()},
            {name: back[name] + (end - sent[name]) for name, end in ends.items()},
        ]
        added = min(ways, key=lambda way: sum(float(value.square().sum()) for value in way.values()))
        found, whole = noise_of(added), torch.cat(list(added.values()))
        scale = float(whole.norm() * change.norm())
        along = abs(float(whole @ change)) / scale if scale else 1.0
        if found <= SEEN * float(change.square().mean().sqrt()) or along > APART / math.sqrt(len(whole)):
            found = 0.0
        travelled = (-change if added is ways[2] else change) + whole
        kept = travelled.abs() > CLOSE * travelled.abs().max()
        part = float(change[kept].norm())
        return {"added": found, "beyond": float(whole[kept].norm()) / part if part else 0.0}
