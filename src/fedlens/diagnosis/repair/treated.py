"""What a remedy did to a job."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedlens.diagnosis.evidence import Outcome
from fedlens.diagnosis.finding import Finding
from fedlens.diagnosis.repair.health import Side


@dataclass(frozen=True)
class Treated:
    """What a remedy did to the job.

    `before`, `after`: the job as it is and treated, over the same seeds. `reference`: the accuracy that could be had,
    of `against`. `recovered`: (after - before) / (reference - before), nan where the job lacks nothing; `share`: 95% of
    it. `interval`: 95% of the gain after - before, paired by seed. `verified`: the interval excludes 0, the gain is
    more than a point, what was exactly broken is not found again, and nothing `beside` accuracy is spoiled; of faults
    that cost no accuracy: what was broken holds. `change`: what was done. `remains`: what the changed job lacks still,
    and `further`: what an examination of it finds; "" and () where there was none.
    """

    finding: Finding
    before: Outcome
    after: Outcome
    reference: float
    against: str
    recovered: float
    interval: tuple[float, float]
    verified: bool
    says: str
    change: str
    share: tuple[float, float] = (math.nan, math.nan)
    remains: str = ""
    further: tuple[Finding, ...] = ()
    beside: tuple[Side, ...] = ()


def percent(value: float) -> str:
    """A share: 0.1234 is "12.3%"."""
    return f"{100 * value:.1f}%"
