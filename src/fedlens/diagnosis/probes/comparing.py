"""What else a reported accuracy may be of: clients' data, a part of the test set, another mode or unit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedlens.diagnosis.examiner import BATCH, Examiner
from fedlens.diagnosis.job import State
from fedlens.diagnosis.probes.answers import answers, class_numbers, readable, right
from fedlens.diagnosis.subject.guard import guarded, seeded

SURE = 0.01  # a candidate is named only where one at random would fit more seldom
BATCHES = (8, 10, 16, 20, 25, 32, 50, 64, 100, 128, 200, 250, 256, 500, 512, 1000, 1024, 2000, 5000)

Held = Sequence[Tensor]  # of one state: client -> [n_i], which of its examples are answered rightly


class Candidate(NamedTuple):
    """One thing that reported values may be: its `name`, its value for each state, and of how many examples it is."""

    name: str
    values: tuple[float, ...]
    n: int


def judged(examiner: Examiner, state: State, pair: tuple[Tensor, Tensor], *, training: bool = False) -> Tensor:
    """[N]: which of the examples `pair` the model answers rightly; `training`: with dropout and batch statistics."""
    module, (inputs, labels) = examiner.module, pair
    with guarded("model", "the doctor's own evaluation", examiner.patient.patience), torch.no_grad():
        seeded(0)
        module.load_state_dict({name: value.clone() for name, value in state.items()}, strict=False)
        norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        momenta = [part.momentum for part in norms]
        module.train(training)
        for part in norms:
            part.momentum = 0.0
        try:
            parts = torch.split(readable(module, inputs), BATCH)
            module.train(training)
            outputs = torch.cat([answers(module(part)) for part in parts])
        finally:
            module.eval()
            for part, momentum in zip(norms, momenta, strict=True):
                part.momentum = momentum
        return right(outputs, class_numbers(labels))


def share(correct: Tensor) -> float:
    """The share of right answers."""
    return correct.double().mean().item() if len(correct) else math.nan


def mixed(one: State, other: State, part: float) -> State:
    """A model between two: `part` of the way from `one` to `other`; whole numbers are the other's."""
    return {
        name: one[name] + part * (value - one[name]) if name in one and value.is_floating_point() else value
        for name, value in other.items()
    }


def holdouts(correct: Tensor) -> list[Tensor]:
    """The usual parts of a client's data that are held out without shuffling: the last and first 10 and 20 %."""
    n = len(correct)
    starts, ends = (n - n // 10, int(0.9 * n), n - n // 5, int(0.8 * n)), (n // 10, n // 5)
    return [correct[start:] for start in starts] + [correct[:end] for end in ends]


def clients_candidates(held: Sequence[Held], cohorts: Sequence[Sequence[int]]) -> Iterator[list[Candidate]]:
    """Families of candidates on clients' data. `held`: for each state; `cohorts`: the clients of its round, if known.

    A hold-out is whole data, or one of `holdouts`, of the same kind for all clients.
    """
    kinds = [held] + [[[holdouts(part)[kind] for part in one] for one in held] for kind in range(6)]
    pooled = [(tuple(share(torch.cat(list(one))) for one in kind), sum(map(len, kind[0]))) for kind in kinds]
    yield [Candidate("train", *pooled[0])]
    yield [Candidate("hold-outs", *one) for one in pooled[1:]]
    everyone = [range(len(held[0]))] * len(held)
    for some in (everyone, cohorts):
        if all(map(len, some)):
            yield [Candidate("clients' mean", _means(kind, some), sum(map(len, kind[0]))) for kind in kinds]
    if all(map(len, cohorts)):
        yield _of_one(kinds, [cohort[-1] for cohort in cohorts])
        yield _of_one(kinds, [cohort[0] for cohort in cohorts])
    yield [one for client in everyone[0] for one in _of_one(kinds, [client] * len(held))]


def _of_one(kinds: Sequence[Sequence[Held]], clients: Sequence[int]) -> list[Candidate]:
    """One client's whole data and hold-outs, a client for each state."""
    own = [[one[client] for one, client in zip(kind, clients, strict=True)] for kind in kinds]
    return [Candidate(f"client {clients[-1]}", tuple(map(share, parts)), len(parts[-1])) for parts in own]


def _means(kind: Sequence[Held], cohorts: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """The unweighted means over the clients of each state's cohort that hold any."""
    shares = [[share(one[c]) for c in cohort if len(one[c])] for one, cohort in zip(kind, cohorts, strict=True)]
    return tuple(sum(some) / len(some) if some else math.nan for some in shares)


def batch_means(test: Sequence[Tensor]) -> list[Candidate]:
    """Means over batches of usual sizes, a last smaller one counting as much."""
    means = [tuple(_over_batches(one, size) for one in test) for size in BATCHES]
    return [Candidate("test", values, len(test[0])) for values in means]


def _over_batches(correct: Tensor, size: int) -> float:
    shares = [share(part) for part in torch.split(correct, size)]
    return sum(shares) / len(shares)


def parts_of(test: Sequence[Tensor]) -> list[Candidate]:
    """Beginnings and ends of the test set of usual sizes; `test`: for each state, [n]."""
    n = len(test[0])
    sizes = {size for size in (*BATCHES, n // 2, n // 5, n // 10, *(n // b * b for b in BATCHES)) if 0 < size < n}
    heads = [
        Candidate("part of the test set", tuple(share(one[:size]) for one in test), size) for size in sorted(sizes)
    ]
    tails = [
        Candidate("part of the test set", tuple(share(one[-size:]) for one in test), size) for size in sorted(sizes)
    ]
    return heads + tails


def matching(reported: Sequence[float], error: float, family: Sequence[Candidate]) -> Candidate | None:
    """The candidate whose values are the `reported`, within `error`, where one at random would hardly ever be."""
    for one in family:
        near = all(abs(a - b) <= error + 1e-6 for a, b in zip(reported, one.values, strict=True))
        if near and by_chance(reported, error, one.n) * len(family) < SURE:
            return one
    return None


def by_chance(reported: Sequence[float], error: float, n: int) -> float:
    """How often the accuracies of models as good, on n other examples, would be the `reported`."""
    chance = 1.0
    for value in {round(value, 9) for value in reported}:
        spread = math.sqrt(max(value * (1 - value), 1 / max(1, n)) * n)
        chance *= min(1.0, (2 * error * n + 1) / (2.5 * spread))
    return chance
