"""B4: another object is trained than is returned."""

from __future__ import annotations

from collections import defaultdict

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import first_or_late
from fedlens.diagnosis.signs.plumbing.restored import lagging, trained_in_vain
from fedlens.diagnosis.signs.reading import HONEST, listed, place, severity, visits


def trained_model_is_not_returned(e: Evidence) -> Finding | None:
    """B4: the client returns what it received, although its optimiser moved something.

    Measured by the update, which is exactly 0 at every visit, and by M30: steps were taken, at a rate and with a
    gradient above 0. Healthy: the update is never exactly 0. Without steps it is D7, without gradient H7.
    """
    return first_or_late(e, _not_returned)


def _not_returned(e: Evidence) -> Finding | None:
    by_client: dict[int, list[Visit]] = defaultdict(list)
    for visit in visits(e):
        by_client[visit.client].append(visit)
    still = {c: found for c, found in by_client.items() if all(_still(v) for v in found)}
    vain = any(trained_in_vain(v) for found in still.values() for v in found)
    idle = tuple(sorted(still)) if vain else ()
    idle = () if lagging(e) else idle
    everyone = len(idle) == len(by_client)
    if not idle or (len(by_client[idle[0]]) < 2 and len(idle) < 2):
        return None
    steps = sum(v.watched.steps or 0 for c in idle for v in by_client[c])
    who = "Clients return" if everyone else f"Clients {listed(idle)} return"
    return Finding(
        "B4",
        Certainty.FOUND,
        f"{who} exactly what they received, after {steps} steps that were taken on something else.",
        (Measured("size of the update after training", "M07", "exactly 0", "above 0"),),
        "Return the state of the model that the optimiser was made for, and make it after loading.",
        source="catalogue",
        also=("O8",),
        treatment="reference-client",
        clients=() if everyone else idle,
        where=place(e, "fit"),
        weight=severity(e, 0.4 if everyone else 0.1),
        hides=HONEST | {"O8", "E5", "E10", "B2", "H7", "D5"} if everyone else HONEST | {"O8"},
    )


def _still(visit: Visit) -> bool:
    """Whether steps were taken and exactly what was sent came back, as far as is heard."""
    w = visit.watched
    unheard = w.loss_first is None and bool(w.steps) and any(rate > 0 for rate in w.rates)
    return trained_in_vain(visit) or (unheard and visit.finite and visit.norm == 0)
