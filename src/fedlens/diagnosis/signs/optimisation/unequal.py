"""O9: clients take very different numbers of steps."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import visits

MANY = 5.0


def steps_are_unequal(e: Evidence) -> Finding | None:
    """O9: with fixed epochs large clients take more steps, and weigh twice in the mean.

    Measured by M30. Usual and declared by epochs; FedNova corrects it. Never a fault by itself.
    """
    steps = [visit.watched.steps for visit in visits(e) if visit.watched.steps]
    if not steps or max(steps) < MANY * min(steps):
        return None
    return Finding(
        "O9",
        Certainty.NOTED,
        f"Clients take from {min(steps)} to {max(steps)} local steps.",
        (Measured("local steps", "M30", f"{min(steps)} to {max(steps)}", "alike"),),
        "Fix the number of steps, or normalise updates by it (FedNova), and compare at equal samples.",
        source="Wang et al. 2020",
    )
