"""Classes divided over clients in Dirichlet proportions."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedlens.partition.partition import Column, Ints, Labels, Partition, by_class, enough, of_owners, ranges
from fedlens.settings import Count, Positive, settings


@settings
class Dirichlet:
    """The samples of each class are divided over the clients in proportions p_c ~ Dir(alpha, ..., alpha).

    Small alpha: few classes a client and very unequal sizes; alpha to infinity: every client has the same mix.
    Source: Yurochkin et al. 2019, section 4; Li et al. 2022 (NIID-Bench), "distribution-based label imbalance".
    Differs: nothing is redrawn until all clients are large enough, which can take for ever; instead a client under
    `min_size` is topped up with random samples of the largest clients. Nor is a client that is already above the
    average passed over, as the code of both papers does: that line changes the distribution which they state.
    """

    alpha: Positive = 0.5
    min_size: Count = 1
    kind: Literal["dirichlet"] = "dirichlet"

    def deal(self, labels: Labels, clients: int, rng: np.random.Generator, column: Column | None = None) -> Partition:
        """Indices of `labels` [N] for each of `clients`; ConfigurationError unless K * min_size <= N."""
        enough(labels, clients, self.kind)
        enough(labels, clients, self.kind, self.min_size)
        order = by_class(labels, rng)
        owners = np.empty(len(labels), dtype=np.int64)
        start = 0
        for count in np.unique(labels, return_counts=True)[1]:
            proportions = rng.dirichlet(np.full(clients, self.alpha))
            cuts = np.rint(np.cumsum(proportions) * count).astype(np.int64)
            cuts[-1] = count  # the sum of proportions is 1 only up to rounding
            owners[order[start : start + count]] = np.repeat(np.arange(clients), np.diff(cuts, prepend=0))
            start += count
        return of_owners(_top_up(owners, clients, self.min_size, rng), clients)


def _top_up(owners: Ints, clients: int, minimum: int, rng: np.random.Generator) -> Ints:
    """`owners` after every client under `minimum` was given random samples of the largest clients."""
    sizes = np.bincount(owners, minlength=clients)
    missing = np.maximum(minimum - sizes, 0)
    if not missing.any():
        return owners
    given = _from_the_largest(sizes, int(missing.sum()))
    order = by_class(owners, rng)  # grouped by client, shuffled inside each
    firsts = np.cumsum(sizes) - sizes
    moved = order[ranges(firsts, given)]
    topped = owners.copy()
    topped[rng.permutation(moved)] = np.repeat(np.arange(clients), missing)
    return topped


def _from_the_largest(sizes: Ints, total: int) -> Ints:
    """How many samples each client gives so that `total` are given and the largest sizes are levelled: i64 [K]."""
    low, high = 0, int(sizes.max())  # giving all above `low` is enough, giving all above `high` is not
    while high - low > 1:
        level = (low + high) // 2
        low, high = (level, high) if np.maximum(sizes - level, 0).sum() >= total else (low, level)
    given = np.maximum(sizes - low, 0)
    spare = int(given.sum()) - total
    given[np.flatnonzero(given)[:spare]] -= 1
    return given
