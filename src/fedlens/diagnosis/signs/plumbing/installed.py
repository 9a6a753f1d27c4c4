"""B2: the aggregate never becomes the model."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import fault
from fedlens.diagnosis.signs.reading import HONEST, number, percent, place, rounds_watched, severity


def aggregate_is_not_installed(e: Evidence) -> Finding | None:
    """B2: the server computes an aggregate and keeps the old model.

    Measured by M03: all coefficients are 0 and the model keeps 1; in rounds, the model did not move at all though
    clients did. Healthy: the coefficients add up to the server's rate. A void round under `min_clients` is no fault.
    """
    rounds, a = rounds_watched(e), e.aggregation
    least = e.facts.declared.min_clients or 0
    full = [one for one in rounds if len(one.visits) >= max(1, least) and any(v.norm > 0 for v in one.visits)]
    still = len(full) > 1 and all(one.moved is not None and one.moved == 0 for one in full)
    on_grid = (a is not None and a.grid > 0) or any(one.grid for one in rounds) or bool(e.facts.declared.codec)
    found = fault(e)
    dry = found is not None and found.cause == "B2"
    if on_grid or not (dry or still):
        return None
    moves = max((v.size for one in full for v in one.visits), default=0.0)
    lines = []
    if dry and found is not None:
        lines.append(Measured("sum of the effective weights", "M03", number(found.seen.total), number(_rate(e))))
    if still:
        lines.append(Measured(f"the model's move in {len(full)} rounds", "M02", "exactly 0", percent(moves)))
    says = "The server never installs the aggregate: the model after a round is the one before it."
    late = not still and any(one.moved for one in full)
    if late:
        says = (
            "The aggregate comes too late: the server returns the model that it had, and the aggregate a round later."
        )
    return Finding(
        "B2",
        Certainty.FOUND,
        says,
        tuple(lines),
        "Return the aggregate from the server's step, and load it into the model that is sent and evaluated.",
        source="catalogue",
        also=("A8",) if late else ("E5",),
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=severity(e, 0.5),
        hides=HONEST | {"E5", "E10", "E11", "A1", "A4", "A6", "N1", "X1", "X2", "X4", "V2", "S1", "B3"},
    )


def _rate(e: Evidence) -> float:
    return e.facts.declared.server_lr
