"""L2: clients whose labels are random."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import percent
from fedlens.diagnosis.signs.symptom import ails, misses

CLEANER = 0.15  # accuracy that no other draw of the same examples gains


def labels_are_noisy(e: Evidence) -> Finding | None:
    """L2: clients whose labels neither the others' model nor any renaming explains.

    Measured by M16: agreement far below other clients', and no permutation that mends it.
    """
    if e.labels is None or not e.labels.noisy:
        return _everywhere(e)
    noisy = e.labels.noisy
    theirs = [e.labels.identity[client] for client in noisy if client in e.labels.identity]
    others = [value for client, value in e.labels.identity.items() if client not in noisy]
    if not theirs or not others:
        return None
    here, there = sum(theirs) / len(theirs), sum(others) / len(others)
    return Finding(
        "L2",
        Certainty.SUPPORTED,
        f"The labels of {len(noisy)} clients agree with the others' model {percent(here)} of the time, others' labels "
        f"{percent(there)}.",
        (Measured("agreement with a model of the others", "M16", percent(here), percent(there)),),
        "Have those clients' labels looked at; leave them out until then, or use a loss that bears noise.",
        treatment="drop-clients",
        clients=noisy,
        weight=max(misses(e), 0.05),
        hides=frozenset({"P1", "K1"}),
    )


def _everywhere(e: Evidence) -> Finding | None:
    """The same at all clients, where the test set has clean labels: what clients' examples teach holds there more often
    than on other examples of clients."""
    x = e.labels
    if x is None or x.test_identity is None or x.test_identity - x.learnable < CLEANER or not ails(e):
        return None
    return Finding(
        "L2",
        Certainty.CONSISTENT,
        f"What clients' examples teach holds for {percent(x.test_identity)} of the test labels and for "
        f"{percent(x.learnable)} of their own: labels of all clients are noisy.",
        (Measured("agreement with clients' own labels", "M16", percent(x.learnable), percent(x.test_identity)),),
        "Have the labels looked at, or use a loss that bears noise (label smoothing, symmetric cross-entropy).",
        weight=max(misses(e), 0.05),
    )
