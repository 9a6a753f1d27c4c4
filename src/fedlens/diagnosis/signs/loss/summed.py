"""H4: the loss is a sum over the batch."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number
from fedlens.diagnosis.signs.symptom import ails, misses


def loss_is_a_sum(e: Evidence) -> Finding | None:
    """H4: with reduction='sum' the rate acts times the batch size, and bounds always act.

    Measured by M14: a batch has the loss of its half twice. Harmless with a rate to suit; named where the job ails.
    """
    grows = None if e.learning is None else e.learning.grows
    if grows is None or grows < 0.7:
        return None
    return Finding(
        "H4",
        Certainty.CONSISTENT if ails(e) else Certainty.NOTED,
        f"The loss is a sum over the batch: of twice the examples it is {number(1 + grows)} times as large.",
        (Measured("loss of a batch by that of its half", "M14", number(1 + grows), "1"),),
        "Take the mean, or divide the rate by the batch size.",
        weight=misses(e),
    )
