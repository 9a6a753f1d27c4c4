"""D9: evaluating the same model twice gives two values."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import place, points


def evaluation_is_random(e: Evidence) -> Finding | None:
    """D9, N4, E11: augmentation, dropout or a random part of the data in evaluation.

    Measured by M27: the same model evaluated twice.
    """
    if e.evaluating is None or e.evaluating.steady < 1e-6:
        return None
    return Finding(
        "D9",
        Certainty.CONSISTENT if e.evaluating.steady > 0.005 else Certainty.NOTED,
        f"Evaluating one model twice gives values {points(e.evaluating.steady)} apart.",
        (Measured("difference of two evaluations of one model", "M27", points(e.evaluating.steady), "0.0 points"),),
        "Evaluate without augmentation and dropout (model.eval()), on the same examples every time.",
        also=("N4", "E11"),
        where=place(e, "evaluate"),
        weight=e.evaluating.steady,
    )
