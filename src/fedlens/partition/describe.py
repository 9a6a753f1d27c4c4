"""Numbers that describe a partition, with what chance alone would give."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from fedlens.partition.partition import Ints, Labels, Partition

REPEATS = 100
DRAWN_CLIENTS = 2000  # 100 repeats x 2000 clients x 10 classes take about half a second; more would add no digit


@dataclass(frozen=True)
class Description:
    """How unequal the clients are.

    `size_variation`: standard deviation of n_i over their mean. `total_variation`: mean over clients of the total
    variation between the client's label distribution q_i and the pooled q, 0 to 1. `total_variation_null` and
    `total_variation_null_95`: mean and 95th percentile of the same number if the labels of every client were drawn
    from q, at the same sizes: small clients look skewed by chance, and only what lies above is skew.
    """

    clients: int
    samples: int
    unused: int
    size_min: int
    size_median: float
    size_max: int
    size_variation: float
    classes_min: int
    classes_mean: float
    classes_max: int
    total_variation: float
    total_variation_null: float
    total_variation_null_95: float

    def as_dict(self) -> dict[str, int | float]:
        """The numbers by name, for JSON."""
        return asdict(self)


def describe(partition: Partition, labels: Labels, classes: int, rng: np.random.Generator) -> Description:
    """The numbers of `partition` over `labels` [N] with values 0 .. classes - 1; `rng` draws the comparison.

    Source of the comparison: diagnosis.md, M11 (a total variation of 0.09 came from nothing but 200 samples a client).
    Beyond 2000 clients it is drawn for a random 2000 of them. Beyond 10,000, classes and total variations are those of
    10,000 drawn clients.
    """
    counts = partition.counts(labels, classes)
    sizes = partition.sizes
    held = (counts > 0).sum(axis=1)
    pooled = counts.sum(axis=0) / max(1, counts.sum())
    chance = _chance(sizes, pooled, rng)
    return Description(
        clients=len(partition),
        samples=len(partition.indices),
        unused=len(labels) - len(partition.indices),
        size_min=int(sizes.min()),
        size_median=float(np.median(sizes)),
        size_max=int(sizes.max()),
        size_variation=float(sizes.std() / sizes.mean()),
        classes_min=int(held.min()),
        classes_mean=float(held.mean()),
        classes_max=int(held.max()),
        total_variation=float(_total_variation(counts, pooled).mean()),
        total_variation_null=float(chance.mean()),
        total_variation_null_95=float(np.quantile(chance, 0.95)),
    )


def _total_variation(counts: Ints, pooled: NDArray[np.float64]) -> NDArray[np.float64]:
    """TV(q_i, q) = 1/2 sum_c |q_ic - q_c| for counts [..., C]; a client without samples counts as 0: [...]."""
    sizes = counts.sum(axis=-1, keepdims=True)
    distance = np.abs(counts / np.maximum(sizes, 1) - pooled).sum(axis=-1) / 2
    return np.where(sizes[..., 0] > 0, distance, 0.0)


def _chance(sizes: Ints, pooled: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The mean total variation of clients of these sizes whose labels are drawn from `pooled`: [REPEATS]."""
    everyone = len(sizes) <= DRAWN_CLIENTS
    drawn = sizes if everyone else rng.choice(sizes, DRAWN_CLIENTS, replace=False)
    means = np.empty(REPEATS)
    for repeat in range(REPEATS):
        counts = rng.multinomial(drawn, pooled)
        # Few clients pull the pool after them, in the comparison as in the data; among thousands none is felt.
        pool = counts.sum(axis=0) / counts.sum() if everyone else pooled
        means[repeat] = _total_variation(counts, pool).mean()
    return means
