"""B7: an older model is returned."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import HONEST, listed, number, place, severity, visits

EXACTLY = 1e-6  # of a displacement: training that contracts lets a little through


def older_model_is_returned(e: Evidence) -> Finding | None:
    """B7: training starts from what is sent, and a checkpoint of before is returned.

    Measured by M01 inside (the start is right) and as a black box (the answer does not depend on what is sent).
    Healthy: the answer moves with what is sent, by about as much.
    """
    late = lagging(e)
    if not late and (not returns_another(e) or e.handling is None):
        return None
    lines = [Measured("distance of the start from what was sent", "M01", "0", "0")]
    says = "Clients start from the model that is sent, but what they return does not depend on it."
    if late:
        says = (
            "Clients return nothing of their first visit, and something of it later: an older model than they trained."
        )
        told = f"exactly 0 at the first visit of clients {listed(late)}, not later"
        lines = [Measured("size of the update after training", "M07", told, "above 0 at every visit")]
    elif e.handling is not None:
        heard = number(max(e.handling.heeds.values()))
        lines.append(Measured("part of a change of the sent model that returns", "M01", heard, "about 1"))
    return Finding(
        "B7",
        Certainty.FOUND,
        says,
        tuple(lines),
        "Return the model of this visit; leave restoring of the best or last checkpoint out of the client's step.",
        source="catalogue",
        also=("B1", "B4"),
        treatment="reference-client",
        where=place(e, "fit"),
        weight=severity(e, 0.3),
        hides=HONEST | {"B1", "B4", "A9"},
    )


def lagging(e: Evidence) -> tuple[int, ...]:
    """Clients whose first visit comes back as it went, though they trained, and whose later ones do not; nobody if some
    client's first visit brought something."""
    firsts: dict[int, Visit] = {}
    late: list[int] = []
    for visit in visits(e):
        if visit.client not in firsts:
            firsts[visit.client] = visit
        elif visit.norm > 0 and trained_in_vain(firsts[visit.client]):
            late.append(visit.client)
    trained = [one for one in firsts.values() if one.watched.steps and one.watched.gradient_norm is not None]
    return tuple(sorted(set(late))) if all(trained_in_vain(one) for one in trained) else ()


def trained_in_vain(visit: Visit) -> bool:
    """Whether steps were taken that moved something, or at a rate and with a gradient, and exactly what was sent came
    back."""
    w = visit.watched
    moved = w.sent_back is not None or (any(rate > 0 for rate in w.rates) and (w.gradient_norm or 0.0) > 0)
    return visit.finite and visit.norm == 0 and bool(w.steps) and moved


def returns_another(e: Evidence) -> bool:
    """Whether all clients examined load what is sent and return something else."""
    h = e.handling
    told = [*h.heeds.values(), *h.heeds_error.values()] if h is not None else []
    starts = [v.watched.start for v in visits(e) if v.watched.start is not None and v.watched.steps]
    still = all(v.norm == 0 for v in visits(e))
    return bool(told) and bool(starts) and not still and max(told) < EXACTLY and max(starts) < 1e-4
