"""S2: the cohort is smaller than declared."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import lost, place


def cohort_is_smaller(e: Evidence) -> Finding | None:
    """S2: fewer clients are asked than the job says, often one.

    Measured by M23, the smallest and largest cohort of the plan. Healthy: the declared size; cohorts drawn client by
    client vary about it, so that only a largest one of half the size, or a constant smaller one, is a fault.
    """
    p, f = e.participation, e.facts
    if p is None or p.sizes[1] < 1:
        return None
    low, high = p.sizes
    short = high < min(f.cohort, f.clients) and (low == high or 2 * high <= f.cohort)
    if not short and not p.twice:
        return None
    sizes = f"{low}" if low == high else f"{low} to {high}"
    return Finding(
        "S2",
        Certainty.FOUND if short and f.rounds > 2 else Certainty.NOTED,
        f"Rounds ask {sizes} clients, the job says {f.cohort}."
        if short
        else "Some rounds ask one client twice: the cohort is smaller than it looks.",
        (Measured("clients asked in a round", "M23", sizes, str(f.cohort)),),
        "Pass the declared cohort to the sampler, and draw without replacement.",
        source="catalogue",
        treatment="sample-all" if short else "",
        where=place(e, "sample"),
        weight=max(0.1 if high == 1 else 0.05, lost(e)) if short else 0.0,
        hides=frozenset({"S4", "A9"}) if short else frozenset(),
    )
