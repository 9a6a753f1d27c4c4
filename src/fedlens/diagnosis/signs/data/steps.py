"""D7: clients that take no step."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import place, visits


def clients_take_no_step(e: Evidence) -> Finding | None:
    """D7: a loader that drops its last batch gives a client with less than one batch nothing to learn from.

    Measured by M30, steps counted inside the optimiser; a healthy visit takes at least one. A visit in which nothing
    at all is seen, and from which exactly comes back what went, took none, if others are seen to train.
    """
    seen = [visit for visit in visits(e) if visit.finite]
    idle = [visit for visit in seen if not visit.watched.steps and visit.size == 0 and visit.examples > 0]
    if not idle or not any(visit.watched.steps and visit.size > 0 for visit in seen):
        return None
    clients = tuple(sorted({visit.client for visit in idle}))
    return Finding(
        "D7",
        Certainty.FOUND,
        f"{len(clients)} clients with up to {max(visit.examples for visit in idle):.0f} examples take no step at all.",
        (Measured("visits without a step", "M30", f"{len(idle)} of {len(seen)}", "0"),),
        "Do not drop the last batch, or make batches no larger than the smallest client.",
        clients=clients,
        where=place(e, "fit"),
        weight=len(idle) / len(seen),
    )
