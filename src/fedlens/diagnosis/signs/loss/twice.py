"""H1, H3: probabilities are given to a loss that takes logits."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, visits
from fedlens.diagnosis.signs.symptom import misses


def softmax_comes_twice(e: Evidence) -> Finding | None:
    """H1, H3: cross-entropy takes logits; of probabilities it never falls below log(e + C - 1) - 1, and learns slowly.

    Measured by M14: rows that the loss was given are never negative and sum to 1. Logits do not.
    """
    seen = [visit.watched for visit in visits(e) if visit.watched.probabilities is not None]
    given = any(one.probabilities for one in seen)
    inferred = not seen and e.learning is not None and e.learning.sums_to_one and _slow(e)
    if not given and not inferred:
        return None
    least = "" if not e.facts.classes else f" (for {e.facts.classes} classes the loss cannot reach 0)"
    overfit = None if e.learning is None else e.learning.overfit
    lines = [Measured("rows given to the loss", "M14", "sum to 1, none below 0", "logits")]
    if overfit is not None:
        lines.append(Measured("accuracy on one batch after many steps", "M13", number(overfit), "above 0.95"))
    return Finding(
        "H1",
        Certainty.FOUND if given else Certainty.CONSISTENT,
        f"The loss takes logits and is given probabilities: softmax is applied twice{least}.",
        tuple(lines),
        "Drop the softmax in front of the loss, or take the logarithm and the negative log-likelihood.",
        treatment="loss=cross-entropy",
        where=next((one.loss_where for one in seen if one.probabilities), ""),
        also=("H3",),
        weight=max(misses(e), 0.1),
        hides=frozenset({"O1", "K1", "K5", "O7", "P1", "D5", "C1"}),
    )


def _slow(e: Evidence) -> bool:
    return e.learning is not None and e.learning.overfit is not None and e.learning.overfit < 0.95
