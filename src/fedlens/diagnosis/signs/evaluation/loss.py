"""E3: the reported loss is not a mean."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, place

SIZES = (8, 10, 16, 20, 25, 32, 50, 64, 100, 128, 200, 250, 256, 500, 512, 1000, 1024)  # of usual batches
NEAR = 0.03  # what a smaller last batch may change


def loss_is_divided_wrongly(e: Evidence) -> Finding | None:
    """E3: batch means that are summed, or divided by the number of examples: off by the batch size.

    Measured by M26: the reported loss by the doctor's, which is a number of batches or examples, or one by a batch's
    size. Any other ratio is a loss of something else, such as of training data, and only noted.
    """
    ratio = None if e.evaluating is None else e.evaluating.loss_ratio
    if e.evaluating is None or ratio is None or ratio <= 0 or 1 / 3 < ratio < 3:
        return None
    return Finding(
        "E3",
        Certainty.FOUND if _of_batches(ratio, e.evaluating.n) else Certainty.NOTED,
        f"The reported loss is {number(ratio)} times the mean loss of the same model.",
        (Measured("reported loss by the mean loss", "M26", number(ratio), "1"),),
        "Sum the loss over examples and divide by their number.",
        where=place(e, "evaluate"),
        weight=0.01,
        silent=True,
    )


def _of_batches(ratio: float, n: int) -> bool:
    """Whether `ratio` is what a sum over batches of a usual size, or over all `n` examples, is by their mean."""
    counts = [math.ceil(n / size) for size in SIZES if size < n] if n else []
    wholes = [float(count) for count in (*counts, n) if count > 1]
    parts = [count / n for count in counts if count > 1]
    return any(abs(ratio - one) < NEAR * one for one in (*wholes, *parts))
