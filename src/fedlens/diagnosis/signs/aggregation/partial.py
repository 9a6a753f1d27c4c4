"""A4: the aggregator leaves some parameters out."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import HONEST, listed, place, rounds_watched, severity, shared_names

LEFT = ("kept", "missing", "one")


def entries_are_left_out(e: Evidence) -> Finding | None:
    """A4: some parameters stay as they were, or go missing, while others are averaged.

    Measured by M05 and M06 with made-up uploads that move every entry. Healthy: all that is shared and not frozen is
    averaged. Buffers alone are N1; everything kept is B2.
    """
    a, frozen = e.aggregation, e.facts.declared.frozen
    if e.facts.declared.reduce != "mean" or (a is not None and a.landed):
        return None
    shared = [name for name in shared_names(e, "parameter") if not any(name.startswith(x) for x in frozen)]
    fates: dict[str, str] = dict(a.fates) if a is not None else {}
    rounds = [one for one in rounds_watched(e) if one.moved]
    fates |= {name: "kept" for name in shared if rounds and all(name in one.dropped for one in rounds)}
    sent = [name for name in shared if not _withheld(e, name)]
    left = [name for name in sent if fates.get(name) in LEFT]
    if not left or len(left) == len(sent):
        return None
    how = sorted({fates[name] for name in left})
    return Finding(
        "A4",
        Certainty.FOUND,
        f"{len(left)} of {len(sent)} parameters are not averaged ({listed(left)}): {' and '.join(how)}.",
        (Measured("parameters that the aggregate leaves out", "M05", f"{len(left)} of {len(sent)}", "none"),),
        "Average every entry of the state by its name, and load the result strictly.",
        source="catalogue",
        also=("X4",),
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=severity(e, 0.2),
        hides=HONEST | {"X4", "A1", "A6"},
    )


def _withheld(e: Evidence, name: str) -> bool:
    """Whether clients do not send the entry at all."""
    return any(name in visit.missing for one in e.rounds for visit in one.visits)
