"""D2: training and evaluation prepare inputs differently."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.data.pipelines import MOST_ALIKE, stand_apart, ways
from fedlens.diagnosis.signs.reading import middle, percent, place
from fedlens.diagnosis.signs.symptom import ails, misses, reached


def evaluation_prepares_otherwise(e: Evidence) -> Finding | None:
    """D2: nearly all clients' inputs differ from the test set's in the same way.

    Measured by M17; a healthy job's training and test inputs have the same class means and scale. Where nearly all
    differ but each in its own way, clients differ by nature, and the test set is their mixture.
    """
    if e.data is None:
        return None
    strange = stand_apart(e.data)
    if not e.data.mismatch and (len(strange) < MOST_ALIKE * len(e.data.looked_at) or ways(e.data) > 1 or not strange):
        return _of_answers(e)
    scaled = sorted(e.data.scaled.values())
    said = (
        f"scale {scaled[len(scaled) // 2]:.3g}"
        if scaled
        else f"{max(e.data.apart.values(), default=0.0):.2g} standard deviations"
    )
    return Finding(
        "D2",
        Certainty.FOUND,
        f"What clients train on is prepared differently from what the model is examined on ({said}).",
        (Measured("training inputs by test inputs", "M17", said, "scale 1, means within 0.5"),),
        "Share one transform between training and evaluation; only augmentation may differ.",
        where=place(e, "evaluate"),
        weight=max(misses(e), 0.2),
        hides=frozenset({"D1", "D3", "P1"}),
    )


def _of_answers(e: Evidence) -> Finding | None:
    """The same where only a classifier shows it: it learns the clients' data, and fails on the test set's.

    A job that does well on the test set refutes it, and so does the same classifier where it fails on clients that it
    has not seen: it is simple, and its failure is its own."""
    x = e.labels
    if x is None or x.test_identity is None or x.test_best is None or (reached(e) is not None and not ails(e)):
        return None
    elsewhere = min(x.learnable, middle(x.identity.values()) or 0.0)
    if elsewhere - x.test_identity < 0.2 or x.test_best - x.test_identity > 0.1 or x.learnable < x.chance + 0.2:
        return None
    return Finding(
        "D2",
        Certainty.CONSISTENT,
        f"A classifier of the clients' data is right on {percent(x.learnable)} of them and on "
        f"{percent(x.test_identity)} of the test set: the two are prepared or labelled differently.",
        (
            Measured(
                "a classifier of clients' data, on the test set", "M17", percent(x.test_identity), percent(x.learnable)
            ),
        ),
        "Share one transform between training and evaluation; only augmentation may differ.",
        where=place(e, "evaluate"),
        weight=max(misses(e), 0.2),
    )
