"""Whether clients' inputs come out of the same preparation as the test set's (M17).

Labels are used for nothing but the reference's own class means: a client's mean is compared with the nearest mixture of
them, so that neither which classes a client holds nor what it calls them passes for a shift of its inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh  # type: ignore[import-untyped]
from scipy.optimize import nnls  # type: ignore[import-untyped]

from fedlens.diagnosis.evidence import Inputs
from fedlens.diagnosis.probes.examples.tables import Table, Tables, Whole, channels_of, features
from fedlens.seeds import generator

MOST = 2_000  # examples of the reference
LEAST = 5  # examples of a client, below which nothing is said of its inputs
CAP = 3.0  # standard deviations that one feature may count
APART = 0.5  # standard deviations, root mean square over features, that matter
SLIGHT, CALM = 0.18, 0.08  # the same where a gap parts some clients from others; healthy clients reach 0.11
STRANGE, FAINT = 1.35, 0.6  # times the energy outside the reference's own subspace that matter
SCALE = 1.8  # times the spread of any mixture of classes that no mixture explains
LIKE = 0.4  # natural logarithm of the ratio of two factors of scale that are one
DRAWS = 24
SURE = 5.0  # standard errors

Doubles = NDArray[np.float64]


class Compared(NamedTuple):
    """Clients by number; see DataAudit. `mismatch`: all clients differ from the test set, and in the same way."""

    apart: dict[int, float]
    scaled: dict[int, float]
    clusters: int
    mismatch: bool
    nearest: float = 0.0


class _Reference(NamedTuple):
    """Rows [N, d] with class numbers 0 .. C-1 [N], none of them rare."""

    rows: Doubles
    labels: Whole

    def means(self) -> Doubles:
        """Of classes, [C, d]."""
        return np.stack([self.rows[self.labels == one].mean(axis=0) for one in range(self.labels.max() + 1)])


def described(table: Table) -> Inputs:
    """Range, and mean and spread by channel, of finite values."""
    rows = channels_of(table.inputs)
    finite = bool(np.isfinite(rows).all())
    rows = np.where(np.isfinite(rows), rows, np.nan)
    if not rows.size or bool(np.isnan(rows).all()):
        return Inputs((), (), float("nan"), float("nan"), 0.0, finite)
    flat = table.inputs.reshape(len(table), -1)
    constant = float((flat == flat[:1]).all(dim=0).float().mean())
    mean, std = np.nanmean(rows, axis=1, dtype=np.float64), np.nanstd(rows, axis=1, dtype=np.float64)
    means, stds = (tuple(np.atleast_1d(values).tolist()) for values in (mean, std))
    whole = not (table.inputs.is_floating_point() or table.inputs.is_complex()) and table.inputs.dtype != torch.uint8
    return Inputs(
        means, stds, float(np.nanmin(rows)), float(np.nanmax(rows)), constant, finite, whole and table.inputs.dim() == 2
    )


def compare(tables: Tables) -> Compared:
    """Every client's inputs beside the test set's; beside those of all clients where there is no test set."""
    clients = {client: _finite(table)[0] for client, table in tables.clients.items() if len(table) >= LEAST}
    clients = {client: rows for client, rows in clients.items() if len(rows) >= LEAST}
    held = [tables.test] if tables.test is not None and len(tables.test) >= 4 * LEAST else list(tables.clients.values())
    width = max((rows.shape[1] for rows in clients.values()), default=0)
    parts = [_finite(table) for table in held if len(table)]
    width = parts[0][0].shape[1] if parts else width
    clients = {client: rows for client, rows in clients.items() if rows.shape[1] == width}
    parts = [part for part in parts if part[0].shape[1] == width]
    if not clients or sum(len(rows) for rows, _ in parts) < 4 * LEAST:
        return Compared({}, {}, 1, False)
    reference = _reference(np.concatenate([r for r, _ in parts]), np.concatenate([c for _, c in parts]))
    return _compared(clients, reference)


def _finite(table: Table) -> tuple[Doubles, Whole]:
    """Its finite rows and what they are called; 0 where labels are no classes."""
    rows = features(table.inputs)
    labels = np.zeros(len(rows), np.int64) if table.labels is None else table.labels
    kept = np.isfinite(rows).all(axis=1)
    return rows[kept].astype(np.float64), labels[kept]


def _reference(rows: Doubles, labels: Whole) -> _Reference:
    kept = generator(0, "reference").permutation(len(rows))[:MOST]
    rows, labels = rows[kept], labels[kept]
    numbers, counts = np.unique(labels, return_counts=True)
    often = numbers[counts >= LEAST]
    if len(often) > 50 or not len(often):  # more classes than a mixture can be told of
        return _Reference(rows, np.zeros(len(rows), np.int64))
    among = np.isin(labels, often)
    return _Reference(rows[among], np.searchsorted(often, labels[among]))


def _compared(clients: Mapping[int, Doubles], reference: _Reference) -> Compared:
    scaled = _scaled(clients, reference)
    spread = _spread({c: r for c, r in clients.items() if c not in scaled}, reference)
    residuals, mixes = {}, {}
    means = reference.means()
    for client, rows in clients.items():
        mixes[client], residuals[client] = _unexplained(rows.mean(axis=0), means, spread)
    size = {client: _size(residual) for client, residual in residuals.items()}
    null, error = _null({c: len(r) for c, r in clients.items()}, mixes, reference, spread)
    excess = {c: float(np.sqrt(max(0.0, size[c] ** 2 - null[c] ** 2))) for c in clients}
    bound = min(APART, max(SLIGHT, _gap([max(CALM, one) for one in excess.values()], 2.0)))
    apart = {c: excess[c] for c in clients if excess[c] >= bound and size[c] > null[c] + SURE * error[c]}
    by_mean, (strange, usual) = bool(apart), _strange(clients, mixes, reference)
    for client, times in strange.items():
        apart.setdefault(client, max(excess[client], _worth(times)))
    apart |= {
        client: max(excess[client], abs(np.log(max(1e-6, scaled[client])))) for client in scaled if client not in apart
    }
    groups = _groups({client: residuals[client] for client in apart}, scaled)
    alone = len(apart) == len(clients) and groups == 1
    near = [excess[client] for client in clients if client not in apart]
    near += [] if by_mean or scaled else [_worth(times) for client, times in usual.items() if client not in apart]
    nearest = max(near, default=0.0)
    return Compared(apart, scaled, groups + (len(apart) < len(clients)) if apart else 1, alone, nearest)


def _scaled(clients: Mapping[int, Doubles], reference: _Reference) -> dict[int, float]:
    """Clients whose spread lies outside of what any mixture of the reference's classes has, with the factor."""
    overall = reference.rows.std(axis=0)
    active = overall > 1e-6 * max(1e-30, float(np.abs(reference.rows).max()))
    if not active.any():
        return {}
    each = [reference.rows[reference.labels == one].std(axis=0) for one in range(reference.labels.max() + 1)]
    low, high = min(map(_norm, each)), max(_norm(overall), *map(_norm, each))
    found = {}
    for client, rows in clients.items():
        spread = rows.std(axis=0)
        factor = _norm(spread) / _norm(overall)
        middle = float(np.median(spread[active] / overall[active]))
        above = _norm(spread) / high > SCALE and (middle > SCALE or middle == 0)
        below = _norm(spread) / low < 1 / SCALE and middle < 1 / SCALE
        if len(rows) >= 2 * LEAST and (above or below):
            found[client] = factor
    return found


