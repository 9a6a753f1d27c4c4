"""B7: all clients return a model from the beginning of their training, not its end."""

from __future__ import annotations

import math
from statistics import median

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.arriving import PURE
from fedlens.diagnosis.signs.reading import HONEST, client_side, number, percent, place, severity, underperforms, visits

PART = 0.5  # of the trained change
MOST = 0.8  # of the visits
ALONG = 0.6  # cosine: the way to a point on a path goes along the path
SPARSE = 0.1  # of what is sent, exactly 0: that is a codec


def training_is_thrown_away(e: Evidence) -> Finding | None:
    """B7: a best checkpoint whose comparison is turned round, so that each visit's first is kept, or a mean that hardly
    moves.

    Measured by M30: what came back is a small part of the change that was trained, in its direction and with something
    beside it, as a point on the way is, at nearly all visits. Healthy: all of it, or now and then a part, where early
    stopping restores; and jobs that do not fall short by it.
    """
    said = e.facts.declared
    seen = [pair for visit in visits(e) if (pair := _sent(e, visit)) is not None]
    if len(seen) < 4 or said.dp or said.codec is not None or not underperforms(e):
        return None
    early = sum(PURE * along < aside and 0 < along < PART and _cosine(along, aside) > ALONG for along, aside in seen)
    if early < MOST * len(seen):
        return None
    usual = median(along for along, _ in seen)
    told = f"{number(usual)} in the median, {percent(early / len(seen))} below {PART:g}"
    return Finding(
        "B7",
        Certainty.SUPPORTED if client_side(e) else Certainty.CONSISTENT,
        f"Clients return a model from the beginning of their training: {number(usual)} of the change that they "
        "trained.",
        (Measured("the trained change in what is sent", "M30", told, "1"),),
        "Return the weights after the last step; compare checkpoints by the loss that is lower, or the accuracy that "
        "is higher.",
        source="catalogue",
        also=("B4",),
        treatment="reference-client",
        where=place(e, "fit"),
        weight=severity(e, 0.1),
        hides=HONEST,
    )


def _sent(e: Evidence, visit: Visit) -> tuple[float, float] | None:
    back = visit.watched.sent_back
    if back is None or not visit.watched.steps or not visit.finite or visit.grid or visit.zero > SPARSE:
        return None
    update = e.facts.payload == "update"
    return (back.update, back.update_aside) if update else (back.weights, back.weights_aside)


def _cosine(along: float, aside: float) -> float:
    return along / math.hypot(along, aside)
