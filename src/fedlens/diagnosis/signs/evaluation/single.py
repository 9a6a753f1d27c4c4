"""E7: rounds differ by more than a quoted digit is worth."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import points


def one_round_is_quoted(e: Evidence) -> Finding | None:
    """E7: accuracy moves so much from round to round that one round ranks nothing.

    Measured by M28 on the log; never a fault of the code.
    """
    if e.log is None or e.log.noise is None or e.log.scale == "count":
        return None
    noise = e.log.noise * (0.01 if e.log.scale == "percent" else 1.0)
    if noise < 0.02:
        return None
    return Finding(
        "E7",
        Certainty.NOTED,
        f"Logged accuracy moves by {points(noise)} from round to round (standard deviation of the last ten).",
        (Measured("standard deviation of the last ten", "M28", points(noise), "below 2 points"),),
        "Quote the mean of the last ten evaluations over three seeds or more.",
    )
