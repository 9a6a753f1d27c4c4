"""Clients of very different sizes whose content is alike."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedlens.partition.apportion import apportion
from fedlens.partition.partition import Column, Labels, Partition, enough, of_sizes
from fedlens.settings import Count, NonNegative, settings


@settings
class Quantity:
    """Sizes proportional to exp(sigma * z_i) with z_i ~ N(0, 1); content IID; no client under `min_size`.

    sigma = 0 gives equal sizes; at sigma = 1 the largest of 100 clients holds some exp(2.5) = 12 times the median.
    Source: the sizes of the synthetic data in the code of Li et al. 2020 (FedProx), with sigma = 2 there.
    Differs: the sum of the sizes is fixed, and the content is IID.
    """

    sigma: NonNegative = 1.0
    min_size: Count = 1
    kind: Literal["quantity"] = "quantity"

    def deal(self, labels: Labels, clients: int, rng: np.random.Generator, column: Column | None = None) -> Partition:
        """Indices of `labels` [N] for each of `clients`; ConfigurationError unless K * min_size <= N."""
        enough(labels, clients, self.kind)
        enough(labels, clients, self.kind, self.min_size)
        exponents = self.sigma * rng.standard_normal(clients)
        weights = np.exp(exponents - exponents.max())  # only ratios count, and a large sigma must not overflow
        sizes = apportion(np.maximum(weights, 1e-300), len(labels), self.min_size)
        return of_sizes(rng.permutation(len(labels)), sizes)
