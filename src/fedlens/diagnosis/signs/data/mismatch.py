"""D2: training and evaluation prepare inputs differently."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import place
from fedlens.diagnosis.signs.symptom import misses


def evaluation_prepares_otherwise(e: Evidence) -> Finding | None:
    """D2: nearly all clients' inputs differ from the test set's in the same way.

    Measured by M17; a healthy job's training and test inputs have the same class means and scale.
    """
    if e.data is None:
        return None
    strange = {*e.data.apart, *e.data.scaled}
    if not strange or len(strange) < 0.9 * len(e.data.looked_at):
        return None
    scaled = sorted(e.data.scaled.values())
    said = (
        f"scale {scaled[len(scaled) // 2]:.3g}" if scaled else f"{max(e.data.apart.values()):.2g} standard deviations"
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