def _norm(values: Doubles) -> float:
    return float(np.sqrt((values**2).mean()))


def _spread(clients: Mapping[int, Doubles], reference: _Reference) -> Doubles:
    """Standard deviations of features within classes and clients; features that vary nowhere get next to nothing."""
    within = (reference.rows - reference.means()[reference.labels]).var(axis=0)
    if clients:
        within = (within + np.mean([rows.var(axis=0) for rows in clients.values()], axis=0)) / 2
    found: Doubles = np.sqrt(np.maximum(within, 1e-12 * max(1e-30, float(within.max()))))
    return found


def _unexplained(mean: Doubles, means: Doubles, spread: Doubles) -> tuple[Doubles, Doubles]:
    """The mixture of class means nearest to `mean`, [C], and what it leaves, in standard deviations, [d]."""
    classes, heavy = len(means), 1e3
    shift = means.mean(axis=0)
    system = np.vstack([((means - shift) / spread).T, np.full((1, classes), heavy)])
    weights = nnls(system, np.append((mean - shift) / spread, heavy), maxiter=50 * classes)[0]
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(classes, 1 / classes)
    return weights, np.clip((mean - weights @ means) / spread, -CAP, CAP)


def _size(residual: Doubles) -> float:
    return _norm(residual)


def _null(
    sizes: Mapping[int, int], mixes: Mapping[int, Doubles], reference: _Reference, spread: Doubles
) -> tuple[dict[int, float], dict[int, float]]:
    """Mean and standard deviation of the residual of clients drawn from the reference itself, by bootstrap."""
    random, count = generator(0, "inputs"), len(reference.rows)
    order, counts = np.argsort(reference.labels, kind="stable"), np.bincount(reference.labels)
    first, every, classes = counts.cumsum() - counts, reference.labels[order], np.arange(len(counts))
    rows = ((reference.rows - reference.rows.mean(axis=0)) / spread).astype(np.float32)
    owners = np.concatenate([every, *(np.full(n, len(counts) + at) for at, n in enumerate(sizes.values()))])
    held = np.bincount(owners)[:, None].astype(np.float32)
    found = np.empty((DRAWS, len(sizes)))
    for draw in found:
        dealt = [random.multinomial(n, mixes[client] / mixes[client].sum()) for client, n in sizes.items()]
        labels = np.concatenate([every, *(np.repeat(classes, parts) for parts in dealt)])
        places = order[first[labels] + (random.random(len(labels)) * counts[labels]).astype(np.int64)]
        times = np.bincount(owners * count + places, minlength=len(held) * count).reshape(-1, count)
        means = (times.astype(np.float32) @ rows / held).astype(np.float64)
        own, ones = means[: len(counts)], np.ones(rows.shape[1])
        draw[:] = [_size(_unexplained(mean, own, ones)[1]) for mean in means[len(counts) :]]
    return dict(zip(sizes, found.mean(axis=0), strict=True)), dict(zip(sizes, found.std(axis=0), strict=True))


