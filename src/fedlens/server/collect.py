"""Accumulators: a sum that streams, or a collection for rules that must see a cohort side by side."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fedlens.errors import RunError
from fedlens.server.reduce import Sum
from fedlens.server.robust import Mean, Median
from fedlens.server.settings import AnyReducer


class Accumulator(Protocol):
    """Takes vectors [P] with their weights as they come, and gives one [P] in the end."""

    weight: float

    def add(self, vector: Tensor, weight: float) -> None: ...

    def mean(self) -> Tensor: ...


class Collected:
    """The vectors of a cohort, kept until all are there: m times the memory of a Sum."""

    def __init__(self, rule: AnyReducer) -> None:
        self.rule, self.weight = rule, 0.0
        self._vectors: list[Tensor] = []
        self._weights: list[float] = []

    def add(self, vector: Tensor, weight: float) -> None:
        """Keep `vector` [P]."""
        self.weight += weight
        self._vectors.append(vector)
        self._weights.append(weight)

    def mean(self) -> Tensor:
        """What the rule makes of the vectors [P]. Raises RunError where too few clients answered for it."""
        self.rule.check(len(self._vectors), RunError)
        weights = torch.tensor(self._weights, dtype=torch.float64).to(self._vectors[0])
        return self.rule.reduce(torch.stack(self._vectors), weights)


def for_updates(rule: AnyReducer) -> Accumulator:
    """An accumulator of what clients trained."""
    return Sum() if isinstance(rule, Mean) else Collected(rule)


def for_the_rest(rule: AnyReducer) -> Accumulator:
    """An accumulator of running statistics: a mean, or their median under a robust rule.

    A variance would decide the distances that Krum compares, and a mean of statistics would be an open door.
    """
    return Sum() if isinstance(rule, Mean) else Collected(Median())
