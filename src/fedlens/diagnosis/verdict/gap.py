"""The way from centralised training to what the job reaches, in steps that were each run."""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple

from fedlens.diagnosis.evidence import Evidence, Outcome, Trials

BUDGETS = {
    "pooled-samples": "pooled, the same samples",
    "pooled-depth": "pooled, as many steps as one client",
    "pooled-wall": "pooled, as many steps on larger batches",
}


class Bar(NamedTuple):
    """A level of the waterfall: accuracy as a fraction, its standard error, and the change from the level above."""

    what: str
    accuracy: float
    error: float
    change: float


def waterfall(e: Evidence) -> tuple[Bar, ...]:
    """The levels that were measured, from the best that pooled training reached down to the job; () without trials."""
    if e.trials is None or e.trials.job is None:
        return ()
    t = e.trials
    pooled = [one for name in BUDGETS if (one := t.knobs.get(name))]
    pooled = [one for one in pooled if one.values and math.isfinite(one.mean)]
    best = max(pooled, key=lambda one: one.mean, default=None)
    levels: list[tuple[str, Outcome | None]] = [
        (_budget_of(t), best),
        (BUDGETS["pooled-samples"], t.knobs.get("pooled-samples")),
        ("dealt again IID", t.knobs.get("iid")),
        ("dealt as it is, reference code", t.reference),
        ("the job's own code", t.job),
    ]
    bars: list[Bar] = []
    for what, outcome in levels:
        if outcome is None or not outcome.values:
            continue
        if not (bars and what.startswith("pooled") and outcome.mean == bars[-1].accuracy):
            change = outcome.mean - bars[-1].accuracy if bars else 0.0
            bars.append(Bar(what, outcome.mean, spread(outcome, t.error), change))
    return tuple(bars)


def _budget_of(t: Trials) -> str:
    """What the best of pooled training is called: by its budget, where no other was tried."""
    tried = [name for name in BUDGETS if (one := t.knobs.get(name)) is not None and one.values]
    return BUDGETS[tried[0]] if len(tried) == 1 else "pooled, the best of its budgets"


def spread(outcome: Outcome, alone: float) -> float:
    """The standard error of an outcome's mean: over its seeds, and never below that of one evaluation by sqrt(n)."""
    n = len(outcome.values)
    seeds = statistics.stdev(outcome.values) if n > 1 else 0.0
    return max(seeds, alone) / math.sqrt(n)
