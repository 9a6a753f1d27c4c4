"""E9: a count, or percent, where a fraction is expected."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, place


def a_count_is_reported(e: Evidence) -> Finding | None:
    """E9: numbers of right answers printed as accuracy, or percent beside fractions.

    Measured by M24 and M26 on the log, and by M27 on what evaluate returns. Percent alone is only noted; what a log
    shows is exact where a value is above 100.
    """
    count = (e.log is not None and e.log.scale == "count") or (
        e.evaluating is not None and e.evaluating.matches == "count"
    )
    percent = e.evaluating is not None and e.evaluating.matches == "percent"
    if not count and not percent:
        return None
    values = (*(e.log.values if e.log is not None else ()), *(e.evaluating.reported if e.evaluating else ()))
    largest = max((value for value in values if math.isfinite(value)), default=0.0)
    sure = largest > 100 or (e.evaluating is not None and e.evaluating.matches == "count")
    perfect = e.log.scale_max if e.log is not None and e.log.scale_max else None
    of = f" of {number(perfect)} at most" if perfect else ""
    return Finding(
        "E9",
        Certainty.NOTED if not count else Certainty.FOUND if sure else Certainty.CONSISTENT,
        f"What is called accuracy is a count of right answers ({number(largest)}{of})."
        if count
        else f"Accuracy is reported in percent ({number(largest)}).",
        (Measured("largest value", "M26", number(largest), "at most 1"),),
        "Divide by the number of examples.",
        where=place(e, "evaluate"),
        weight=0.05,
        silent=True,
    )
