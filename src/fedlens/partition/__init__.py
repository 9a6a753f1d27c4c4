"""Partitions: which client holds which sample.

Knows: labels, one column of values, and how the literature deals them to clients.
Does not know: pixels, models, training.
Offers: PARTITIONS, AnyPartition and the kinds in it; Partition, redeal, holdout; describe, Description.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from fedlens.partition.classes import Classes
from fedlens.partition.describe import Description, describe
from fedlens.partition.dirichlet import Dirichlet
from fedlens.partition.holdout import holdout
from fedlens.partition.iid import IID
from fedlens.partition.natural import Natural
from fedlens.partition.partition import Partition, redeal
from fedlens.partition.quantity import Quantity
from fedlens.partition.shards import Shards, UnbalancedShards
from fedlens.short import spelled_out

PARTITIONS: dict[str, type] = {
    "iid": IID,
    "shards": Shards,
    "unbalanced-shards": UnbalancedShards,
    "dirichlet": Dirichlet,
    "classes": Classes,
    "quantity": Quantity,
    "natural": Natural,
}

# The validator stands after the discriminator, so that it runs first and the union only ever sees a table or a value.
AnyPartition = Annotated[
    IID | Shards | UnbalancedShards | Dirichlet | Classes | Quantity | Natural,
    Field(discriminator="kind"),
    BeforeValidator(lambda value: spelled_out(value, PARTITIONS, "partition")),
]

__all__ = [
    "IID",
    "PARTITIONS",
    "AnyPartition",
    "Classes",
    "Description",
    "Dirichlet",
    "Natural",
    "Partition",
    "Quantity",
    "Shards",
    "UnbalancedShards",
    "describe",
    "holdout",
    "redeal",
]
