"""N4: evaluated in training mode."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evaluating, Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import listed, percent, place


def evaluated_in_training_mode(e: Evidence) -> Finding | None:
    """N4: evaluation leaves dropout on and normalises with the test batch's own statistics.

    Measured by M27: what is reported is what the doctor measures in training mode, and not in evaluation mode; or by
    M31: such layers are called in training mode alone, and the value moves from one evaluation to the next, or is not
    the one of evaluation mode; without that it is noted. Healthy: the other way round. An evaluation that writes to its
    model is noted.
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
    if v is not None and v.training:
        return _left_training(v, where, remedy)
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


def _left_training(v: Evaluating, where: str, remedy: str) -> Finding:
    value = percent(v.reported[-1]) if v.reported else "a value"
    return Finding(
        "N4",
        Certainty.FOUND if _matters(v) else Certainty.NOTED,
        f"evaluate calls {listed(v.training)} in training mode: {value} is not what the model reaches.",
        (Measured("layers that evaluate calls in training mode", "M31", listed(v.training), "none"),),
        remedy,
        source="Ioffe and Szegedy 2015",
        treatment="reference-evaluation",
        where=where,
        weight=max(v.steady, *_gaps(v), 0.0),
        silent=True,
        hides=frozenset({"D9", "E1", "E2", "E11"}),
    )


def _matters(v: Evaluating) -> bool:
    """Whether the mode shows in what is reported."""
    return v.steady > 1e-6 or any(gap > 3 * v.error for gap in _gaps(v))


def _gaps(v: Evaluating) -> tuple[float, ...]:
    return tuple(abs(one - other) for one, other in zip(v.reported, v.measured, strict=False))
