"""H1, H3: probabilities are given to a loss that takes logits."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, visits
from fedlens.diagnosis.signs.symptom import ails, misses

SIGMOID = "binary_cross_entropy_with_logits"  # any logits may lie between 0 and 1 for a while
OFTEN = 4  # visits


def softmax_comes_twice(e: Evidence) -> Finding | None:
    """H1, H3: cross-entropy takes logits; of probabilities it never falls below log(e + C - 1) - 1, and learns slowly.

    Measured by M14: rows that the loss was given are never negative and sum to 1. Logits do not. Of single outputs
    only that they stay between 0 and 1 at all visits of a job that ails speaks for it, and of a network that ends in
    probabilities nothing where its loss was seen: it may take the logarithm.
    """
    watched = [visit.watched for visit in visits(e)]
    seen = [one for one in watched if one.probabilities is not None and one.samples != 0]
    given = any(one.probabilities for one in seen if one.loss != SIGMOID)
    inferred = ails(e) and (_of_unseen_loss(e) or (len(seen) >= OFTEN and all(one.probabilities for one in seen)))
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


def _of_unseen_loss(e: Evidence) -> bool:
    """Whether the network answers probabilities, learns slowly, and what its loss does with them was not seen."""
    if e.learning is None or any(visit.watched.loss is not None for visit in visits(e)):
        return False
    return e.learning.sums_to_one and e.learning.overfit is not None and e.learning.overfit < 0.95
