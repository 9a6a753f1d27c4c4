"""D8: training goes through the data in the order in which they lie."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import FEW, by_client
from fedlens.diagnosis.signs.labels.paired import trusted
from fedlens.diagnosis.signs.reading import listed, middle, percent, place, visits
from fedlens.diagnosis.signs.symptom import misses

LONG = 1.5  # times the run of equal labels that a shuffled order has; few large batches allow no more than 2
RISING = 0.8  # of neighbours; a shuffled order of 20 has 0.5, and 0.13 for standard deviation
LONGER, BATCHES = 1.2, 3  # the same of clients that are seen to keep the order, and batches that it takes


def order_is_kept(e: Evidence) -> Finding | None:
    """D8: an unshuffled loader over data stored by class shows one class after another.

    Measured by M29, runs of equal labels as training was given them, by those of a shuffled order: 1 where shuffled.
    Where one batch holds everything the order is of no account. Of some clients the places of their inputs in the data
    tell more surely: neighbours in training stand one behind the other.
    """
    return _of_all(e) or _by_places(e) or _of_some(e)


def _of_all(e: Evidence) -> Finding | None:
    sizes = {} if e.data is None else e.data.sizes
    whole = [(v, sizes.get(v.client, v.examples)) for v in visits(e) if v.watched.run is not None]
    seen = [v for v, size in whole if max(v.watched.batches, default=0) < size]
    long = [visit for visit in seen if (visit.watched.run or 0.0) > LONG]
    run = middle(visit.watched.run for visit in seen)
    if run is None or 2 * len(long) < len(seen) or len(long) < 2:
        return None
    says = (
        f"Clients train in the stored order: equal labels follow each other {run:.1f} times as long as shuffled ones."
    )
    return _finding(e, says, Measured("runs of equal labels by a shuffled order's", "M29", f"{run:.1f}", "about 1"))


def _by_places(e: Evidence) -> Finding | None:
    """Where batches are so large that runs stay short: all clients go through their data from front to back."""
    told = by_client(e, _in_order)
    run = middle(visit.watched.run for visit in visits(e) if visit.client in told)
    if len(told) < 2 or run is None or not all(all(found) for found in told.values()):
        return None
    rising = middle(visit.paired.rising for visit in visits(e) if visit.client in told and visit.paired)
    line = Measured("inputs that stand behind the one before, in the data", "M29", percent(rising or 0.0), "50 %")
    says = f"Clients train in the stored order, by class: equal labels follow each other {run:.1f} times as long as "
    return _finding(e, says + "shuffled ones.", line)


def _of_some(e: Evidence) -> Finding | None:
    told = by_client(e, _in_order)
    odd = tuple(sorted(client for client, found in told.items() if all(found)))
    if not odd or len(odd) > FEW * len(told) or any(any(found) for c, found in told.items() if c not in odd):
        return None
    rising = middle(visit.paired.rising for visit in visits(e) if visit.client in odd and visit.paired)
    line = Measured("inputs that stand behind the one before, in the data", "M29", percent(rising or 0.0), "50 %")
    says = f"Clients {listed(odd)} train in the stored order, one class after the other; the others shuffle."
    return _finding(e, says, line, odd)


def _in_order(visit: Visit) -> bool | None:
    known, run = trusted(visit), visit.watched.run
    if known is None or run is None or len(visit.watched.batches) < BATCHES:
        return None
    return known.rising > RISING and run > LONGER


def _finding(e: Evidence, says: str, line: Measured, clients: tuple[int, ...] = ()) -> Finding:
    return Finding(
        "D8",
        Certainty.FOUND,
        says,
        (line,),
        "Shuffle anew in every epoch (shuffle=True).",
        treatment="shuffle",
        clients=clients,
        where=place(e, "fit"),
        weight=max(misses(e), 0.05),
        hides=frozenset({"P1", "C1", "O2"}),
    )
