"""O7: the run ends while it still rises."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import points

RISE = 0.04  # over the last fifth of the rounds


def budget_is_too_small(e: Evidence) -> Finding | None:
    """O7: more rounds would have done it, not another method.

    Measured by M28 on the job's own log: the slope of the last fifth of its rounds. Never a fault of the code.
    """
    if e.log is None or e.log.rising is None or e.log.rising_error is None or e.log.scale == "count":
        return None
    unit = 0.01 if e.log.scale == "percent" else 1.0
    rise = e.log.rising * unit * max(1, len(e.log.values) // 5)
    if rise < RISE or e.log.rising < 4 * e.log.rising_error:
        return None
    return Finding(
        "O7",
        Certainty.CONSISTENT,
        f"The run ends while it still rises: {points(rise)} over the last fifth of its rounds.",
        (Measured("rise over the last fifth of the rounds", "M28", points(rise), f"below {points(RISE)}"),),
        "Train for more rounds before anything else is changed.",
        weight=rise / 2,
    )
