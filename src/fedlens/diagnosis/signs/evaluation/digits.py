"""E9: values with more digits than a computer prints."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import listed


def digits_are_made_up(e: Evidence) -> Finding | None:
    """E9: more than 17 significant digits, or tails of digits that different values share, come from no program.

    Measured by M26 on the log alone.
    """
    if e.log is None or (e.log.digits <= 17 and not e.log.tails):
        return None
    shared = f"; the endings {listed(e.log.tails)} stand under different values" if e.log.tails else ""
    return Finding(
        "E9",
        Certainty.FOUND if e.log.digits > 17 else Certainty.CONSISTENT,
        f"Logged values have up to {e.log.digits} significant digits{shared}: no program printed them as they stand.",
        (Measured("significant digits", "M26", str(e.log.digits), "at most 17"),),
        "Do not build on these values; run the job again and keep its raw output.",
        weight=0.01,
        silent=True,
    )
