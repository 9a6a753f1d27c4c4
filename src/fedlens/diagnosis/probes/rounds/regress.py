"""What a round's change of the model is made of: the clients' updates, by least squares, and what is left over.

Notation: w the model that was sent, w_i what client i made of it, D_i = w_i - w, p_i the wanted weights,
Dbar = sum p_i D_i, A = w' - w with w' the next model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedlens.diagnosis.job import State
from fedlens.diagnosis.probes.rounds.visits import Payload

WIDTH = 2**15  # numbers of each vector that are worked on at a time: they stay in the cache
FLAT = 1e-5  # share of the largest eigenvalue below which a direction of the Gram matrix is none
EXACT = 1e-3  # relative: a combination that leaves less than this, beside rounding, is what was done


@dataclass(frozen=True)
class Vectors:
    """The vectors of a round over the entries `names`. `more`: further vectors by entry, flat."""

    names: tuple[str, ...]
    received: State
    uploads: Sequence[State]
    new: State
    payload: Payload
    more: tuple[Mapping[str, Tensor], ...] = ()

    @property
    def dtype(self) -> torch.dtype:
        """Of the arithmetic: double where the job's numbers are."""
        double = any(self.received[name].dtype == torch.float64 for name in self.names)
        return torch.float64 if double else torch.float32

    def blocks(self) -> Iterator[tuple[str, slice, Tensor]]:
        """Entry, place in it, and the rows D_1 .. D_m, A, more there; a block is overwritten by the next."""
        m, dtype = len(self.uploads), self.dtype
        room = torch.empty(m + 1 + len(self.more), WIDTH, dtype=dtype)
        for name in self.names:
            old = self.received[name].reshape(-1)
            rows = [one[name].reshape(-1) for one in (*self.uploads, self.new)]
            rows += [vector[name] for vector in self.more]
            for start in range(0, old.numel(), WIDTH):
                place = slice(start, min(start + WIDTH, old.numel()))
                block = room[:, : place.stop - start]
                for number, (row, values) in enumerate(zip(block, rows, strict=True)):
                    minus = number == m or (number < m and self.payload == "weights")
                    if minus and values.dtype == old.dtype == dtype:
                        torch.sub(values[place], old[place], out=row)
                    else:
                        row.copy_(values[place])
                        row -= old[place] if minus else 0
                yield name, place, block

    def rounding(self, states: Sequence[State]) -> float:
        """The relative rounding of the coarsest of the job's usual number types among `states`."""
        kinds = {state[name].dtype for state in states for name in self.names if name in state}
        kinds &= {torch.float32, torch.float64} | {self.received[name].dtype for name in self.names}
        return max((torch.finfo(kind).eps for kind in kinds if kind.is_floating_point), default=2.0**-23)


@dataclass(frozen=True)
class Sums:
    """`gram` [rows, rows] in double; `squares`: entry -> its part of the diagonal; `changed`: how many numbers of each
    row are not 0 (of A alone where rows were not `counted`); `off`: ||A - Dbar||; `mean`: Dbar, `change`: A, by
    entry."""

    gram: Tensor
    squares: Mapping[str, Tensor]
    changed: Tensor
    counted: bool
    off: float
    mean: Mapping[str, Tensor]
    change: Mapping[str, Tensor]

    def norm(self, row: int) -> float:
        """The length of a row."""
        return math.sqrt(max(0.0, float(self.gram[row, row])))


def summed(vectors: Vectors, wanted: Tensor, *, counting: bool = False) -> Sums:
    """One pass over the vectors. `wanted`: p [m]; rows with p = 0 may hold anything. `counting` zeros costs more."""
    m = len(vectors.uploads)
    rows = m + 1 + len(vectors.more)
    gram, off = torch.zeros(rows, rows, dtype=torch.float64), 0.0
    squares = {name: torch.zeros(rows, dtype=torch.float64) for name in vectors.names}
    changed = torch.zeros(rows, dtype=torch.long)
    shapes = {name: vectors.received[name].numel() for name in vectors.names}
    mean = {name: torch.empty(size, dtype=vectors.dtype) for name, size in shapes.items()}
    change = {name: torch.empty(size, dtype=vectors.dtype) for name, size in shapes.items()}
    counted = torch.nonzero(wanted).flatten()
    weights = wanted[counted].to(vectors.dtype)
    for name, place, block in vectors.blocks():
        part = (block @ block.T).double()
        gram += part
        squares[name] += part.diagonal()
        first = 0 if counting else m
        changed[first : m + 1] += torch.count_nonzero(block[first : m + 1], dim=1)
        here = block[:m] if len(counted) == m else block[counted]
        torch.mv(here.T, weights, out=mean[name][place])
        change[name][place] = block[m]
        off += float((block[m] - mean[name][place]).square().sum())
    return Sums(gram, squares, changed, counting, math.sqrt(off), mean, change)


@dataclass(frozen=True)
class Fit:
    """A = sum a_i D_i + what is left. `weights`: a [m], () where the updates do not tell them apart; `total`: their
    sum by that of the wanted weights (of clients that changed anything), None where the updates do not tell it;
    `effective`: N_eff over that of the wanted weights. `more`: coefficients of further vectors; `past`, `current`: of
    the round before and of the model itself. The errors are standard errors, if what is left were noise. `left`: its
    length by that of A."""

    weights: tuple[float, ...] = ()
    weights_error: float = 0.0
    total: float | None = None
    total_error: float = 0.0
    effective: float | None = None
    more: tuple[float, ...] = ()
    more_error: tuple[float, ...] = ()
    past: float | None = None
    past_error: float = 0.0
    current: float = 0.0
    left: float = 0.0


