"""L1: a label means something else at some clients."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import percent
from fedlens.diagnosis.signs.symptom import misses


def label_maps_differ(e: Evidence) -> Finding | None:
    """L1: folders listed in another order, ids that start at 1: what is class 3 here is class 5 there.

    Measured by M16: a model trained without the client agrees with its labels only after the best permutation of
    classes. A healthy client, however skewed, gains nothing by a permutation.
    """
    if e.labels is None:
        return None
    if e.labels.mapped:
        return _some(e, e.labels.mapped)
    before, after = e.labels.test_identity, e.labels.test_best
    if before is None or after is None or after - before < 0.2:
        return None
    return Finding(
        "L1",
        Certainty.SUPPORTED,
        f"The test labels are not the clients' labels: renaming classes lifts agreement from {percent(before)} to "
        f"{percent(after)}.",
        (Measured("agreement with test labels, best renaming", "M16", percent(after), percent(before)),),
        "Build one table of class names and use it for training and for the test set.",
        also=("L3",) if e.data is not None and (e.data.low or 0) < 0 else (),
        weight=max(misses(e), after - before),
        hides=frozenset({"P1", "O1", "O2", "K1", "E10"}),
    )


def _some(e: Evidence, mapped: tuple[int, ...]) -> Finding:
    assert e.labels is not None
    worst = max(mapped, key=lambda client: e.labels.gain.get(client, 0.0) if e.labels else 0.0)
    before, after = e.labels.identity.get(worst, 0.0), e.labels.best.get(worst, 0.0)
    return Finding(
        "L1",
        Certainty.SUPPORTED,
        f"Labels of {len(mapped)} clients mean other classes: renaming lifts agreement from {percent(before)} to "
        f"{percent(after)} (client {worst}).",
        (Measured("agreement under the best renaming", "M16", percent(after), f"{percent(before)} as they are"),),
        "Build one table of class names, sorted once, and number labels by it at every client.",
        treatment="relabel",
        clients=mapped,
        weight=max(misses(e), 0.1),
        hides=frozenset({"L2", "P1", "D5", "O1", "K1", "C1"}),
    )
