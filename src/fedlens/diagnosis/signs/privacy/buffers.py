"""V5: noise or bounds on what they are not meant for."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import made_up
from fedlens.diagnosis.signs.reading import listed, noisy, number, place, rounds_watched, severity, statistics


def noise_is_on_buffers(e: Evidence) -> Finding | None:
    """V5: noise falls on running statistics, or the bound on weights instead of updates.

    Measured by M05 (variances below 0, statistics that are no mean under declared noise) and by the model's own
    coefficient, which clipped weights make smaller than 1. Healthy: statistics are averaged without noise or not at
    all, and the model keeps 1.
    """
    if not e.facts.declared.dp:
        return None
    names, rounds, a = statistics(e), rounds_watched(e), made_up(e)
    negative = sorted({name for one in e.rounds for name in one.negative})
    other = [name for name in names if rounds and all(one.fates.get(name) == "other" for one in rounds)]
    shrunk = a is not None and a.rule in ("mean", "norm-clip") and abs(a.current - 1) > 0.02 and not a.landed
    if not (noisy(e) and (negative or other)) and not shrunk:
        return None
    if negative or other:
        first = listed(negative or other, 2)
        says = f"Noise is added to running statistics ({first})" + (": variances fall below 0." if negative else ".")
        line = Measured("statistics that are noisy or below 0", "M05", f"{len(negative or other)}", "none")
    else:
        current = number(a.current if a is not None else 0.0)
        says = f"The bound falls on weights, not on updates: the model keeps only {current} of itself in a round."
        line = Measured("coefficient of the model itself", "M03", current, "1")
    return Finding(
        "V5",
        Certainty.FOUND,
        says,
        (line,),
        "Clip and noise only the updates of parameters; average statistics apart, or use group norm.",
        source="catalogue",
        also=("N3",),
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=severity(e, 0.3),
        hides=frozenset({"N2", "N3", "V1", "V4", "A6", "A1", "O2", "A10", "P1", "C1"}),
    )
