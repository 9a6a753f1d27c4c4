"""E5: the value never changes."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, place


def the_same_is_reported(e: Evidence) -> Finding | None:
    """E5: the model that is evaluated is never updated.

    Measured by M27, the same value for models that differ, or by M26, a log that is constant to all digits.
    """
    flat = e.log is not None and e.log.flat and len(e.log.values) >= 5 and not _true(e)
    if not flat and not (e.evaluating is not None and e.evaluating.remembers):
        return None
    value = e.log.values[-1] if flat and e.log is not None else e.evaluating.reported[-1] if e.evaluating else 0.0
    sure = e.evaluating is not None and e.evaluating.remembers
    return Finding(
        "E5",
        Certainty.FOUND if sure else Certainty.CONSISTENT,
        f"What is reported never changes: {number(value)} of models that differ.",
        (Measured("reported values", "M26", f"all {number(value)}", "change from round to round"),),
        "Load the aggregate into the module that is evaluated, before each evaluation.",
        also=("B2", "E10"),
        treatment="reference-evaluation",
        where=place(e, "evaluate"),
        weight=0.5,
        silent=sure,
    )


def _true(e: Evidence) -> bool:
    """Whether the models themselves do not change by the doctor's own evaluation: then the report is right."""
    exams = [one.exam.accuracy for one in e.rounds if one.exam is not None]
    return (e.evaluating is not None and e.evaluating.matches == "test") or (len(exams) > 1 and len(set(exams)) == 1)
