"""H2: the negative log-likelihood of what are no log-probabilities."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, visits
from fedlens.diagnosis.signs.symptom import misses


def likelihood_of_logits(e: Evidence) -> Finding | None:
    """H2: nll_loss on raw outputs falls without bound: the largest output wins by growing.

    Measured by M14: rows whose exponentials do not sum to 1, or a loss below 0. A healthy classification loss is never
    negative.
    """
    seen = [visit.watched for visit in visits(e)]
    given = [one for one in seen if one.logits]
    values = [
        x for one in seen if one.loss in ("nll_loss", "cross_entropy") for x in (one.loss_first, one.loss_last) if x
    ]
    lowest = min([value for value in values if value < 0], default=None)
    negative = e.learning is not None and e.learning.negative
    if not given and lowest is None and not negative:
        return None
    first = None if e.learning is None else e.learning.first_loss
    told = lowest if lowest is not None else first
    return Finding(
        "H2",
        Certainty.FOUND,
        "The negative log-likelihood is taken of raw outputs"
        + ("" if told is None else f": the loss is {number(told)}")
        + ".",
        (Measured("loss", "M14", "of raw outputs" if told is None else number(told), "never below 0"),),
        "Use cross-entropy, or put log_softmax in front of the loss.",
        treatment="loss=cross-entropy",
        where=next((one.loss_where for one in given if one.loss_where), ""),
        weight=max(misses(e), 0.5),
        hides=frozenset({"O2", "K1", "P1", "A10", "O1", "C1", "D3", "A9", "H4"}),
    )
