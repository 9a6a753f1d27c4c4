"""Reductions of uploads. A sum streams: it needs the memory of one upload, however many clients there are."""

from __future__ import annotations

from torch import Tensor

from fedlens.errors import RunError


class Sum:
    """The running weighted sum of vectors [P]: partial sums of two engines or workers can be added in turn."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.weight = 0.0

    def add(self, vector: Tensor, weight: float) -> None:
        """Add `weight` times `vector` [P]."""
        self.weight += weight
        if self.total is None:
            self.total = vector * weight
        else:
            self.total.add_(vector, alpha=weight)

    def mean(self) -> Tensor:
        """The weighted mean [P]. Weights are normalised here and nowhere else, over the uploads that came."""
        if self.total is None or self.weight <= 0:
            raise RunError("there is nothing to average", seen=f"total weight {self.weight:g}", do="Check the cohort.")
        return self.total / self.weight
