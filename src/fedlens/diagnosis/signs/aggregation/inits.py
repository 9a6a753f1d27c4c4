"""A11: clients begin from different models."""

from __future__ import annotations

from collections import defaultdict

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import HONEST, middle, percent, place, severity

APART = 5e-3  # of the model's norm: half precision rounds by less


def clients_begin_apart(e: Evidence) -> Finding | None:
    """A11: clients' first visits start from models of their own, and the first mean is of unrelated networks.

    Measured by M01 at each client's first visit against its later ones. Healthy: all start from the model that was
    sent. Where later visits start elsewhere too it is B1.
    """
    if e.facts.declared.local_entries or e.facts.declared.stateful:
        return None
    starts: dict[int, list[float]] = defaultdict(list)
    for one in e.rounds:
        for visit in one.visits:
            if visit.watched.start is not None:
                starts[visit.client].append(visit.watched.start)
    first, later = [s[0] for s in starts.values()], [x for s in starts.values() for x in s[1:]]
    heeds = middle(e.handling.heeds.values()) if e.handling is not None else None
    if len(first) < 2 or min(first) < APART or any(x > APART for x in later) or (not later and (heeds or 0.0) < 0.5):
        return None
    return Finding(
        "A11",
        Certainty.FOUND,
        f"At their first visit clients start {percent(middle(first) or 0.0)} of the model's norm away from it.",
        (Measured("distance of the start from what was sent, first visits", "M01", percent(min(first)), "0"),),
        "Load the model that was sent before the first step as well.",
        source="McMahan et al. 2017, figure 1",
        treatment="load-global",
        where=place(e, "fit"),
        weight=severity(e, 0.15),
        hides=HONEST,
    )
