"""The coefficients of made-up updates in what became of them, by least squares in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlens.diagnosis.job import State
from fedlens.diagnosis.reduction.cohort import Cohort, looked_at

OWN = 1e-2  # an entry is explained by a basis where this part of its mean update, or less, is left over
FIRST = 256  # numbers of an entry that are compared with other entries' directions


@dataclass(frozen=True)
class Part:
    """One entry at the numbers looked at: updates `moves` [m, n], model `before` [n], result `after` [n], and the
    standard deviation `rounding` that the entry's precision alone leaves in the result."""

    name: str
    moves: Tensor
    before: Tensor
    after: Tensor
    rounding: float

    @property
    def kept(self) -> bool:
        """Whether the entry is as it was."""
        return bool((self.after - self.before).norm() <= 4 * 1.2e-7 * self.before.norm())


@dataclass(frozen=True)
class Solved:
    """`weights` [m]: coefficients of the updates; `current`: of the model; `residual`: what is left over, relative to
    the mean update, and `rounding` what rounding leaves, `length` the norm of the mean update; `sources`: entry -> the
    entry whose directions it follows; `error`: standard error of one coefficient, of noise."""

    weights: Tensor
    current: float
    residual: float
    rounding: float
    length: float
    sources: Mapping[str, str]
    error: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether the coefficients explain the result."""
        return self.residual <= max(2e-3, 3 * self.rounding)


def parts_of(cohort: Cohort, result: State, names: Sequence[str], noise: float = 0.0) -> list[Part]:
    """Those of `names` that uploads hold and that came back as floats in their size; `noise` counts as rounding."""
    found = []
    for name in names:
        after, before = result.get(name), cohort.form.current[name]
        fits = after is not None and after.numel() == before.numel() > 0
        if after is None or not fits or not before.is_floating_point() or not cohort.form.answered(name):
            continue
        moves, base = cohort.directions(name), looked_at(before)
        high = float((base.square().mean() + moves.square().mean()).sqrt())
        rounding = torch.finfo(before.dtype).eps * high * len(moves) ** 0.5 + noise
        found.append(Part(name, moves, base, looked_at(after), rounding))
    return found


def solve(parts: Sequence[Part], p: Tensor) -> Solved:
    """The coefficients over `parts`; entries that follow another entry's directions count with those."""
    moved = [part for part in parts if not part.kept] or list(parts)
    by_name = {part.name: part for part in parts}
    large = [part for part in moved if len(part.before) >= 3 * (len(p) + 2)]
    sources = {part.name: _source(part, parts, p) for part in large}
    explained = [part for part in large if sources[part.name]]
    use = explained or moved
    weights, current = fit([(part, by_name[sources.get(part.name) or part.name]) for part in use], len(p))
    for part in moved:
        if part.name not in sources and explained:
            sources[part.name] = _small_source(part, parts, p, weights, current)
    left = sum(float((part.after - current * part.before - weights @ part.moves).square().sum()) for part in moved)
    length = sum(float((p @ part.moves).square().sum()) for part in moved) ** 0.5
    noise = sum(part.rounding**2 * len(part.before) for part in moved) ** 0.5
    crossed = {name: source for name, source in sources.items() if source and source != name}
    length = length or 1.0
    return Solved(weights, current, left**0.5 / length, noise / length, length, crossed)


def fit(pairs: Sequence[tuple[Part, Part]], m: int) -> tuple[Tensor, float]:
    """Coefficients [m] of the second parts' moves, and that of their model, in the first parts' results."""
    gram, right = torch.zeros(m + 1, m + 1, dtype=torch.float64), torch.zeros(m + 1, dtype=torch.float64)
    for part, source in pairs:
        basis = torch.cat([source.moves, source.before[None]])
        gram += basis @ basis.T
        right += basis @ part.after
    if not bool(torch.isfinite(gram).all() and torch.isfinite(right).all()):
        return torch.full((m,), torch.nan, dtype=torch.float64), float("nan")
    scale = gram.diagonal().sqrt()
    scale[scale == 0] = 1.0
    solution = torch.linalg.pinv(gram / scale / scale[:, None], hermitian=True, rtol=1e-12) @ (right / scale) / scale
    current = float(solution[m]) if float(gram[m, m]) > 0 else 1.0  # a model of zeros does not show its coefficient
    return solution[:m], current


def _source(part: Part, parts: Sequence[Part], p: Tensor) -> str:
    """The entry whose directions explain `part`: its own if they do, "" if none does."""
    for source in [part, *(other for other in parts if other.name != part.name)]:
        if len(source.before) == len(part.before) and _explains(source, part, p):
            return source.name
    return ""


def _explains(source: Part, part: Part, p: Tensor) -> bool:
    short, other = _shortened(part), _shortened(source)
    weights, current = fit([(short, other)], len(p))
    left = short.after - current * other.before - weights @ other.moves
    if source is not part and float(weights.abs().sum()) < 1e-3:
        return False
    return bool(left.norm() <= OWN * (p @ other.moves).norm() + 3 * other.rounding * len(left) ** 0.5)


def _shortened(part: Part) -> Part:
    if len(part.before) <= FIRST:
        return part
    return Part(part.name, part.moves[:, :FIRST], part.before[:FIRST], part.after[:FIRST], part.rounding)


def _small_source(part: Part, parts: Sequence[Part], p: Tensor, weights: Tensor, current: float) -> str:
    """As `_source`, for entries too small to have coefficients of their own."""
    for source in [part, *(other for other in parts if other.name != part.name)]:
        if len(source.before) != len(part.before):
            continue
        left = part.after - current * source.before - weights @ source.moves
        if bool(left.norm() <= OWN * (p @ source.moves).norm() + 3 * source.rounding * len(left) ** 0.5):
            return source.name
    return ""
