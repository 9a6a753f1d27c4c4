"""What a client's labels mean, read from the answers of a classifier that never saw it (M16)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedlens.diagnosis.probes.examples.answers import Doubles, chance_gain, reading, shares_of
from fedlens.diagnosis.probes.examples.tables import Whole
from fedlens.seeds import generator

LEAST = 5  # examples, below which nothing is said of a client
SURE = 5.0  # standard errors, of at least one example
MAPPED = 0.5  # of what is right of the moved classes elsewhere that the map must win
MANY, RENAMED = 20, 0.3  # examples of a class, and of them those of another class under its name
NOISY = 0.18  # of what is right elsewhere that must be missing


class Verdict(NamedTuple):
    """Shares of a client's examples; see LabelAudit. `chance`: the 95th percentile of the gain by chance; 0 where no
    permutation gains enough to be worth the simulation."""

    identity: float
    best: float
    gain: float
    chance: float
    map: tuple[int, ...]
    mapped: bool
    noisy: bool


def judged(tables: Mapping[int, Whole], usual: Whole, known: Mapping[int, NDArray[np.bool_]]) -> dict[int, Verdict]:
    """By client, of its confusion table [C, C] beside the `usual` one of trusted labels; classes that its classifier
    hardly knew are left out.

    What a client like it would gain from the best permutation by chance is simulated from the usual answers to its own
    class counts. If three clients of four fall short of the usual answers, that is the classifier's doing, and it is by
    the fourth that noise is judged.
    """
    shares, support = shares_of([usual]), usual.sum(axis=1)
    own = {client: np.where(known[client][:, None], table, 0) for client, table in tables.items()}
    own = {client: table for client, table in own.items() if table.sum() >= LEAST}
    ratios = [np.trace(table) / max(1e-9, _expected(table, shares)) for table in own.values() if table.sum() >= 20]
    common = min(1.0, float(np.quantile(ratios, 0.75))) if ratios else 1.0
    found = {client: _judged(client, table, shares, support, common) for client, table in own.items()}
    merged = _merged(own, shares, support)
    return {client: one._replace(noisy=not one.mapped) if client in merged else one for client, one in found.items()}


def _merged(own: Mapping[int, Whole], shares: Doubles, support: Whole) -> set[int]:
    """Clients at which one class bears the name of another: far more of that are answered the first than elsewhere, and
    hardly any bears its own. One client's hand may look so by nature, but not that of two for the same classes."""
    seen: dict[tuple[int, int], set[int]] = {}
    for client, table in own.items():
        sizes = table.sum(axis=1)
        for name in np.flatnonzero(sizes >= MANY).tolist():
            extra = table[name] - sizes[name] * shares[name]
            extra[name] = 0.0
            true = int(extra.argmax())
            share = max(float(shares[name, true]), 1 / max(1, support[name]))
            spread = (sizes[name] * share * (1 - share) * (1 + sizes[name] / max(1, support[name]))) ** 0.5
            absent = sizes[true] < 0.1 * extra[true]
            if absent and extra[true] > RENAMED * sizes[name] and extra[true] > SURE * max(1.0, spread):
                seen.setdefault((name, true), set()).add(client)
    return {client for some in seen.values() if len(some) > 1 for client in some}


def _expected(table: Whole, shares: Doubles) -> float:
    return float(table.sum(axis=1) @ np.diag(shares))


def _judged(client: int, table: Whole, shares: Doubles, support: Whole, common: float) -> Verdict:
    read, sizes, total = reading(table), table.sum(axis=1), int(table.sum())
    mean = spread = high = 0.0
    if read.best - read.identity > SURE:
        mean, spread, high = chance_gain(sizes, shares, generator(0, "meaning", client))
    right, moved = np.diag(shares), list(read.moved)
    gain = read.best - read.identity - mean
    worth = float(sizes[moved] @ right[moved])
    mapped = gain > SURE * max(spread, 1.0) and gain > MAPPED * worth and gain > MAPPED * read.held / len(table)
    variance = float((right * (1 - right)) @ (sizes + sizes**2 / np.maximum(support, 1.0)))
    missing = common * _expected(table, shares) - read.identity
    noisy = missing > SURE * max(variance**0.5, 1.0) and missing > NOISY * common * _expected(table, shares)
    noisy = noisy and not mapped and gain < missing / 2
    return Verdict(
        read.identity / total,
        read.best / total,
        gain / total,
        (high - mean) / total,
        read.map,
        bool(mapped),
        bool(noisy),
    )
