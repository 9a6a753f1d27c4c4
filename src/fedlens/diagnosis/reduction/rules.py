"""Which reduction a result is, where no coefficients explain it; and whether its values lie on a grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fedlens.diagnosis.reduction.coefficients import Part, Solved
from fedlens.diagnosis.reduction.cohort import Cohort
from fedlens.server import GeometricMedian, Median

GRIDS = (1.0, 0.5, 0.25, 0.2, 0.125, 0.1, 0.0625, 0.05, 0.04, 0.03125, 0.025, 0.02, 0.015625, 0.01)
NEARLY = 0.05  # residual of coefficients that are right but for coarse numbers
NEAR = 5e-3  # part of a rule's own update that may be left over


def rule_of(parts: Sequence[Part], solved: Solved, p: Tensor, *, follows: bool) -> str:
    """The rule: "mean" for any fixed coefficients, else a robust rule, "norm-clip", "adaptive" or "other".

    `follows`: the coefficients stay with their uploads when these are listed in another order.
    """
    parts = [part for part in parts if not part.kept and part.name not in solved.sources] or list(parts)
    moves = torch.cat([part.moves for part in parts], dim=1)
    if solved.clean or solved.sources:
        return _chosen(solved.weights, moves, p) if follows else "mean"
    whole = round(solved.current) if abs(solved.current) < 1e6 else 1
    stays = whole if abs(solved.current - whole) < 0.1 else solved.current
    change = torch.cat([part.after - stays * part.before for part in parts])
    if not bool(torch.isfinite(change).all()):
        return "other"
    slack = sum(part.rounding**2 * len(part.before) for part in parts) ** 0.5
    for name, made in _rules(moves, p):
        rate = float(change @ made) / max(float(made @ made), 1e-300)
        if float((change - rate * made).norm()) <= NEAR * abs(rate) * float(made.norm()) + 3 * slack:
            return name
    if solved.residual < NEARLY:
        return "mean"
    for mean in (p @ moves, moves.mean(dim=0)):
        told = mean.abs() > 0.05 * mean.square().mean().sqrt()
        signs = (change[told].sign() * mean[told].sign()).mean().abs()
        if float(signs) > 0.99 and len(change) > 8:
            return "adaptive"
    return "other"


def _rules(moves: Tensor, p: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The robust rules of each coordinate, and the geometric median, of `moves` [m, n]."""
    m, ordered = len(moves), moves.sort(dim=0).values
    yield "median", Median().reduce(moves, p)
    yield "median", ordered[(m - 1) // 2]
    yield "median", ordered[m // 2]
    for drop in range(1, (m - 1) // 2 + 1):
        yield "trimmed-mean", ordered[drop : m - drop].mean(dim=0)
    for weights in (p, torch.full_like(p, 1 / m)):
        yield "geometric-median", GeometricMedian(iterations=200, eps=1e-9).reduce(moves, weights)


def _chosen(weights: Tensor, moves: Tensor, p: Tensor) -> str:
    """What fixed coefficients [m] that follow their uploads say: a choice of short uploads, or a clipped mean."""
    m, largest = len(weights), float(weights.abs().max())
    if m < 3 or largest < 1e-6 or not bool(torch.isfinite(weights).all()):
        return "mean"
    lengths = moves.norm(dim=1)
    chosen = weights.abs() > 0.05 * largest
    count = int(chosen.sum())
    if count < m and bool(chosen[lengths.argmin()]) and bool((weights[chosen] > 0.9 * largest).all()):
        return "krum" if count == 1 else "multi-krum"
    if count < m:
        return "mean"
    for share in (p, torch.full_like(p, 1 / m)):
        rates = weights / share
        highest = float(rates.max())
        cut = rates < highest * (1 - 2e-3)
        bound = (rates * lengths)[cut]
        if int(cut.sum()) >= 2 and float(bound.std() / bound.mean()) < 1e-2 and highest > 0:
            return "norm-clip"
    return "mean"


def grid_of(values: Tensor, tolerance: float) -> float:
    """The step of which all `values` [n] are multiples up to one shift, 0 where there is none."""
    if len(values) > 1024:
        values = values[torch.linspace(0, len(values) - 1, 1024).long()]
    if len(values) < 64 or not bool(torch.isfinite(values).all()):
        return 0.0
    ordered = values.sort().values
    steps = ordered.diff()
    far = steps > tolerance
    levels = int(far.sum()) + 1
    if levels < 2 or levels > len(values) / 4:
        return 0.0
    counts = torch.bincount(torch.cat([torch.zeros(1, dtype=torch.long), far.long().cumsum(0)]))
    if int(counts[counts >= 2].sum()) < 0.9 * len(values) or len(values) - int(counts.max()) < max(
        8, len(values) // 50
    ):
        return 0.0
    step = float(steps[far].min())
    places = (ordered - ordered[0]) / step
    return step if bool(((places - places.round()).abs() < 0.05).all()) else 0.0


def coarse(cohort: Cohort, parts: Sequence[Part]) -> float:
    """The grid on which the result of large uploads lies, alone or beside one upload or mean; 0: on none."""
    moves = torch.cat([part.moves for part in parts], dim=1)
    before, after = torch.cat([part.before for part in parts]), torch.cat([part.after for part in parts])
    if len(after) < 16 or not bool(torch.isfinite(after).all()):
        return 0.0
    sent = moves + before if cohort.form.payload == "weights" else moves
    rounding = max(part.rounding for part in parts)
    candidates = [after, after - before]
    for place in (0, len(sent) - 1):
        candidates += [after - factor * sent[place] for factor in (1.0, float(cohort.p[place]), 1 / len(sent))]
    for values in candidates:
        if float(values.abs().max()) < 0.5:
            continue
        for step in GRIDS:
            rest = values / step
            if bool(((rest - rest.round()).abs() < 1e-3 + 4 * rounding / step).all()) and 4 * rounding / step < 0.05:
                return step
    return 0.0
