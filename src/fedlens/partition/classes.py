"""Every client sees a fixed number of classes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedlens.errors import ConfigurationError
from fedlens.partition.partition import Column, Ints, Labels, Partition, by_class, enough, of_owners
from fedlens.settings import Count, settings

CELLS = 20_000_000  # random keys held at once, 160 MB: 100,000 clients x 1000 classes would be five times that


@settings
class Classes:
    """Each client holds exactly `per_client` classes; a class is divided evenly over those who hold it.

    Every class is held by someone as soon as K * per_client >= C; otherwise the samples of the others stay unused.
    Source: Li et al. 2022 (NIID-Bench), "quantity-based label imbalance, #C = k".
    Differs: their code promises every class a holder only from K >= C on.
    """

    per_client: Count = 2
    kind: Literal["classes"] = "classes"

    def deal(self, labels: Labels, clients: int, rng: np.random.Generator, column: Column | None = None) -> Partition:
        """Indices of `labels` [N] for each of `clients`; ConfigurationError when classes or samples do not suffice."""
        enough(labels, clients, self.kind)
        present, counts = np.unique(labels, return_counts=True)
        if self.per_client > len(present):
            what = f"a client cannot hold {self.per_client} classes of {len(present)}"
            do = f"Set per_client to {len(present)} or less."
            raise ConfigurationError(what, where=f"{self.kind}.per_client", seen=str(self.per_client), do=do)
        who, which = _holders(clients, len(present), self.per_client, rng)
        owners = np.full(len(labels), -1, dtype=np.int64)
        order, start = by_class(labels, rng), 0
        for place, count in enumerate(counts):
            holders = rng.permutation(who[which == place])
            if len(holders) > count:
                what = f"class {present[place]} has {count} samples for the {len(holders)} clients that hold it"
                do = "Set fewer clients or a smaller per_client."
                raise ConfigurationError(what, where=self.kind, seen=f"{clients} clients", do=do)
            if len(holders):
                owners[order[start : start + count]] = holders[np.arange(count) % len(holders)]
            start += count
        return of_owners(owners, clients)


def _holders(clients: int, classes: int, each: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Pairs of client and class, `each` distinct classes for a client: two arrays i64 [clients * each]."""
    # A client takes the classes of its `each` smallest random keys. The classes are first promised round, in a random
    # order, with a key below all others, so that none is forgotten.
    promised = np.arange(max(clients, classes))
    promised_to, promised_class = promised % clients, rng.permutation(classes)[promised % classes]
    chosen = []
    step = max(1, CELLS // classes)
    for first in range(0, clients, step):
        keys: NDArray[np.float64] = rng.random((min(step, clients - first), classes))
        here = (promised_to >= first) & (promised_to < first + step)
        keys[promised_to[here] - first, promised_class[here]] -= 1
        chosen.append(np.argpartition(keys, each - 1, axis=1)[:, :each])
    return np.repeat(np.arange(clients), each), np.concatenate(chosen).reshape(-1)
