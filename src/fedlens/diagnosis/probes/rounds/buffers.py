"""What became of each buffer of a round (M05): compared with what the clients sent, entry by entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedlens.diagnosis.evidence import Facts
from fedlens.diagnosis.evidence.rounds import BufferFate
from fedlens.diagnosis.job import State
from fedlens.diagnosis.probes.rounds.visits import Payload

NEAR = 1e-3  # of the largest client's change: nearer than this is equal


def fates(
    facts: Facts, received: State, uploads: Sequence[State], new: State, wanted: Tensor, payload: Payload
) -> dict[str, BufferFate]:
    """The fate of every buffer that is not declared to stay at clients. Where no client sent a change, it is kept."""
    buffers = [name for name in (*facts.of_kind("statistic"), *facts.of_kind("counter")) if name in received]
    return {
        name: _fate(received[name], [one.get(name) for one in uploads], new.get(name), wanted, payload)
        for name in buffers
        if not facts.declared.stays(name)
    }


def negative(facts: Facts, new: State) -> tuple[str, ...]:
    """Running variances below 0."""
    names = [name for name in facts.of_kind("statistic") if name.endswith("running_var") and name in new]
    return tuple(name for name in names if bool((new[name] < 0).any()))


def dropped(squares: Mapping[str, Tensor], m: int, new: State, names: Sequence[str]) -> tuple[str, ...]:
    """Parameters that clients changed and the next model has as they were, or not at all. `squares`: entry -> squared
    lengths of D_1 .. D_m and A in it; `names`: parameters that are exchanged."""
    kept = [name for name, one in squares.items() if bool((one[:m] > 0).any()) and float(one[m]) == 0]
    return tuple(name for name in names if name in kept or name not in new)


def _fate(
    old: Tensor, sent: Sequence[Tensor | None], new: Tensor | None, wanted: Tensor, payload: Payload
) -> BufferFate:
    if new is None:
        return "missing"
    if new.is_floating_point() != old.is_floating_point():
        return "cast"
    whole = not old.is_floating_point()
    before, now = old.double(), new.double()
    there = [place for place, value in enumerate(sent) if value is not None and value.shape == old.shape]
    if new.shape != old.shape:
        return "other"
    if not there or float(wanted[there].sum()) <= 0:
        return "kept" if torch.equal(before, now) else "other"
    values = torch.stack([sent[place].double() for place in there])  # type: ignore[union-attr]
    weights = wanted[there] / wanted[there].sum()
    fate = _match(before, values + before if payload == "update" else values, now, weights, whole)
    if fate == "other" and payload == "update":  # buffers are often sent whole beside the updates of parameters
        fate = _match(before, values, now, weights, whole)
    return fate


def _match(before: Tensor, values: Tensor, now: Tensor, weights: Tensor, whole: bool) -> BufferFate:
    """`values` [m, ...]: what each client would have it be. Counters may be rounded to whole numbers."""
    largest = float((values - before).reshape(len(values), -1).norm(dim=1).max())
    if largest == 0 and torch.equal(now, before):
        return "kept"
    near = max(NEAR * largest + 1e-6 * float(before.norm()), 1.0 * before.numel() ** 0.5 if whole else 0.0)

    def equals(other: Tensor) -> bool:
        return float((now - other).norm()) <= near

    shape = (-1, *[1] * before.dim())
    if equals((values * weights.reshape(shape)).sum(dim=0)):
        return "mean"
    if equals(values.mean(dim=0)):
        return "uniform"
    if torch.equal(now, before):
        return "kept"
    return "one" if any(equals(value) for value in values) else "other"
