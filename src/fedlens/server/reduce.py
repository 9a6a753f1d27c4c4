"""Reductions of uploads. A sum streams: it needs the memory of one upload, however many clients there are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedlens.errors import ConfigurationError, FedlensError, RunError

COLUMNS = 2**16  # parameters at a time: whatever is sorted or compared needs the memory of so many columns only


class Sum:
    """The running weighted sum of vectors [P]: partial sums of two engines or workers can be added in turn."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.weight = 0.0

    @classmethod
    def of(cls, total: Tensor | None, weight: float) -> Sum:
        """The sum that `total` [P] is already (None: of nothing), of vectors whose weights add up to `weight`."""
        made = cls()
        made.total, made.weight = total, weight
        return made

    def add(self, vector: Tensor, weight: float) -> None:
        """Add `weight` times `vector` [P]."""
        self.weight += weight
        if self.total is None:
            self.total = vector * weight
        else:
            self.total.add_(vector, alpha=weight)

    def merge(self, other: Sum) -> None:
        """Add another sum of such vectors."""
        self.weight += other.weight
        if other.total is not None:
            self.total = other.total.clone() if self.total is None else self.total.add_(other.total)

    def mean(self) -> Tensor:
        """The weighted mean [P]. Weights are normalised here and nowhere else, over the uploads that came."""
        if self.total is None or self.weight <= 0:
            raise RunError("there is nothing to average", seen=f"total weight {self.weight:g}", do="Check the cohort.")
        return self.total / self.weight


def mean_of(vectors: Tensor, weights: Tensor) -> Tensor:
    """The mean [P] of `vectors` [m, P], each as often as `weights` [m] says, through Sum."""
    total = Sum()
    for vector, weight in zip(vectors, weights.tolist(), strict=True):
        total.add(vector, weight)
    return total.mean()


def by_columns(reduce: Callable[[Tensor], Tensor], vectors: Tensor) -> Tensor:
    """`reduce` [m, p] -> [p] over `vectors` [m, P], some columns at a time: [P]."""
    return torch.cat([reduce(part) for part in torch.split(vectors, COLUMNS, dim=1)])


def enough(
    m: int, least: int, rule: str, because: str = "", do: str = "", error: type[FedlensError] = ConfigurationError
) -> None:
    """Raise `error` where a cohort of `m` uploads is below the `least` that `rule` needs."""
    if m >= least:
        return
    needs = f"{rule} needs at least {least} upload{'s' if least > 1 else ''}{because}"
    raise error(needs, where="server.reduce", seen=f"{m} in the cohort", do=do or "Let more clients take part.")
