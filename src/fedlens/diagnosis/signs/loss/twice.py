"""H1, H3: probabilities are given to a loss that takes logits."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, visits
from fedlens.diagnosis.signs.symptom import ails, misses

SIGMOID = "binary_cross_entropy_with_logits"  # any logits may lie between 0 and 1 for a while
BINARY = (SIGMOID, "binary_cross_entropy")
OFTEN = 4  # visits


def softmax_comes_twice(e: Evidence) -> Finding | None:
    """H1, H3: cross-entropy takes logits; of probabilities it never falls below log(e + C - 1) - 1, and learns slowly.

    Measured by M14: rows that the loss was given are never negative and sum to 1, which logits do not; and by the graph
    of the objective, in which a function of logits follows softmax or sigmoid, in any loss. A sigmoid in front of
    cross-entropy bounds the logits and may be meant where the job is well. Of single outputs whose graph was not read
    only that they stay between 0 and 1 at all visits of a job that ails speaks for it, and of a network that ends in
    probabilities nothing where its loss was seen: it may take the logarithm.
    """
    watched = [visit.watched for visit in visits(e)]
    seen = [one for one in watched if one.probabilities is not None and one.samples != 0]
    after = next((one for one in watched if one.squashed), None)
    bounded = after is not None and after.squashed == "sigmoid" and not any(one.loss in BINARY for one in watched)
    given = any(one.probabilities for one in seen if one.loss != SIGMOID) or (after is not None and not bounded)
    inferred = ails(e) and (_of_unseen_loss(e) or (len(seen) >= OFTEN and all(one.probabilities for one in seen)))
    if not given and not inferred and not bounded:
        return None
    binary = any(one.loss in BINARY for one in watched)
    least = f" (for {e.facts.classes} classes the loss cannot reach 0)" if e.facts.classes else ""
    overfit = None if e.learning is None else e.learning.overfit
    what = after.squashed if after is not None else "softmax"
    lines = [Measured("what the loss takes for logits", "M14", f"results of {what}, between 0 and 1", "logits")]
    if overfit is not None:
        lines.append(Measured("accuracy on one batch after many steps", "M13", number(overfit), "above 0.95"))
    sure = given or (bounded and ails(e))
    return Finding(
        "H3" if binary or bounded else "H1",
        Certainty.FOUND if sure else Certainty.CONSISTENT if inferred else Certainty.NOTED,
        f"The loss takes logits and is given probabilities: {what} is applied before it{least}.",
        tuple(lines),
        "Drop the softmax or sigmoid in front of the loss, or take a loss of probabilities.",
        treatment="loss=cross-entropy",
        where=next((one.loss_where for one in watched if one.probabilities or one.squashed), ""),
        also=("H1",) if binary or bounded else ("H3",),
        weight=max(misses(e), 0.1),
        hides=frozenset({"O1", "K1", "K5", "O7", "P1", "D5", "C1"}) if sure or inferred else frozenset(),
    )


def _of_unseen_loss(e: Evidence) -> bool:
    """Whether the network answers probabilities, learns slowly, and what its loss does with them was not seen."""
    if e.learning is None or any(visit.watched.loss is not None for visit in visits(e)):
        return False
    return e.learning.sums_to_one and e.learning.overfit is not None and e.learning.overfit < 0.95
