"""L1, L2: a few clients train on other labels than they hold."""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import NamedTuple

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import FEW, by_client, withstood
from fedlens.diagnosis.signs.labels.paired import trusted
from fedlens.diagnosis.signs.reading import listed, percent, place
from fedlens.diagnosis.signs.symptom import misses

APART = 0.2  # of the labels, by total variation
CHANCE = 4.0  # times what drawing examples at random explains
EXACTLY = 0.01  # where whole epochs are seen, and those of others have exactly the labels that they hold
MOST = 0.6  # of the clients, for whom that is so


def labels_are_changed_in_training(e: Evidence) -> Finding | None:
    """L1, L2: labels are renamed, or drawn anew, between the data and the loss.

    Measured by M29 and M30: how often each class is among the labels that the loss was given, beside the client's data.
    Healthy: the same, exactly after whole epochs, else but for the draw of batches. Where most clients differ, or
    inputs are seen to keep their labels, their training draws its examples on purpose.
    """
    told = by_client(e, lambda visit: _seen(e, visit))
    exact = sum(all(one.whole and one.apart == 0 for one in found) for found in told.values()) >= MOST * len(told)
    odd = {c: found for c, found in told.items() if all(_differs(one, exact) for one in found)}
    same = [c for c, found in told.items() if not any(_differs(one, exact) for one in found)]
    if not odd or len(odd) > FEW * len(told) or len(odd) + len(same) < len(told):
        return None
    clients, most = tuple(sorted(odd)), max(one.apart for found in odd.values() for one in found)
    return Finding(
        "L1",
        Certainty.NOTED if withstood(e) else Certainty.FOUND,
        f"Clients {listed(clients)} train on other labels than they hold: at least {percent(most)} are changed.",
        (Measured("labels in training from those held, total variation", "M29", percent(most), "0 %, or by chance"),),
        "Leave labels as they are loaded; rename classes in one place, by one table for all clients.",
        also=("L2",),
        treatment="drop-clients",
        clients=clients,
        where=place(e, "fit"),
        weight=max(misses(e), 0.1),
        hides=frozenset({"A9", "P1", "C1", "S4"}),
    )


class _Seen(NamedTuple):
    """Of one visit: total variation between the labels in training and those held, what chance explains of it, and
    whether as many were seen as whole epochs have."""

    apart: float
    chance: float
    whole: bool


def _differs(one: _Seen, exact: bool) -> bool:
    return one.apart > max(APART, CHANCE * one.chance) or (exact and one.whole and one.apart > EXACTLY)


def _seen(e: Evidence, visit: Visit) -> _Seen | None:
    kept = trusted(visit)
    held = () if e.data is None or (kept is not None and kept.changed == 0) else e.data.counts.get(visit.client, ())
    seen, size, total = visit.watched.label_counts, sum(visit.watched.label_counts), sum(held)
    if not seen or not total or (e.data is not None and total < e.data.sizes.get(visit.client, 0)):
        return None
    pairs = list(zip_longest(seen, held, fillvalue=0))
    chance = sum(math.sqrt(own / total * (1 - own / total) / size) for _, own in pairs) / 2
    apart = sum(abs(one * total - own * size) for one, own in pairs) / (2 * size * total)
    return _Seen(apart, chance, size % total == 0)
