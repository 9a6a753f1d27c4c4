"""S5: answers are dropped in silence."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import listed, lost, place, visits


def answers_are_dropped(e: Evidence) -> Finding | None:
    """S5: clients fail or are late, and the round goes on with those that answered.

    Measured by the visits that came back of those asked, and by clients whose answer is empty. Healthy: all come. A
    declared `min_clients` says that some may fail, as long as enough answer; that no uploads at all would be averaged
    is only noted.
    """
    lost_in = {one.number: [c for c in one.asked if c not in {v.client for v in one.visits}] for one in e.rounds}
    gone = {number: clients for number, clients in lost_in.items() if clients}
    asked = sum(len(one.asked) for one in e.rounds)
    if gone and e.facts.declared.min_clients is None:
        clients = sorted({client for some in gone.values() for client in some})
        count = sum(map(len, gone.values()))
        return Finding(
            "S5",
            Certainty.FOUND,
            f"{count} of {asked} visits brought nothing back (clients {listed(clients)}), and the rounds went on.",
            (Measured("visits without an answer", "M23", f"{count} of {asked}", "none"),),
            "Let a failing client stop the round or be counted and shown; see why these clients fail.",
            source="catalogue",
            clients=tuple(clients),
            where=place(e, "fit"),
            weight=max(0.05, lost(e)),
        )
    if (empty := _empty_handed(e)) and e.facts.declared.min_clients is None:
        return Finding(
            "S5",
            Certainty.FOUND,
            f"{len(empty)} clients that hold examples train on none of them: {listed(empty)}; the rounds go on.",
            (Measured("clients that report 0 examples and send nothing new", "M23", listed(empty), "none"),),
            "Let a failing client stop the round or be counted and shown; see why these clients fail.",
            source="catalogue",
            clients=empty,
            where=place(e, "fit"),
            weight=max(0.05, lost(e)),
        )
    if e.aggregation is None or e.aggregation.empty != "passed on":
        return None
    return Finding(
        "S5",
        Certainty.NOTED,
        "A round without any upload would change the model.",
        (Measured("the aggregate of no uploads", "M23", "another model", "refused, or the same model"),),
        "Refuse a round without uploads.",
        source="catalogue",
        where=place(e, "aggregate"),
    )


def _empty_handed(e: Evidence) -> tuple[int, ...]:
    """Clients that hold examples, report none at every visit, and send back what they received, while others train."""
    held = {} if e.data is None else {client: sum(row) for client, row in e.data.counts.items()}
    seen = visits(e)
    idle = {visit.client for visit in seen if visit.examples == 0 and visit.norm == 0 and held.get(visit.client, 0) > 0}
    busy = {visit.client for visit in seen if visit.examples > 0 and visit.norm > 0}
    return tuple(sorted(idle - busy)) if busy else ()
