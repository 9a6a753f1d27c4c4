"""A12: the sum is divided by a constant."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import fault, leaks
from fedlens.diagnosis.signs.reading import HONEST, number, place, severity


def divisor_is_constant(e: Evidence) -> Finding | None:
    """A12: the sum is divided by a fixed number of clients or examples, not by those that came.

    Measured by M03 with cohorts of two sizes: the sum of the coefficients changes with the number of uploads. Healthy:
    the server's rate at any size. Private means may divide by the expected number.
    """
    found = fault(e)
    if found is None or found.cause != "A12" or e.aggregation is None:
        return None
    told = ", ".join(f"{number(total)} for {m}" for m, total in e.aggregation.by_cohort)
    return Finding(
        "A12",
        Certainty.FOUND,
        f"The sum of the weights depends on how many uploads come: {told}.",
        (Measured("sum of the effective weights, by uploads", "M03", told, "the same for any number"),),
        "Divide by the weights that were added up, not by a constant.",
        source="catalogue",
        also=("A1", "A6"),
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=severity(e, 0.1) if leaks(e) else 0.05,
        silent=not leaks(e),
        hides=HONEST | {"A1", "A6", "V2"} if leaks(e) else frozenset(),
    )
