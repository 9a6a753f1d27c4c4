"""What a run is measured against: the same model and examples without the federation, at a stated equal budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedlens.runs.federation import Federation
from fedlens.seeds import generator


@dataclass(frozen=True)
class Reference:
    """One comparison: `federation` to run, and the words that name it and its budget."""

    name: str
    title: str
    budget: str
    federation: Federation


def references(federation: Federation) -> Iterator[Reference]:
    """The references that the experiment asks for, cheapest to understand first."""
    wanted, rounds = federation.experiment.references, federation.experiment.rounds
    samples = federation.samples_per_round()
    if wanted.centralised:
        yield _pooled(federation, "centralised", "centralised, same samples", samples)
    if wanted.centralised_depth:
        depth = federation.depth_per_round()
        yield _pooled(federation, "centralised-depth", "centralised, same depth", depth * _batch(federation, samples))
    if wanted.iid:
        budget = f"{samples * rounds:,} samples, same clients' sizes"
        yield Reference("iid", "same examples dealt IID", budget, federation.redealt())
    for client in _alone(federation):
        twin = federation.alone(client)
        epochs = twin.plan.rounds * (1 if federation.experiment.local.steps else federation.experiment.local.epochs)
        unit = "visits" if federation.experiment.local.steps else "epochs"
        yield Reference(f"local-only/{client}", "local only", f"{epochs} {unit} of its own examples", twin)


def _pooled(federation: Federation, name: str, title: str, samples: int) -> Reference:
    batch = _batch(federation, samples)
    steps = max(1, round(samples / batch))
    rounds = federation.experiment.rounds
    budget = f"{steps * batch * rounds:,} samples in {steps * rounds:,} steps"
    return Reference(name, title, budget, federation.pooled(steps, batch))


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
