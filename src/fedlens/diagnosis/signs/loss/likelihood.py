"""H2: the negative log-likelihood of what are no log-probabilities."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, visits
from fedlens.diagnosis.signs.symptom import ails, misses


def likelihood_of_logits(e: Evidence) -> Finding | None:
    """H2: nll_loss on raw outputs falls without bound: the largest output wins by growing.

    Measured by M14: rows whose exponentials do not sum to 1. That an objective is below 0 says so only of a loss that
    was not seen, in a job that ails: terms beside the likelihood (FedDyn's, an entropy) may be negative.
    """
    seen = [visit.watched for visit in visits(e)]
    given = [one for one in seen if one.logits]
    if not given and not (_negative(e) and ails(e)):
        return None
    values = [x for one in given for x in (one.loss_first, one.loss_last) if x is not None and x < 0]
    told = min(values, default=None if e.learning is None else e.learning.first_loss)
    return Finding(
        "H2",
        Certainty.FOUND if given else Certainty.CONSISTENT,
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


def _negative(e: Evidence) -> bool:
    """Whether the job's own loss of raw outputs fell below 0, and no loss function of PyTorch's was seen."""
    if e.learning is None or any(visit.watched.loss is not None for visit in visits(e)):
        return False
    return e.learning.negative and not e.learning.log_probabilities and not e.learning.sums_to_one
