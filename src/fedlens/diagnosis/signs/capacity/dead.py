"""K3: units that are zero for every input."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import listed, percent
from fedlens.diagnosis.signs.symptom import ails, misses

SHARE = 0.9


def units_are_dead(e: Evidence) -> Finding | None:
    """K3: a layer of which nearly all units are 0 for all inputs passes nothing on.

    Measured on one batch by the activations of the first model.
    """
    dead = {} if e.learning is None else {name: x for name, x in e.learning.dead.items() if x > SHARE}
    if not dead:
        return None
    return Finding(
        "K3",
        Certainty.CONSISTENT if ails(e) else Certainty.NOTED,
        f"Of {listed(sorted(dead))} {percent(max(dead.values()))} of the units are zero for every input.",
        (Measured("units that are always zero", "M14", percent(max(dead.values())), f"below {percent(SHARE)}"),),
        "Look at initialisation and at the norm in front of that layer.",
        weight=misses(e),
    )
