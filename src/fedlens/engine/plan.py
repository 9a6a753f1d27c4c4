"""Who does what in a round: cohorts, batches and rates, all drawn from (seed, round, client).

Source: McMahan et al. 2017, Algorithm 1: a random set of m clients, each with its examples shuffled into batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedlens.local.settings import Local
from fedlens.partition import Partition
from fedlens.seeds import generator
from fedlens.server.settings import Server


@dataclass(frozen=True)
class Visit:
    """One client's work in one round.

    `indices`: the client's examples in the data set; `batches`: those of each step; `weight`: before normalisation.
    """

    client: int
    round: int
    indices: np.ndarray
    batches: tuple[np.ndarray, ...]
    rate: float
    weight: float

    @property
    def examples(self) -> int:
        """n_i."""
        return len(self.indices)


class Plan(Protocol):
    """Says for every round (from 1) who does what."""

    @property
    def rounds(self) -> int: ...

    @property
    def clients(self) -> int: ...

    def visits(self, round: int) -> list[Visit]: ...


@dataclass(frozen=True)
class Federated:
    """m of K clients a round, without replacement, every client equally likely; in the order of their numbers."""

    partition: Partition
    cohort: int
    rounds: int
    local: Local
    server: Server
    seed: int

    @property
    def clients(self) -> int:
        """K."""
        return len(self.partition)

    def visits(self, round: int) -> list[Visit]:
        """The cohort of `round` (from 1)."""
        draw = generator(self.seed, "cohort", round)
        clients = np.sort(draw.choice(len(self.partition), self.cohort, replace=False))
        return [self._visit(int(client), round) for client in clients]

    def _visit(self, client: int, round: int) -> Visit:
        indices = self.partition.client(client)
        n = len(indices)
        size, steps = self.local.batch_size(n), self.local.step_count(n)
        batches = passes(indices, size, lambda number: generator(self.seed, "order", round, client, number), 0, steps)
        rate = self.local.rate(round, self.rounds, n / self.partition.sizes.mean())
        return Visit(client, round, indices, tuple(batches), rate, self.server.weight(n))


@dataclass(frozen=True)
class Pooled:
    """Centralised training as a federation of one, who holds everything.

    Every round takes `steps` batches of consecutive shuffled passes over all examples, going on where the last round
    stopped, so that a run is ordinary training cut into rounds for comparison.
    """

    indices: np.ndarray
    steps: int
    rounds: int
    local: Local
    seed: int
    clients: int = 1

    def visits(self, round: int) -> list[Visit]:
        """The one visit of `round` (from 1)."""
        n = len(self.indices)
        order = lambda number: generator(self.seed, "pooled", number)  # noqa: E731
        batches = passes(self.indices, self.local.batch_size(n), order, (round - 1) * self.steps, self.steps)
        return [Visit(0, round, self.indices, tuple(batches), self.local.rate(round, self.rounds), 1.0)]


def passes(
    indices: np.ndarray, size: int, order: Callable[[int], np.random.Generator], first: int, steps: int
) -> Iterator[np.ndarray]:
    """`steps` batches of `size` from consecutive shuffled passes over `indices`, beginning with batch `first`.

    `order(p)` shuffles pass p. The last batch of a pass may be short; it is kept.
    """
    per_pass = math.ceil(len(indices) / size)
    number, shuffled = -1, indices
    for step in range(first, first + steps):
        if step // per_pass != number:
            number = step // per_pass
            shuffled = order(number).permutation(indices)
        start = step % per_pass * size
        yield shuffled[start : start + size]
