"""E3: the reported loss is not a mean."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, place


def loss_is_divided_wrongly(e: Evidence) -> Finding | None:
    """E3: batch means that are summed, or divided by the number of examples: off by the batch size.

    Measured by M26: the reported loss by the doctor's.
    """
    ratio = None if e.evaluating is None else e.evaluating.loss_ratio
    if ratio is None or ratio <= 0 or 1 / 3 < ratio < 3:
        return None
    return Finding(
        "E3",
        Certainty.FOUND,
        f"The reported loss is {number(ratio)} times the mean loss of the same model.",
        (Measured("reported loss by the mean loss", "M26", number(ratio), "1"),),
        "Sum the loss over examples and divide by their number.",
        where=place(e, "evaluate"),
        weight=0.01,
        silent=True,
    )
