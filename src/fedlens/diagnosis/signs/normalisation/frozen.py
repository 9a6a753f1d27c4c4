"""N6: trained in evaluation mode."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import listed, lost, place, statistics, underperforms, visits


def trained_in_evaluation_mode(e: Evidence) -> Finding | None:
    """N6: clients train with model.eval() still on: running statistics stay those of the start, dropout is off.

    Measured by M31, the modules trained in evaluation mode, and by statistics that no visit moved. Healthy: none, and
    all move. Statistics declared frozen are no fault; without batch norm it is only noted.
    """
    said = e.facts.declared
    seen = [v for v in visits(e) if v.watched.steps]
    stuck = sorted({name for v in seen for name in v.watched.stuck if not any(name.startswith(x) for x in said.frozen)})
    names = [n for n in statistics(e) if not any(n.startswith(x) for x in said.frozen)]
    idle = bool(seen) and all(v.watched.updating is False for v in seen)
    if not stuck or (said.method or "").lower() == "fixbn":
        return None
    exact = bool(names) and idle and all(v.watched.stuck for v in seen)
    certainty = Certainty.FOUND if exact else Certainty.CONSISTENT if underperforms(e) else Certainty.NOTED
    return Finding(
        "N6",
        certainty,
        f"Clients train {len(stuck)} modules in evaluation mode"
        + (f": none of {len(names)} running statistics ever moves." if exact else "."),
        (Measured("modules trained in evaluation mode", "M31", listed(stuck), "none"),),
        "Call model.train() at the start of every visit: evaluation may have left it in the other mode.",
        source="Ioffe and Szegedy 2015",
        treatment="reference-client",
        where=place(e, "fit"),
        weight=max(0.1 if exact else 0.0, lost(e)),
        hides=frozenset({"N1", "N2", "P1", "C1"}) if exact else frozenset(),
    )