def _worth(times: float) -> float:
    """In standard deviations of a mean, what so many times the energy is worth."""
    return float(np.sqrt(abs(times - 1)))


def _strange(
    clients: Mapping[int, Doubles], mixes: Mapping[int, Doubles], reference: _Reference
) -> tuple[dict[int, float], dict[int, float]]:
    """Clients with far more energy outside the reference's subspace than the calmest clients have, or far less than the
    reference and others, as a ratio; and the same ratio of all others.

    The comparison is with clients, for augmentation alone raises the energy of all, and of some classes more.
    """
    ratio, error = _energies(clients, mixes, reference)
    calm, most = np.quantile(list(ratio.values()), [0.1, 0.9])
    calm, most = max(1.0, calm), min(1.0, most)
    bound = max(STRANGE * calm, _gap(list(ratio.values()), 1.3))
    above = {c: r / calm for c, r in ratio.items() if r >= bound and r - calm > SURE * error[c]}
    below = {c: r / most for c, r in ratio.items() if r / most < FAINT and most - r > SURE * error[c]}
    found = above | below
    return found, {c: max(r / calm, 1.0) if r > 1 else r / most for c, r in ratio.items() if c not in found}


def _gap(values: Sequence[float], factor: float) -> float:
    """The smallest of the values that stand `factor` above the next lower one, with a fifth of all below; else inf.

    Clients that differ by nature differ by degrees; another preparation leaves a gap."""
    rising = sorted(values)
    least = max(1, len(rising) // 5)
    return next((rising[i] for i in range(least, len(rising)) if rising[i] > factor * rising[i - 1]), float("inf"))


def _energies(
    clients: Mapping[int, Doubles], mixes: Mapping[int, Doubles], reference: _Reference
) -> tuple[dict[int, float], dict[int, float]]:
    """Energy outside the subspace of half of the reference, by that of its other half, and its standard error."""
    middle, spread = reference.rows.mean(axis=0), reference.rows.std(axis=0)
    spread = np.maximum(spread, 1e-6 * max(1e-30, float(spread.max())))

    def standard(rows: Doubles) -> Doubles:
        clipped: Doubles = np.clip((rows - middle) / spread, -5.0, 5.0)
        return clipped

    own = standard(reference.rows[::2])
    axes = _axes(own - own.mean(axis=0))

    def energy(rows: Doubles) -> Doubles:
        rows = standard(rows) - own.mean(axis=0)
        left: Doubles = (rows**2).sum(axis=1) - ((rows @ axes.T) ** 2).sum(axis=1)
        return left

    other, labels = energy(reference.rows[1::2]), reference.labels[1::2]
    usual = np.array(
        [other[labels == one].mean() if (labels == one).any() else other.mean() for one in range(labels.max() + 1)]
    )
    usual = np.append(usual, [other.mean()] * (len(next(iter(mixes.values()))) - len(usual)))
    found = {client: energy(rows) / max(1e-30, mixes[client] @ usual) for client, rows in clients.items()}
    errors = {client: float(rows.std() / len(rows) ** 0.5) for client, rows in found.items()}
    return {client: float(rows.mean()) for client, rows in found.items()}, errors


def _axes(rows: Doubles, share: float = 0.9, most: int = 40) -> Doubles:
    """The first principal axes of centred rows, [k, d], that hold `share` of their variance, at most `most`."""
    width = rows.shape[1]
    values, axes = eigh(rows.T @ rows, subset_by_index=[max(0, width - most), width - 1])
    values, axes = np.maximum(values[::-1], 0.0), axes.T[::-1]
    needed = int(np.searchsorted(np.cumsum(values), share * (rows**2).sum())) + 1
    found: Doubles = axes[: max(1, min(needed, width // 2, len(rows) // 2))]
    return found


def _groups(residuals: Mapping[int, Doubles], scaled: Mapping[int, float]) -> int:
    """In how many groups residuals fall: linked where they differ by less than half of their size.

    Scaled clients are linked by their factor, for their residuals are capped."""

    def near(one: int, other: int) -> bool:
        if one in scaled or other in scaled:
            return abs(math.log(max(1e-6, scaled.get(one, 1.0)) / max(1e-6, scaled.get(other, 1.0)))) < LIKE
        return _norm(residuals[other] - residuals[one]) < max(APART, _norm(residuals[one]) / 2)

    left, groups = set(residuals), 0
    while left:
        groups += 1
        reached = {left.pop()}
        while reached:
            one = reached.pop()
            linked = {other for other in left if near(one, other)}
            left -= linked
            reached |= linked
    return groups
