"""P2: a partitioner that deals examples twice."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.data.leakage import LEAST, NEARLY_ALL
from fedlens.diagnosis.signs.reading import percent


def examples_are_dealt_twice(e: Evidence) -> Finding | None:
    """P2: examples that more than one client holds.

    Measured by M29, exact hashes; a partition gives each example to one client. Equal rows of small tables are
    discounted by what copies within clients show. Data that is declared to be shared is shared.
    """
    if e.data is None or e.data.shared <= max(0.02, 3 * e.data.copies):
        return None
    said = f"{e.facts.declared.partition or ''} {e.facts.declared.method or ''}".lower()
    if any(word in said for word in ("shared", "sharing", "overlap", "replica")):
        return None
    some = tuple(sorted(client for client, share in e.data.dealt_twice.items() if share > LEAST))
    return Finding(
        "P2",
        Certainty.FOUND,
        f"{percent(e.data.shared)} of the examples are held by more than one client.",
        (Measured("examples at several clients", "M29", percent(e.data.shared), "0 %"),),
        "Deal from one permutation without replacement; test it: every index once (`fedlens check` does).",
        clients=some if len(some) < NEARLY_ALL * len(e.data.looked_at) else (),
        weight=e.data.shared / 2,
        silent=True,
    )
