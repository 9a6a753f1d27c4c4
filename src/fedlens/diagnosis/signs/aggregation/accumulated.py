"""A5: what was added up before is added again."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import averages, leaks, made_up
from fedlens.diagnosis.signs.reading import HONEST, middle, number, place, rounds_watched, severity

LEAST = 0.05  # coefficient of an earlier round's update


def sum_is_carried_over(e: Evidence) -> Finding | None:
    """A5: the accumulator is not emptied, so earlier rounds' updates are in the aggregate again.

    Measured by M03, the coefficient of the round before in rounds that break M02, or by the second of two equal calls
    (M33). Healthy: 0; a declared server momentum has its own.
    """
    if not averages(e) or e.facts.declared.server_momentum or e.facts.declared.codec is not None:
        return None
    a, broken = made_up(e), {one.number for one in leaks(e)}
    past = [one.past for one in rounds_watched(e)[1:] if one.number in broken and one.past is not None]
    carried, again = middle(past), 0.0 if a is None or a.noise else a.again
    first_is_fine = bool(e.rounds) and e.rounds[0].number not in broken
    error = max((one.past_error for one in rounds_watched(e)), default=0.0)
    seen = first_is_fine and carried is not None and abs(carried) > LEAST + 4 * error
    if not seen and not (again > 1e-3 and a is not None and abs(a.total) > 1e-6):
        return None
    lines = (
        Measured("share of the round before in the aggregate", "M03", number(carried or 0.0), "0"),
        Measured("second of two equal calls, relative difference", "M33", number(again), "0"),
    )
    return Finding(
        "A5",
        Certainty.FOUND,
        "The aggregate still holds what earlier rounds added to it"
        + (f": the round before comes again with a coefficient of {number(carried or 0.0)}." if seen else "."),
        lines if seen and again else lines[:1] if seen else lines[1:],
        "Start every round's sum, and its divisor, from zero; declare server_momentum if that is what it is.",
        source="catalogue",
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=severity(e, 0.25),
        hides=HONEST | {"A1", "A6", "A9", "A10", "A12", "V1"},
    )