def explained(gram: Tensor, wanted: Tensor, size: int, more: Sequence[int] = ()) -> Fit:
    """Least squares by the Gram matrix of D_1 .. D_m, A and further rows, of which those of `more` are allowed. `size`:
    how many numbers a vector has. Minimum-norm where the rows are not independent."""
    m = len(wanted)
    norms = gram.diagonal().clamp(min=0).sqrt()
    whole = float(norms[m])
    live = [row for row in range(m) if 0 < norms[row] < math.inf]
    rows = live + [row for row in more if 0 < norms[row] < math.inf]
    if not live or not math.isfinite(whole) or float(wanted[live].sum()) <= 0:
        return Fit()
    if whole == 0:
        return Fit(weights=(0.0,) * m, total=0.0, effective=0.0, more=(0.0,) * len(more), more_error=(0.0,) * len(more))
    scale = norms[rows]
    values, vectors = torch.linalg.eigh(gram[rows][:, rows] / torch.outer(scale, scale))
    kept = values > FLAT * values[-1]
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    target = gram[rows, m] / scale
    found = inverse @ target
    left = math.sqrt(max(0.0, whole**2 - float(found @ target)))
    noise = left / math.sqrt(max(1, size - len(rows)))
    coefficients, errors = found / scale, noise * inverse.diagonal().clamp(min=0).sqrt() / scale
    direction = torch.zeros(len(rows), dtype=torch.float64)
    direction[: len(live)] = 1 / scale[: len(live)]
    lost = direction @ vectors[:, ~kept]
    share = float(wanted[live].sum())
    known = float(lost.norm()) <= 0.01 * float(direction.norm())
    fit = Fit(left=left / whole)
    if known:
        error = noise * math.sqrt(max(0.0, float(direction @ inverse @ direction)))
        total = float(coefficients[: len(live)].sum()) / share
        fit = replace(fit, total=total, total_error=error / share)
    at = {row: place for place, row in enumerate(rows)}
    there = [at.get(row) for row in more]
    fit = replace(
        fit,
        more=tuple(0.0 if place is None else float(coefficients[place]) for place in there),
        more_error=tuple(0.0 if place is None else float(errors[place]) for place in there),
    )
    if bool(kept.all()) and fit.total is not None:
        fit = _weighted(fit, coefficients[: len(live)], float(errors[: len(live)].max()), live, wanted)
    return fit


def _weighted(fit: Fit, found: Tensor, error: float, live: Sequence[int], wanted: Tensor) -> Fit:
    """With the weights; a client that changed nothing gets its wanted share, for nothing can be said of it."""
    assert fit.total is not None
    weights = [fit.total * float(share) for share in wanted]
    for row, value in zip(live, found.tolist(), strict=True):
        weights[row] = value
    square = float(found.square().sum())
    mine = float(found.abs().sum()) ** 2 / square if square > 0 else 0.0
    share = wanted[live] / wanted[live].sum()
    return replace(fit, weights=tuple(weights), weights_error=error, effective=mine * float(share.square().sum()))


def left_over(vectors: Vectors, weights: Sequence[float]) -> float:
    """||A - sum a_i D_i|| / ||A|| by a pass over the vectors: exact where the Gram matrix only tells 3e-4."""
    m, left, whole = len(vectors.uploads), 0.0, 0.0
    row = torch.tensor([*weights, -1.0], dtype=vectors.dtype)
    used = torch.nonzero(row).flatten()
    for _, _, block in vectors.blocks():
        left += float((row[used] @ block[used]).square().sum())
        whole += float(block[m].square().sum())
    return math.sqrt(left / whole) if whole > 0 else 0.0


def with_more(vectors: Vectors, plain: Fit, wanted: Tensor, rounding: float) -> Fit:
    """`plain`, which does not explain A, or a fit with the model itself, which stays in A where weights do not add up
    to 1, or with the round before, its change of the model and its mean update: in this order `vectors.more`. The first
    combination that leaves nothing is told; where none does, `plain`, unless the change before stands out of noise."""
    m, size = len(vectors.uploads), sum(vectors.received[name].numel() for name in vectors.names)
    gram = summed(vectors, wanted).gram
    model, change, mean = m + 1, m + 2, m + 3
    choices: list[tuple[int, ...]] = [(model,)]
    if len(vectors.more) == 3:
        choices += [(change,), (mean,), (change, mean), (model, change)]
    fits = {rows: explained(gram, wanted, size, rows) for rows in choices}
    for rows, fit in fits.items():
        if fit.left <= EXACT + rounding:
            return _told(fit, rows, model)
    if (change,) not in fits:
        return plain
    lagged = _told(fits[change,], (change,), model)
    stands_out = abs(lagged.past or 0.0) > max(0.05, 5 * lagged.past_error)
    return lagged if stands_out else replace(plain, past=lagged.past, past_error=lagged.past_error)


def _told(fit: Fit, rows: Sequence[int], model: int) -> Fit:
    """With the coefficients by their names."""
    found = dict(zip(rows, zip(fit.more, fit.more_error, strict=True), strict=True))
    current = found.pop(model, (0.0, 0.0))[0]
    past, error = next(iter(found.values()), (0.0, 0.0))
    return replace(fit, past=past, past_error=error, current=current)
