"""What a run is measured against: the same model and examples without the federation, at a stated equal budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedlens.runs.federation import Federation
from fedlens.seeds import generator


@dataclass(frozen=True)
class Reference:
    """One comparison: a `federation` to run under `name`, and the `title` that people read."""

    name: str
    title: str
    federation: Federation


def references(federation: Federation) -> Iterator[Reference]:
    """The references that the experiment asks for, cheapest to understand first."""
    wanted, samples = federation.experiment.references, federation.samples_per_round()
    batch = _batch(federation, samples)
    if wanted.centralised:
        pooled = federation.pooled(max(1, round(samples / batch)), batch)
        yield Reference("centralised", "centralised, same samples", pooled)
    if wanted.centralised_depth:
        pooled = federation.pooled(federation.depth_per_round(), batch)
        yield Reference("centralised-depth", "centralised, same depth", pooled)
    if wanted.iid:
        yield Reference("iid", "same examples dealt IID", federation.redealt())
    for client in _alone(federation):
        yield Reference(f"local-only/{client}", "local only", federation.alone(client))


def budget(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was spent, counted from the rounds' rows."""
    samples, steps = (sum(row.get(name, 0) for row in rows) for name in ("samples", "steps"))
    return f"{samples:,} samples in {steps:,} steps"


def _batch(federation: Federation, samples: int) -> int:
    """The run's batch size; where clients use all they have, a whole cohort's examples make one batch."""
    batch = federation.experiment.local.batch
    size = samples if batch == "all" else batch
    return min(size, len(federation.deal.indices))


def _alone(federation: Federation) -> list[int]:
    wanted, count = federation.experiment.references.local_only, len(federation.deal)
    draw = generator(federation.experiment.seed, "alone")
    return sorted(int(client) for client in draw.choice(count, min(wanted, count), replace=False))


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) of `values`."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
