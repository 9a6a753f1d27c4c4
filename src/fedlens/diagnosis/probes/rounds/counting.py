"""The numbers of one round, from what was sent, what came back and what the aggregator made of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from fedlens.diagnosis.evidence import Facts, Round, Visit
from fedlens.diagnosis.job import State
from fedlens.diagnosis.probes.rounds.buffers import dropped, fates, negative
from fedlens.diagnosis.probes.rounds.looks import narrow
from fedlens.diagnosis.probes.rounds.regress import (
    EXACT,
    Fit,
    Sums,
    Vectors,
    explained,
    left_over,
    summed,
    with_more,
)
from fedlens.diagnosis.probes.rounds.visits import (
    Payload,
    Returned,
    after,
    compared,
    exchanged,
    finite,
    grid_of,
    payload_of,
    places,
)
from fedlens.diagnosis.watch.noise import noise_of


class Before(NamedTuple):
    """Of the round before: A and Dbar, by entry."""

    change: Mapping[str, Tensor]
    mean: Mapping[str, Tensor]


class Counted(NamedTuple):
    """A round in numbers, what the next one needs of it, and what uploads were found to be, where that is clear."""

    round: Round
    before: Before
    payload: Payload | None


def counted(
    facts: Facts,
    payload: Payload | None,
    blank: Round,
    received: State,
    returned: Sequence[Returned],
    new: State | None,
    before: Before,
    *,
    full: bool,
) -> Counted:
    """`blank`, which knows its number and who was asked, with all numbers but those of examined models. `new` is None
    where the aggregator failed; `full`: zeros of the clients' updates are counted too."""
    fine = [finite(one.state) for one in returned]
    payload = payload or next(
        (kind for one in returned if (kind := payload_of(facts, received, one.state)) is not None), None
    )
    if not returned:
        return Counted(replace(blank, finite=new is None or finite(new)), before, payload)
    wanted = wanted_weights(facts, [one.sent.upload.examples for one in returned], fine)
    reading, sums = _read(facts, payload, received, returned, received if new is None else new, wanted, full)
    states = [one.state for one in returned]
    visits = _visits(facts, reading, sums, returned, fine)
    if full:
        visits = tuple(replace(v, noise=_noise(reading, one)) for v, one in zip(visits, returned, strict=True))
    round = replace(blank, visits=visits, wanted=tuple(wanted.tolist()))
    if new is None:
        return Counted(round, before, payload)
    round = _measured(round, reading, sums, wanted, before)
    round = replace(
        round,
        finite=finite(new),
        fates=fates(facts, received, states, new, wanted, reading.payload),
        dropped=dropped(sums.squares, len(states), new, exchanged(facts, received, states)),
        negative=negative(facts, new),
        narrow=narrow(new, reading.names),
    )
    return Counted(round, Before(sums.change, sums.mean), payload)


def wanted_weights(facts: Facts, examples: Sequence[float], fine: Sequence[bool]) -> Tensor:
    """p_i over the clients that returned finite numbers, by the declared weighting, f64 [m]."""
    counts = torch.tensor(examples, dtype=torch.float64)
    if facts.declared.weighting == "uniform" or not bool(counts.isfinite().all()) or bool((counts < 0).any()):
        counts = torch.ones_like(counts)
    kept = torch.tensor(fine, dtype=torch.float64)
    if float((counts * kept).sum()) <= 0:
        counts = torch.ones_like(counts)
    return counts * kept / max(1.0e-300, float((counts * kept).sum()))


def _read(
    facts: Facts,
    payload: Payload | None,
    received: State,
    returned: Sequence[Returned],
    new: State,
    wanted: Tensor,
    counting: bool,
) -> tuple[Vectors, Sums]:
    """The round's vectors; where an upload could be weights or an update, as what explains the new model better."""
    states = [one.state for one in returned]
    names = exchanged(facts, received, [*states, new])
    choices: tuple[Payload, ...] = (payload,) if payload else ("weights", "update")
    readings = [Vectors(names, received, states, new, choice) for choice in choices]
    sums = [summed(reading, wanted, counting=counting) for reading in readings]
    best = 1 if len(sums) == 2 and sums[1].off < 0.9 * sums[0].off else 0
    return readings[best], sums[best]


def _length(state: State, names: Sequence[str]) -> float:
    return math.hypot(*(float(state[name].float().norm()) for name in names))


