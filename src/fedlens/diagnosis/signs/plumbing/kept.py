"""B7: the server goes on with an older model instead of the aggregate, in some rounds."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import held_back
from fedlens.diagnosis.signs.reading import HONEST, place, rounds_watched, severity, underperforms

MOSTLY = 0.5  # of the rounds: a check that refuses more than that refuses training


def server_keeps_an_older_model(e: Evidence) -> Finding | None:
    """B7: a best model is kept and sent again: the best by a comparison that is turned round, or by test data.

    Measured by M02: rounds after which the model is exactly the one before, though clients moved, beside rounds that
    take the mean as declared. Healthy: no such round. A check that refuses an aggregate now and then is only noted
    where the job does not fall short by it.
    """
    held, rounds = held_back(e), rounds_watched(e)
    if not held:
        return None
    fault = len(held) > MOSTLY * len(rounds) or (len(held) > 1 and underperforms(e))
    told = f"{len(held)} of {len(rounds)}"
    return Finding(
        "B7",
        Certainty.FOUND if fault else Certainty.NOTED,
        f"In {told} rounds the server keeps an older model and puts the aggregate aside; in the others it takes it.",
        (Measured("rounds after which the model is exactly the one before", "M02", told, "none"),),
        "Send the aggregate of every round; keep the best model beside it, by validation data, for the end alone.",
        source="catalogue",
        also=("B2", "E5"),
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=severity(e, 0.3) if fault else 0.0,
        hides=HONEST | {"B2", "E5", "A1", "A5", "A6", "S1", "X2"} if fault else frozenset(),
    )
