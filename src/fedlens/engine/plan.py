"""Who does what in a round, and whose work arrives: all drawn from (seed, round, client).

Source: McMahan et al. 2017, Algorithm 1: a random set of m clients, each with its examples shuffled into batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, overload

import numpy as np

from fedlens.engine.network import Fate, Journey, Load, Network, arrive, duration
from fedlens.engine.select import AnySelection, Losses, Uniform
from fedlens.errors import RunError
from fedlens.local.settings import Local
from fedlens.partition import Partition
from fedlens.partition.partition import Ints
from fedlens.partition.shuffled import shuffled
from fedlens.seeds import generator
from fedlens.server.settings import Server


@dataclass(frozen=True)
class Passes(Sequence[np.ndarray]):
    """`steps` batches of `size` from consecutive shuffled passes over `indices`, beginning with batch `first`.

    Pass p is shuffled by the generator of (seed, purpose, *coordinates, p). The last batch of a pass may be short; it
    is kept. Nothing is drawn before a batch is asked for, so that it happens where the batch is used.
    """

    indices: Ints | range
    size: int
    steps: int
    seed: int
    purpose: str
    coordinates: tuple[int, ...] = ()
    first: int = 0

    def __len__(self) -> int:
        """K_i."""
        return self.steps

    def __iter__(self) -> Iterator[np.ndarray]:
        step, end = self.first, self.first + self.steps
        while step < end:
            number, at = divmod(step, self._per_pass)
            stop = min(self._per_pass, at + end - step)
            rng = generator(self.seed, self.purpose, *self.coordinates, number)
            order = shuffled(self.indices, rng)[at * self.size : stop * self.size]
            yield from (order[start : start + self.size] for start in range(0, len(order), self.size))
            step += stop - at

    @overload
    def __getitem__(self, which: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, which: slice) -> Sequence[np.ndarray]: ...

    def __getitem__(self, which: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        return list(self)[which]

    def only(self, steps: int) -> Passes:
        """The first `steps` of these."""
        return replace(self, steps=steps)

    @property
    def sizes(self) -> np.ndarray:
        """The examples of every batch, i64 [steps]."""
        at = np.arange(self.first, self.first + self.steps) % self._per_pass * self.size
        return np.minimum(self.size, len(self.indices) - at)

    @property
    def _per_pass(self) -> int:
        return math.ceil(len(self.indices) / self.size)


@dataclass(frozen=True)
class Visit:
    """One client's work in one round.

    `indices`: the client's examples in the data set; `batches`: those of each step; `weight`: before normalisation;
    `frozen_statistics`: whether batch norm is to leave its running statistics alone; `cut`: steps that were planned
    after the last of `batches`, and that the network's deadline left no time for.
    """

    client: int
    round: int
    indices: Ints | range
    batches: Sequence[np.ndarray]
    rate: float
    weight: float
    frozen_statistics: bool = False
    cut: int = 0

    @property
    def examples(self) -> int:
        """n_i."""
        return len(self.indices)

    @property
    def sizes(self) -> np.ndarray:
        """The examples of every batch, i64 [K_i]."""
        return self.batches.sizes if isinstance(self.batches, Passes) else np.array([len(b) for b in self.batches])


@dataclass(frozen=True)
class Draw:
    """What a round comes to before any training.

    `visits`: the work whose uploads arrive and count, perhaps none, in the order of clients; `journeys`: one for each
    invited client, in the same order, and none without a network; `unavailable`: ids that could not be reached, i64;
    `seconds`: the round's simulated duration.
    """

    visits: list[Visit]
    journeys: list[Journey]
    unavailable: Ints
    seconds: float

    def clients(self, outcome: Fate) -> list[int]:
        """The invited clients whose visit came to `outcome`."""
        return [journey.client for journey in self.journeys if journey.outcome == outcome]


class Plan(Protocol):
    """Says for every round (from 1) who does what.

    `losses` is asked by selections that look at the current model, and by no others.
    """

    @property
    def rounds(self) -> int: ...

    @property
    def clients(self) -> int: ...

    def draw(self, round: int, losses: Losses | None = None) -> Draw: ...

    def visits(self, round: int, losses: Losses | None = None) -> list[Visit]: ...


@dataclass(frozen=True)
class Federated:
    """m of K clients a round, chosen as `selection` says, in the order of their numbers.

    `bytes_down`, `bytes_up`: what a visit moves; `mflop_per_example`: the work of one example in one step, forward and
    backward, in million operations. They matter to the network alone; without one, every visit arrives at once.
    """

    partition: Partition
    cohort: int
    rounds: int
    local: Local
    server: Server
    seed: int
    selection: AnySelection = field(default_factory=Uniform)
    network: Network | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    mflop_per_example: float = 0.0

    @property
    def clients(self) -> int:
        """K."""
        return len(self.partition)

    def draw(self, round: int, losses: Losses | None = None) -> Draw:
        """The cohort of `round` (from 1) and its journeys. Raises RunError where `losses` are needed and not given.

        A client whose upload does not arrive is as one that was not invited: it remembers nothing of the round.
        """
        network = self.network or Network()
        available = network.reachable(self.clients, self.seed, round)
        rng = generator(self.seed, "cohort", round)
        wanted, sizes = network.invited(self.cohort), self.partition.sizes
        chosen = self.selection.choose(available, sizes, wanted, rng, losses or _unknown)
        planned = [self.visit(int(client), round) for client in chosen]
        if network == Network():  # where nothing takes time and everybody arrives
            return Draw(planned, [], available[:0], 0.0)
        journeys = arrive(network, [self._load(visit) for visit in planned], self.cohort, self.seed, round)
        visits = [
            _shortened(visit, journey.steps)
            for visit, journey in zip(planned, journeys, strict=True)
            if journey.outcome == "arrived"
        ]
        return Draw(
            visits, journeys, _others(available, self.clients), duration(journeys, self.cohort, network.deadline)
        )

    def visits(self, round: int, losses: Losses | None = None) -> list[Visit]:
        """The work of `round` (from 1) whose uploads arrive; perhaps none."""
        return self.draw(round, losses).visits

    def _load(self, visit: Visit) -> Load:
        return Load(visit.client, self.bytes_down, self.bytes_up, visit.sizes * self.mflop_per_example)

    def visit(self, client: int, round: int) -> Visit:
        """What `client` would do in `round`."""
        indices = self.partition.client(client)
        n = len(indices)
        size, steps = self.local.batch_size(n), self.local.step_count(n)
        batches = Passes(indices, size, steps, self.seed, "order", (round, client))
        rate = self.local.rate(round, self.rounds, n / self._mean)
        frozen = self.local.freezes_statistics(round, self.rounds)
        return Visit(client, round, indices, batches, rate, self.server.weight(n), frozen)

    @cached_property
    def _mean(self) -> float:
        """Examples of a client, on average over clients."""
        return float(self.partition.sizes.mean())


@dataclass(frozen=True)
class Pooled:
    """Centralised training as a federation of one, who holds everything.

    Every round takes `steps` batches of consecutive shuffled passes over all examples, going on where the last round
    stopped, so that a run is ordinary training cut into rounds for comparison.
    """

    indices: Ints | range
    steps: int
    rounds: int
    local: Local
    seed: int
    clients: int = 1

    def draw(self, round: int, losses: Losses | None = None) -> Draw:
        """The one visit of `round` (from 1); nothing travels."""
        return Draw(self.visits(round), [], np.arange(0), 0.0)

    def visits(self, round: int, losses: Losses | None = None) -> list[Visit]:
        """The one visit of `round` (from 1)."""
        size, first = self.local.batch_size(len(self.indices)), (round - 1) * self.steps
        batches = Passes(self.indices, size, self.steps, self.seed, "pooled", first=first)
        rate, frozen = self.local.rate(round, self.rounds), self.local.freezes_statistics(round, self.rounds)
        return [Visit(0, round, self.indices, batches, rate, 1.0, frozen)]


def _unknown(clients: Ints) -> np.ndarray:
    raise RunError(
        "the selection needs the clients' losses, and was given none",
        where="clients.selection",
        do="Pass losses to draw or visits: a function from client ids to the current model's mean loss on each.",
    )


def _others(available: Ints, clients: int) -> Ints:
    """Who of all `clients` is not `available`."""
    absent = np.ones(clients, dtype=bool)
    absent[available] = False
    return np.flatnonzero(absent)


def _shortened(visit: Visit, steps: int) -> Visit:
    cut = len(visit.batches) - steps
    if not cut:
        return visit
    kept = visit.batches.only(steps) if isinstance(visit.batches, Passes) else visit.batches[:steps]
    return replace(visit, batches=kept, cut=cut)
