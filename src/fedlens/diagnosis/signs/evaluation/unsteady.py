"""D9: evaluating the same model twice gives two values."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import place, points


def evaluation_is_random(e: Evidence) -> Finding | None:
    """D9, N4, E11: augmentation, dropout or a random part of the data in evaluation.

    Measured by M27: the same model evaluated twice.
    """
    v = e.evaluating
    if v is None or v.steady < 1e-6:
        return None
    # Where the mean is off too, what is evaluated is another task than the test data as they stand.
    off = abs(v.reported[-1] - v.measured[-1]) if v.matches == "none" and v.reported and v.measured else 0.0
    beside = f", and {points(off)} from the model's on the test data" if off > max(0.02, 3 * v.error) else ""
    return Finding(
        "D9",
        Certainty.FOUND if beside else Certainty.CONSISTENT if v.steady > 0.005 else Certainty.NOTED,
        f"Evaluating one model twice gives values {points(v.steady)} apart{beside}.",
        (Measured("difference of two evaluations of one model", "M27", points(v.steady), "0.0 points"),),
        "Evaluate without augmentation and dropout (model.eval()), on the same examples every time.",
        also=("N4", "E11"),
        where=place(e, "evaluate"),
        weight=max(v.steady, off),
        silent=True,
    )
