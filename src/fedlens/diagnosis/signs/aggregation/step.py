"""A6: the server takes another step than declared."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import Total, fault
from fedlens.diagnosis.signs.reading import HONEST, number, place, severity


def server_steps_wrongly(e: Evidence) -> Finding | None:
    """A6: updates taken for weights or weights for updates, a wrong sign, an undeclared server rate, one step twice.

    Measured by M03: the shares are right, their sum is not the server's rate (-1 is a sign, 2 twice, 0.01 a rate), or
    the model's own coefficient is not 1. Healthy: the declared rate and 1, to four digits.
    """
    found = fault(e)
    if found is None or found.cause != "A6":
        return None
    seen, rate = found.seen, e.facts.declared.server_lr
    return Finding(
        "A6",
        Certainty.FOUND,
        _words(seen, rate),
        (
            Measured("sum of the effective weights", "M03", number(seen.total), number(rate)),
            Measured("coefficient of the model itself", "M03", number(seen.current), "1"),
        ),
        "Make the new model the old one plus the server's rate times the mean of (upload - old model), once; or "
        "declare the rate that is meant.",
        source="Reddi et al. 2021, algorithm 1",
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=severity(e, 0.25),
        hides=HONEST | {"N3", "X1", "A9", "A10", "V2", "N5"},
    )


def _words(seen: Total, rate: float) -> str:
    if abs(seen.current) < 0.02:
        return "The mean update replaces the model instead of being added to it."
    if abs(seen.current - 1) > 0.02:
        return f"The old model stands in the new one {number(seen.current)} times beside the mean update."
    if seen.total < 0:
        return f"The server steps against the mean update: its rate is {number(seen.total)} instead of {number(rate)}."
    return f"The server takes {number(seen.total)} times the mean update, declared is {number(rate)}."
