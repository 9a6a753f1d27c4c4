"""D7: clients that take no step."""

from __future__ import annotations

from collections.abc import Sequence

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import first_or_late
from fedlens.diagnosis.signs.reading import HONEST, place, visits


def clients_take_no_step(e: Evidence) -> Finding | None:
    """D7: a loader that drops its last batch gives a client with less than one batch nothing to learn from.

    Measured by M30, steps counted inside the optimiser; a healthy visit takes at least one. A visit in which nothing
    at all is seen, and from which exactly comes back what went, took none, if others are seen to train or none does.
    Clients that train at other visits, or stop when all do, had another reason: a loss that is no number.
    """
    return first_or_late(e, _idle)


def _idle(e: Evidence) -> Finding | None:
    seen = [visit for visit in visits(e) if visit.finite and visit.examples > 0]
    busy = {visit.client for visit in seen if visit.watched.steps or visit.size > 0}
    idle = [visit for visit in seen if visit.client not in busy]
    everyone = len(idle) == len(seen)
    if not idle or not (everyone or _others_train(e, idle)):
        return None
    clients = tuple(sorted({visit.client for visit in idle}))
    who = ("All of the " if everyone else "") + f"{len(clients)} clients"
    return Finding(
        "D7",
        Certainty.FOUND,
        f"{who} with up to {max(visit.examples for visit in idle):.0f} examples take no step at all.",
        (Measured("visits without a step", "M30", f"{len(idle)} of {len(seen)}", "0"),),
        "Do not drop the last batch, or make batches no larger than the smallest client.",
        also=("B4",) if everyone else (),
        clients=() if everyone else clients,
        where=place(e, "fit"),
        weight=len(idle) / len(seen),
        hides=HONEST | {"O8", "E5", "E10", "B2", "D5"} if everyone else frozenset(),
    )


def _others_train(e: Evidence, idle: Sequence[Visit]) -> bool:
    """Whether others are seen to train to the end, or all of them hold more examples than those who are `idle`."""
    sizes = {} if e.data is None else e.data.sizes
    held = max(sizes.get(visit.client, visit.examples) for visit in idle)
    training = [visit for visit in visits(e) if visit.watched.steps and visit.size > 0]
    smaller = all(held < sizes.get(visit.client, visit.examples) for visit in training)
    return bool(training) and (smaller or any(visit in training for visit in e.rounds[-1].visits))