def _measured(round: Round, vectors: Vectors, sums: Sums, wanted: Tensor, before: Before) -> Round:
    """M02, M03, M04, M08 and what A looks like."""
    m, size = len(vectors.uploads), sum(vectors.received[name].numel() for name in vectors.names)
    norm, moved = _length(vectors.received, vectors.names), sums.norm(m)
    live = torch.nonzero(wanted).flatten()
    p, gram = wanted[live], sums.gram[live][:, live]
    mean = math.sqrt(max(0.0, float(p @ gram @ p)))
    spread = float(p @ gram.diagonal())
    ulp = 2 * vectors.rounding([vectors.received, vectors.new, *vectors.uploads]) * norm
    round = replace(round, norm=norm, moved=moved / norm if norm > 0 else None, mean_norm=mean)
    grid, zero = _pattern(vectors, sums, size, ulp / max(1.0, math.sqrt(size)))
    round = replace(round, grid=grid, zero=zero)
    if not (size and math.isfinite(moved) and math.isfinite(mean) and mean > 0):
        return round
    rounding, residual = ulp / mean, sums.off / mean
    fit = explained(sums.gram, wanted, size)
    known = before.change.keys() == sums.change.keys() == before.mean.keys() and all(
        before.change[name].shape == sums.change[name].shape for name in sums.change
    )
    if residual <= EXACT + rounding:
        fit = replace(fit, left=min(fit.left, sums.off / moved) if moved > 0 else 0.0, past=0.0 if known else None)
    elif moved > 0:
        fit = _explained(vectors, fit, wanted, ulp / moved, before if known else None)
    along = float(sums.gram[m, live] @ p)
    return replace(
        round,
        weights=fit.weights,
        weights_error=fit.weights_error,
        total=fit.total,
        total_error=fit.total_error,
        effective=fit.effective,
        residual=residual,
        rounding=rounding,
        unexplained=fit.left,
        cosine=max(-1.0, min(1.0, along / (moved * mean))) if moved > 0 else None,
        coherence=mean**2 / spread if spread > 0 else None,
        past=fit.past,
        past_error=fit.past_error,
        current=fit.current,
    )


def _explained(vectors: Vectors, fit: Fit, wanted: Tensor, rounding: float, before: Before | None) -> Fit:
    """`fit` more exactly; with more vectors, where this round's updates alone are not what was done."""
    if fit.weights:
        fit = replace(fit, left=left_over(vectors, fit.weights))
    if fit.left > EXACT + rounding:
        model = {name: vectors.received[name].reshape(-1) for name in vectors.names}
        fit = with_more(replace(vectors, more=(model, *(before or ()))), fit, wanted, rounding)
        return fit if before is not None else replace(fit, past=None)
    return replace(fit, past=None if before is None else 0.0)


def _pattern(vectors: Vectors, sums: Sums, size: int, rounding: float) -> tuple[float, float]:
    """Whether A lies on a grid, in the largest entry, and how much of it is exactly 0."""
    if not size:
        return 0.0, 0.0
    changed = int(sums.changed[len(vectors.uploads)])
    largest = max(vectors.names, key=lambda name: vectors.received[name].numel())
    return grid_of(sums.change[largest], rounding), 1 - changed / size


def _noise(vectors: Vectors, one: Returned) -> float:
    old = vectors.received
    whole = after(old, one.sent.upload, vectors.payload)
    return noise_of({name: whole[name] - old[name] for name in vectors.names})


def _visits(
    facts: Facts, vectors: Vectors, sums: Sums, returned: Sequence[Returned], fine: Sequence[bool]
) -> tuple[Visit, ...]:
    norm, size = _length(vectors.received, vectors.names), sum(map(len, sums.change.values()))
    largest = max(vectors.names, key=lambda name: vectors.received[name].numel(), default=None)
    lies = [places(one.sent.raw) for one in returned]
    shared = Counter(place for one in lies for place in one)
    visits = []
    for row, one in enumerate(returned):
        moved = sums.norm(row)
        differs = compared(facts, vectors.received, one.state)
        others = [two.client for two, place in zip(returned, lies, strict=True) if two is not one and place & lies[row]]
        visits.append(
            Visit(
                client=one.client,
                examples=one.sent.upload.examples,
                size=moved / norm if norm > 0 else float(moved > 0),
                norm=moved,
                finite=fine[row],
                still=tuple(name for name, squares in sums.squares.items() if float(squares[row]) == 0),
                zero=1 - int(sums.changed[row]) / size if size and sums.counted else 0.0,
                grid=grid_of(one.state[largest], 2.0**-23) if largest is not None and fine[row] else 0.0,
                aliased=any(shared[place] > 1 for place in lies[row]) or bool(lies[row] & places(one.given)),
                shares=tuple(others),
                seconds=one.sent.seconds,
                watched=one.watched,
                missing=differs.missing,
                reshaped=differs.reshaped,
                retyped=differs.retyped,
            )
        )
    return tuple(visits)
