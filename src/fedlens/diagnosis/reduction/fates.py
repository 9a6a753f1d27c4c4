"""What became of each entry of a model: the mean, another mean, one upload's, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fedlens.diagnosis.evidence.aggregation import Fate
from fedlens.diagnosis.job import State
from fedlens.diagnosis.reduction.coefficients import Part, Solved, parts_of
from fedlens.diagnosis.reduction.cohort import Cohort, looked_at

SAME = 1e-2  # relative to the mean update of the entry


class Fates(NamedTuple):
    """Of each entry of the model, and the place of the upload that it is of, where it is of one."""

    fates: Mapping[str, Fate]
    ones: Mapping[str, int]


def fates_of(cohort: Cohort, result: State, solved: Solved, rule: str, noise: float = 0.0) -> Fates:
    """What became of every entry of the model in `result`, whose parameters `solved` explains under `rule`.

    `noise`: standard deviation of what noise is left in every number of `result`.
    """
    fates: dict[str, Fate] = {}
    ones: dict[str, int] = {}
    parts = {part.name: part for part in parts_of(cohort, result, tuple(cohort.form.current), noise)}
    for name, before in cohort.form.current.items():
        after = result.get(name)
        if after is None:
            fates[name] = "missing"
        elif after.is_floating_point() != before.is_floating_point() or after.is_complex() != before.is_complex():
            fates[name] = "cast"
        elif name in parts:
            fates[name], one = _fate(parts[name], cohort, solved, rule)
            ones.update({name: one} if one is not None else {})
        elif after.numel() != before.numel():
            fates[name] = "other"
        elif not before.is_floating_point() and cohort.form.answered(name):
            fates[name], one = _counted(cohort, name, looked_at(after), rule)
            ones.update({name: one} if one is not None else {})
        else:
            fates[name] = "kept" if bool((after == before).all()) else "other"
    return Fates(fates, ones)


def share_of(weights: Tensor, p: Tensor, n: Tensor, error: float = 0.0) -> tuple[Fate, int | None]:
    """What coefficients [m], known up to `error`, are called, whatever their sum: by shares `p`, by counts `n`."""
    m, total = len(p), float(weights.sum())
    if not bool(torch.isfinite(weights).all()):
        return "other", None
    place = int(weights.abs().argmax())
    if float(weights.abs().max()) < 1e-6:
        return "kept", None
    rest = float(weights.abs().sum() - weights[place].abs()) / abs(float(weights[place]))
    if m > 1 and rest < SAME + 4 * m * error:
        return "one", place
    if abs(total) < 1e-9:
        return "other", None
    q, slack = weights / total, 0.02 / m + 4 * error / abs(total)
    if bool(torch.allclose(q, p, atol=slack)):
        return ("sum", None) if m > 1 and float(n.sum()) > 2 and total > 0.5 * float(n.sum()) else ("mean", None)
    if bool(torch.allclose(q, torch.full_like(q, 1 / m), atol=slack)):
        return ("sum", None) if m > 1 and abs(total - m) < 0.02 * m else ("uniform", None)
    return "other", None


def _fate(part: Part, cohort: Cohort, solved: Solved, rule: str) -> tuple[Fate, int | None]:
    if not bool(torch.isfinite(part.after).all()):
        return "other", None
    if part.kept:
        return "kept", None
    p, n = cohort.p, torch.tensor([upload.examples for upload in cohort.uploads], dtype=torch.float64)
    near = SAME * float((p @ part.moves).norm()) + 3 * part.rounding * len(part.before) ** 0.5
    if float((part.after - solved.current * part.before - solved.weights @ part.moves).norm()) <= near:
        return ("mean", None) if rule != "mean" else share_of(solved.weights, p, n, solved.error)
    for fate, one, value in _guesses(part, p, n, cohort.form.payload == "weights"):
        scale = float(value.norm()) / float(part.before.norm() + part.moves.norm())
        if float((part.after - value).norm()) <= near * max(1.0, scale):
            return fate, one
    change, mean = part.after - part.before, p @ part.moves
    alike = (change.sign() == mean.sign()).double().mean()
    if rule == "adaptive" and float(alike) > 0.9:
        return "mean", None
    if rule not in ("mean", "other", "adaptive") and float(change @ mean) > 0.5 * float(change.norm() * mean.norm()):
        return "mean", None
    return "other", None


def _guesses(part: Part, p: Tensor, n: Tensor, weights: bool) -> Iterator[tuple[Fate, int | None, Tensor]]:
    m = len(p)
    for base in (part.before, torch.zeros_like(part.before)):
        yield "mean", None, base + p @ part.moves
        yield "uniform", None, base + part.moves.mean(dim=0)
        for place in range(m):
            yield "one", place, base + part.moves[place]
    sent = part.moves + part.before if weights else part.moves
    yield "sum", None, sent.sum(dim=0)
    yield "sum", None, part.before + part.moves.sum(dim=0)
    yield "sum", None, n @ sent
    yield "sum", None, part.before + n @ part.moves


def _counted(cohort: Cohort, name: str, after: Tensor, rule: str) -> tuple[Fate, int | None]:
    """The fate of an entry of whole numbers, which a mean leaves within one of it."""
    before, moves, p = looked_at(cohort.form.current[name]), cohort.directions(name), cohort.p
    if bool((after == before).all()):
        return "kept", None
    for base in (before, torch.zeros_like(before)):
        for place, move in enumerate(moves):
            if bool((after == base + move).all()):
                return "one", place
        for fate, value in (("mean", base + p @ moves), ("uniform", base + moves.mean(dim=0))):
            if bool(((after - value).abs() <= 1).all()):
                return fate, None  # type: ignore[return-value]
    sent = moves + before if cohort.form.payload == "weights" else moves
    totals = (sent.sum(dim=0), before + moves.sum(dim=0))
    low, high = (before + moves).min(dim=0).values, (before + moves).max(dim=0).values
    if rule != "mean" and bool(((after >= low) & (after <= high)).all()):
        return "mean", None
    return ("sum", None) if any(bool((after == total).all()) for total in totals) else ("other", None)
