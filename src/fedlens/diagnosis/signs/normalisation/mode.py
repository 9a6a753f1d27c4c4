"""N4: evaluated in training mode."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import percent, place


def evaluated_in_training_mode(e: Evidence) -> Finding | None:
    """N4: evaluation leaves dropout on and normalises with the test batch's own statistics.

    Measured by M27: what is reported is what the doctor measures in training mode, and not in evaluation mode. Healthy:
    the other way round. An evaluation that writes to the model it is given is noted.
    """
    v = e.evaluating
    where = (v.where if v is not None else "") or place(e, "evaluate")
    remedy = "Call model.eval() before evaluating, and train() again in the client's step."
    if v is not None and v.matches == "train mode" and v.reported and v.measured:
        gap = abs(v.reported[-1] - v.measured[-1])
        return Finding(
            "N4",
            Certainty.FOUND if gap > 3 * v.error else Certainty.NOTED,
            f"The reported {percent(v.reported[-1])} is of the model in training mode; evaluated it has "
            f"{percent(v.measured[-1])}.",
            (Measured("reported against evaluation mode", "M27", percent(v.reported[-1]), percent(v.measured[-1])),),
            remedy,
            source="Ioffe and Szegedy 2015",
            treatment="reference-evaluation",
            where=where,
            weight=gap,
            silent=True,
            hides=frozenset({"E1", "E2", "E11"}),
        )
    if e.handling is None or not e.handling.evaluate_writes:
        return None
    return Finding(
        "N4",
        Certainty.NOTED,
        "evaluate changes the model that it is given: examining it is not without consequence.",
        (Measured("evaluate writes to its model", "M31", "yes", "no"),),
        remedy,
        where=where,
        silent=True,
    )
