"""D9: evaluating the same model twice gives two values."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evaluating, Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import percent, place, points


def evaluation_is_random(e: Evidence) -> Finding | None:
    """D9, N4, E11: augmentation, dropout or a random part of the data in evaluation.

    Measured by M27: the same model evaluated twice; and what the network is shown of the test inputs, where its answers
    are compared with just their labels.
    """
    v = e.evaluating
    if v is None or v.steady < 1e-6:
        return None if v is None or not v.altered else _shown(e, v, v.altered)
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


def _shown(e: Evidence, v: Evaluating, altered: float) -> Finding | None:
    off = abs(v.reported[-1] - v.measured[-1]) if v.reported and v.measured else 0.0
    if off <= max(0.005, 3 * v.error):
        return None
    return Finding(
        "D9",
        Certainty.FOUND,
        f"The evaluation changes {percent(altered)} of the test inputs before the network sees them, and is "
        f"{points(off)} off.",
        (Measured("test inputs that the network is shown as others", "M27", percent(altered), "none"),),
        "Evaluate on the test inputs as they are prepared for training, without augmentation.",
        also=("D2", "E1"),
        where=v.where or place(e, "evaluate"),
        weight=off,
        silent=True,
        hides=frozenset({"E7", "E10"}),
    )
