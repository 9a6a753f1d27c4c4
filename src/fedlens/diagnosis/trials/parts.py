"""The parts of a round, the author's or the doctor's, and a course of rounds that any of them make."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedlens.diagnosis.evidence import Facts
from fedlens.diagnosis.examiner import Examiner
from fedlens.diagnosis.job import State, Upload
from fedlens.diagnosis.subject.forms import weights_or_update
from fedlens.diagnosis.subject.patient import Patient, Sent
from fedlens.diagnosis.trials.course import Course, diverged, due
from fedlens.diagnosis.trials.declared import server_step
from fedlens.methods import Method, Reduced, Server, fedavg
from fedlens.seeds import generator
from fedlens.server import Central

Sample = Callable[[int], Sequence[int]]
Fit = Callable[[int, State, int], Sent]
Clip = float | Literal["median"]
Aggregate = Callable[[State, Sequence[Sent], int], State]


@dataclass(frozen=True)
class Parts:
    """Who takes part, what a client does, what the server makes of it: rounds count from 1."""

    sample: Sample
    fit: Fit
    aggregate: Aggregate


def authors(patient: Patient) -> Parts:
    """All three as the author wrote them."""
    return Parts(patient.sample, patient.fit, patient.aggregate)


def course(parts: Parts, start: State, examiner: Examiner, rounds: int, chance: float) -> Course:
    """`rounds` rounds from `start`, examined by the doctor."""
    state, wanted = start, due(rounds)
    found: list[float] = []
    for number in range(1, rounds + 1):
        uploads = [parts.fit(client, state, number) for client in parts.sample(number)]
        state = parts.aggregate(state, uploads, number)
        if number in wanted:
            if not all(bool(torch.isfinite(value).all()) for value in state.values()):
                return diverged(found, rounds, chance)
            found.append(examiner.exam(state).accuracy)
    return Course(tuple(found), rounds)


class Mean:
    """The doctor's aggregator: the weighted mean of the clients' updates, then the declared step of the server.

    Parameters are averaged as `weights` says ("examples" or "uniform"), running statistics likewise, counters are
    copied from the first upload; what nobody sent stays; uploads that are not finite are left out. `clip` bounds the
    whole update of a client (0: nothing does; "median": at the cohort's median norm), `noise` is that on the sum in
    units of it. `method`: whose step the server makes in place of the declared one.
    """

    def __init__(
        self, facts: Facts, *, weights: str = "", clip: Clip = 0.0, noise: float = 0.0, method: Method | None = None
    ) -> None:
        said = facts.declared
        self.facts, self.weights = facts, weights or said.weighting or "examples"
        self.method = server_step(said, fedavg(), []) if method is None else method
        self.clip, self.noise = clip, float(noise)
        self.memory: dict[str, Tensor] = {}

    @classmethod
    def declared(cls, facts: Facts) -> Mean:
        """With the privacy that the job declares."""
        return cls(facts, clip=facts.declared.dp.get("clip", 0.0), noise=facts.declared.dp.get("noise", 0.0))

    def __call__(self, current: State, sent: Sequence[Sent], round: int) -> dict[str, Tensor]:
        """The next model."""
        updates = [(updated(self.facts, current, one.upload), one.upload.examples) for one in sent]
        updates = [(u, n) for u, n in updates if all(bool(torch.isfinite(v).all()) for v in u.values())]
        if not updates:
            return dict(current)
        counts = [1.0 if self.weights == "uniform" or self.clip else max(n, 0.0) for _, n in updates]
        total = sum(counts) or 1.0
        shares = [count / total for count in counts]
        names = [name for name in current if any(name in update for update, _ in updates)]
        trained = [name for name in names if self._kind(name, current) == "parameter"]
        new = dict(current)
        for name in names:
            if name not in trained:
                new[name] = _rest(name, current[name], [u for u, _ in updates], shares)
        new |= self._step(current, trained, [u for u, _ in updates], shares, round)
        return new

    def _step(
        self, current: State, names: Sequence[str], updates: Sequence[State], shares: Sequence[float], round: int
    ) -> dict[str, Tensor]:
        none = {name: torch.zeros_like(current[name]) for name in names}
        vectors = [torch.cat([u.get(n, none[n]).flatten().double() for n in names]) for u in updates]
        mean = self._bounded(vectors, round) if self.clip else _mean(vectors, shares)
        weights = torch.cat([current[name].flatten().double() for name in names])
        first = self.method.server_memory
        memory = self.memory or {name: torch.full_like(weights, value) for name, value in first.items()}
        done = self.method.aggregate(Server(weights, memory), Reduced({"update": mean}, 1.0))
        self.memory = dict(done.memory)
        sizes = [current[name].numel() for name in names]
        parts = zip(names, torch.split(done.weights, sizes), strict=True)
        return {name: part.view(current[name].shape).to(current[name].dtype) for name, part in parts}

    def _bounded(self, vectors: Sequence[Tensor], round: int) -> Tensor:
        norms = [float(vector.norm()) for vector in vectors]
        clip = statistics.median(norms) if self.clip == "median" else float(self.clip)
        drawn = int(torch.randint(2**31, ()))  # the global state is set for every round: noise differs by seed
        how, rng = Central(noise=self.noise, clip=max(clip, 1e-12)), generator(drawn, "noise", round)
        bound = [how.client({"update": vector}, how.clip, rng)[0]["update"] for vector in vectors]
        return how.server({"update": torch.stack(bound).sum(0)}, len(vectors), how.clip, rng)["update"]

    def _kind(self, name: str, current: State) -> str:
        if not current[name].is_floating_point():
            return "counter"
        return self.facts.entries[name].kind if name in self.facts.entries else "parameter"


def updated(facts: Facts, current: State, upload: Upload) -> dict[str, Tensor]:
    """What an upload changes of each entry that it has a fitting tensor for."""
    same = {n: v for n, v in upload.state.items() if n in current and v.shape == current[n].shape}
    if payload(facts, current, same) == "update":
        return {name: value.to(torch.float64) for name, value in same.items()}
    return {name: value.to(torch.float64) - current[name].to(torch.float64) for name, value in same.items()}


def payload(facts: Facts, current: State, sent: Mapping[str, Tensor]) -> str:
    """Whether an upload is weights or an update: as known, else by which of the two it is nearer to."""
    return facts.payload or weights_or_update(current, sent)


def _mean(vectors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    return torch.stack([share * vector for share, vector in zip(shares, vectors, strict=True)]).sum(0)


def _rest(name: str, now: Tensor, updates: Sequence[State], shares: Sequence[float]) -> Tensor:
    """A running statistic averaged, a counter copied."""
    sent = [(update[name], share) for update, share in zip(updates, shares, strict=True) if name in update]
    if not now.is_floating_point():
        return (now.to(torch.float64) + sent[0][0]).round().to(now.dtype)
    total = sum(share for _, share in sent) or 1.0
    change = torch.stack([share / total * value for value, share in sent]).sum(0)
    return (now.to(torch.float64) + change).to(now.dtype)
