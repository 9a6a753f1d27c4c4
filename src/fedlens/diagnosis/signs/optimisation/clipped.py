"""O5: local gradients are bounded all the time."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import ahead, middle, percent, visits
from fedlens.diagnosis.signs.symptom import ails, misses


def gradients_are_clipped(e: Evidence) -> Finding | None:
    """O5: a bound that acts in every step sets the pace, and a bound for each tensor changes the direction.

    Measured by M30: share of steps whose gradient was scaled down. Many healthy jobs bound now and then.
    """
    share = middle(visit.watched.clipped for visit in visits(e))
    apart = any(visit.watched.separately for visit in visits(e))
    if share is None or (share < 0.9 and not apart):
        return None
    behind = ahead(e, "reference")  # which bounds nothing
    slows = behind is None or behind > 0.05
    each = ", each tensor by itself" if apart else ""
    return Finding(
        "O5",
        Certainty.CONSISTENT if share >= 0.9 and ails(e) and slows else Certainty.NOTED,
        f"Gradients are scaled down in {percent(share)} of the steps{each}.",
        (Measured("steps with a scaled gradient", "M30", percent(share), "now and then"),),
        "Bound the norm of the whole gradient, near the median of the norms that occur.",
        weight=misses(e),
    )
