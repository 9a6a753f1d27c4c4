"""The data's own clients: writers, speakers, hospitals."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedlens.errors import ConfigurationError
from fedlens.partition.partition import Column, Labels, Partition, Together, of_owners
from fedlens.settings import settings


@settings
class Natural:
    """One client for each distinct value of a column of the data; client i has the i-th value in sorted order.

    Source: the users of LEAF (Caldas et al. 2018).
    """

    column: str
    kind: Literal["natural"] = "natural"

    def deal(self, labels: Labels, clients: int, rng: np.random.Generator, column: Column | None = None) -> Partition:
        """Indices of `labels` [N] for each of `clients`, by the values `column` [N].

        Raises ConfigurationError when there is no such column or `clients` is not the number of distinct values.
        """
        if column is None:
            do = "Name a column of the data, or choose another partition."
            raise ConfigurationError(f"the data have no column '{self.column}'", where=self.kind, do=do)
        if len(column) != len(labels):
            what = f"column '{self.column}' has {len(column)} values for {len(labels)} samples"
            raise ConfigurationError(what, where=self.kind, do="Give one value for every sample.")
        if isinstance(column, Together):
            self._check_count(len(column.offsets) - 1, clients)
            return Partition(range(len(column)), column.offsets)
        # Text columns may arrive as objects, among them None, which cannot be sorted.
        values = column.astype(str) if column.dtype == object else column
        distinct, owners = np.unique(values, return_inverse=True)
        self._check_count(len(distinct), clients)
        return of_owners(owners.astype(np.int64), clients)

    def _check_count(self, distinct: int, clients: int) -> None:
        if distinct != clients:
            what = f"column '{self.column}' has {distinct} distinct values for {clients} clients"
            do = f"Set clients.count to {distinct}."
            raise ConfigurationError(what, where=self.kind, seen=f"clients.count = {clients}", do=do)
