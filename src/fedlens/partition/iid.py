"""Every client is a random sample of the whole: the reference that skewed partitions are compared with."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedlens.partition.partition import Column, Labels, Partition, enough, of_sizes
from fedlens.settings import settings


@settings
class IID:
    """All samples shuffled and cut into K parts of equal size, up to one sample.

    Source: McMahan et al. 2017, section 3, "IID".
    """

    kind: Literal["iid"] = "iid"

    def deal(self, labels: Labels, clients: int, rng: np.random.Generator, column: Column | None = None) -> Partition:
        """Indices of `labels` [N] for each of `clients`; ConfigurationError when K > N."""
        enough(labels, clients, self.kind)
        sizes = np.full(clients, len(labels) // clients)
        sizes[: len(labels) % clients] += 1
        return of_sizes(rng.permutation(len(labels)), sizes)
