"""C2: control variates that are added with the wrong sign."""

from __future__ import annotations

from statistics import median

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, place, severity
from fedlens.diagnosis.signs.symptom import ails

AGAIN = 2  # second visits that must say so
AGREES = 0.2  # cosine; what is right points the other way, or nowhere where clients are alike


def correction_is_turned(e: Evidence) -> Finding | None:
    """C2: the correction c - c_i is subtracted where it belongs added, so that clients drift further apart.

    Measured by what is added to the gradients by hand: from a client's second visit on, c_i is about its own gradient,
    so that c - c_i points against what was computed, cosine below 0; nowhere where clients are alike. At a first visit
    c_i is 0, which tells nothing.
    """
    if "scaffold" not in (e.facts.declared.method or "").lower():
        return None
    told: list[float] = []
    known: set[int] = set()
    for one in e.rounds:
        for visit in one.visits:
            cosines = [p.along for p in visit.watched.pulls if p.along is not None]
            if visit.client in known and cosines:
                told.append(median(cosines))
            known.add(visit.client)
    if len(told) < AGAIN or min(told) < 0 or median(told) < AGREES:
        return None
    seen = f"{number(median(told))} in {len(told)} visits"
    return Finding(
        "C2",
        Certainty.SUPPORTED if ails(e) else Certainty.CONSISTENT,
        "The correction pushes clients on where they go by themselves: its sign is turned.",
        (Measured("cosine of the correction with the client's own gradient", "M09", seen, "below 0, from visit 2 on"),),
        "Add the server's control and subtract the client's: gradient + c - c_i.",
        source="Karimireddy et al. 2020, algorithm 1",
        where=place(e, "fit"),
        weight=severity(e, 0.2),
        hides=frozenset({"P1", "C1", "O1", "O2", "S4"}),
    )
