"""Label-sorted data cut into shards, of which every client gets a few."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import model_validator

from fedlens.errors import ConfigurationError
from fedlens.partition.apportion import apportion
from fedlens.partition.partition import Column, Ints, Labels, Partition, by_class, enough, of_sizes, ranges
from fedlens.settings import Count, settings


@settings
class Shards:
    """Samples sorted by label, cut into K * per_client shards, `per_client` random shards to each client.

    Source: McMahan et al. 2017, section 3, "pathological non-IID", with per_client = 2.
    Differs: where the samples do not divide, shards differ by one sample and none is left over.
    """

    per_client: Count = 2
    kind: Literal["shards"] = "shards"

    def deal(self, labels: Labels, clients: int, rng: np.random.Generator, column: Column | None = None) -> Partition:
        """Indices of `labels` [N] for each of `clients`; ConfigurationError when there are more shards than samples."""
        enough(labels, clients, self.kind)
        numbers = np.full(clients, self.per_client)
        do = f"Set fewer clients, or per_client to {len(labels) // clients} or less."
        return _deal(labels, numbers, rng, self.kind, do)


@settings
class UnbalancedShards:
    """Samples sorted by label, cut into `shards` shards; clients get different numbers of random shards.

    Every client draws a whole number from `minimum` to `maximum`; the numbers are scaled so that they sum to `shards`
    and no client has fewer than `minimum`. With the defaults, 100 clients of CIFAR-10 hold about 50 to 950 images.
    Source: the unbalanced split of source 003's code (1000 shards, 1 to 30 each). `maximum` binds before the scaling,
    as there. Differs: numbers are rounded by largest remainders, so that every shard is dealt exactly once.
    """

    minimum: Count = 1
    maximum: Count = 30
    shards: Count = 1000
    kind: Literal["unbalanced-shards"] = "unbalanced-shards"

    @model_validator(mode="after")
    def _minimum_is_not_above_maximum(self) -> UnbalancedShards:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum = {self.minimum} is above maximum = {self.maximum}; set minimum lower")
        return self

    def deal(self, labels: Labels, clients: int, rng: np.random.Generator, column: Column | None = None) -> Partition:
        """Indices of `labels` [N] for each of `clients`; ConfigurationError when shards or samples do not suffice."""
        enough(labels, clients, self.kind)
        if clients * self.minimum > self.shards:
            need = f"{clients} clients with at least {self.minimum} shards each need {clients * self.minimum} shards"
            do = f"Set shards to {clients * self.minimum} or more, or fewer clients."
            raise ConfigurationError(need, where=self.kind, seen=f"shards = {self.shards}", do=do)
        drawn = rng.integers(self.minimum, self.maximum, size=clients, endpoint=True)
        numbers = apportion(drawn.astype(np.float64), self.shards, self.minimum)
        return _deal(labels, numbers, rng, self.kind, f"Set shards to {len(labels)} or less.")


def _deal(labels: Labels, numbers: Ints, rng: np.random.Generator, kind: str, do: str) -> Partition:
    """`numbers[i]` random shards to client i, out of as many equal shards as the numbers sum to."""
    shards, samples = int(numbers.sum()), len(labels)
    if shards > samples:
        seen = f"{samples} samples"
        raise ConfigurationError(f"{samples} samples cannot be cut into {shards} shards", where=kind, seen=seen, do=do)
    bounds = np.arange(shards + 1) * samples // shards
    dealt = rng.permutation(shards)
    starts, lengths = bounds[dealt], np.diff(bounds)[dealt]
    sizes = np.add.reduceat(lengths, np.cumsum(numbers) - numbers)
    return of_sizes(by_class(labels, rng)[ranges(starts, lengths)], sizes)
