"""B7: an older model is returned."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import HONEST, number, place, severity, visits

EXACTLY = 1e-6  # of a displacement: training that contracts lets a little through


def older_model_is_returned(e: Evidence) -> Finding | None:
    """B7: training starts from what is sent, and a checkpoint of before is returned.

    Measured by M01 inside (the start is right) and as a black box (the answer does not depend on what is sent).
    Healthy: the answer moves with what is sent, by about as much.
    """
    if not returns_another(e) or e.handling is None:
        return None
    heard = max(e.handling.heeds.values())
    return Finding(
        "B7",
        Certainty.FOUND,
        "Clients start from the model that is sent, but what they return does not depend on it.",
        (
            Measured("distance of the start from what was sent", "M01", "0", "0"),
            Measured(
                "part of a change of the sent model that returns",
                "M01",
                number(heard),
                "about 1",
            ),
        ),
        "Return the model of this visit; leave restoring of the best or last checkpoint out of the client's step.",
        source="catalogue",
        also=("B1", "B4"),
        treatment="reference-client",
        where=place(e, "fit"),
        weight=severity(e, 0.3),
        hides=HONEST | {"B1", "B4", "A9"},
    )


def returns_another(e: Evidence) -> bool:
    """Whether all clients examined load what is sent and return something else."""
    h = e.handling
    told = [*h.heeds.values(), *h.heeds_error.values()] if h is not None else []
    starts = [v.watched.start for v in visits(e) if v.watched.start is not None and v.watched.steps]
    still = all(v.norm == 0 for v in visits(e))
    return bool(told) and bool(starts) and not still and max(told) < EXACTLY and max(starts) < 1e-4
