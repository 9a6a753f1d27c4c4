"""P3, E10: values that a classifier of one class would get."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence, Log
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import percent

ABOVE = 0.05  # accuracy by which the end must be above the shares of single classes


def one_class_is_answered(e: Evidence) -> Finding | None:
    """P3, E10: the logged accuracy is again and again exactly the share of one class.

    Measured by M25 on the log alone: one class is answered in those rounds, or the evaluation set holds one class. A
    job that begins so and then learns is slow to start, and it is only noted.
    """
    if e.log is None or e.log.constant < 0.3 or e.log.flat:
        return None
    size = f" of {e.log.n} examples" if e.log.n else ""
    return Finding(
        "P3" if e.log.n and e.log.claimed and e.log.n < e.log.claimed else "E10",
        Certainty.NOTED if _left_behind(e.log) else Certainty.CONSISTENT,
        f"In {percent(e.log.constant)} of the rounds the logged accuracy is exactly what answering one class gives"
        f"{size}.",
        (Measured("rounds at the share of one class", "M25", percent(e.log.constant), "below 30 %"),),
        "Look at the predictions by class, and at the labels of the evaluation set; report balanced accuracy beside.",
        also=("E10", "P3", "E1"),
        weight=0.1,
    )


def _left_behind(log: Log) -> bool:
    """Whether the last values are above all those that one class would give."""
    unit = 0.01 if log.scale == "percent" else 1.0
    end = [value * unit for value in log.values[-max(1, len(log.values) // 5) :]]
    return bool(log.priors) and min(end, default=0.0) > max(log.priors) + ABOVE
