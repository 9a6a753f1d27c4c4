"""P3, E10: values that a classifier of one class would get."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import percent


def one_class_is_answered(e: Evidence) -> Finding | None:
    """P3, E10: the logged accuracy is again and again exactly the share of one class.

    Measured by M25 on the log alone: one class is answered in those rounds, or the evaluation set holds one class.
    """
    if e.log is None or e.log.constant < 0.3 or e.log.flat:
        return None
    size = f" of {e.log.n} examples" if e.log.n else ""
    return Finding(
        "P3" if e.log.n and e.log.claimed and e.log.n < e.log.claimed else "E10",
        Certainty.CONSISTENT,
        f"In {percent(e.log.constant)} of the rounds the logged accuracy is exactly what answering one class gives"
        f"{size}.",
        (Measured("rounds at the share of one class", "M25", percent(e.log.constant), "below 30 %"),),
        "Look at the predictions by class, and at the labels of the evaluation set; report balanced accuracy beside.",
        also=("E10", "P3", "E1"),
        weight=0.1,
    )
