"""D8: training goes through the data in the order in which they lie."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import middle, place, visits
from fedlens.diagnosis.signs.symptom import misses

LONG = 1.5  # times the run of equal labels that a shuffled order has; few large batches allow no more than 2


def order_is_kept(e: Evidence) -> Finding | None:
    """D8: an unshuffled loader over data stored by class shows one class after another.

    Measured by M29, runs of equal labels as training was given them, by those of a shuffled order: 1 where shuffled.
    Where one batch holds everything the order is of no account.
    """
    sizes = {} if e.data is None else e.data.sizes
    whole = [(v, sizes.get(v.client, v.examples)) for v in visits(e) if v.watched.run is not None]
    seen = [v for v, size in whole if max(v.watched.batches, default=0) < size]
    long = [visit for visit in seen if (visit.watched.run or 0.0) > LONG]
    run = middle(visit.watched.run for visit in seen)
    if run is None or 2 * len(long) < len(seen) or len(long) < 2:
        return None
    return Finding(
        "D8",
        Certainty.FOUND,
        f"Clients train in the stored order: equal labels follow each other {run:.1f} times as long as shuffled ones.",
        (Measured("runs of equal labels by a shuffled order's", "M29", f"{run:.1f}", "about 1"),),
        "Shuffle anew in every epoch (shuffle=True).",
        treatment="shuffle",
        where=place(e, "fit"),
        weight=max(misses(e), 0.05),
        hides=frozenset({"P1", "C1", "O2"}),
    )
