"""H4: the loss is a sum over the batch."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import HONEST, ahead, client_side, middle, noise, number
from fedlens.diagnosis.signs.symptom import ails, misses

GROWS = 0.7  # by how much the loss of a batch is more than that of its half: 1 for a sum, 0 for a mean
LEAST = 4  # examples of a batch, below which a sum is not told from a mean


def loss_is_a_sum(e: Evidence) -> Finding | None:
    """H4: with reduction='sum' the rate acts times the batch size, and bounds always act.

    Measured by M14: a batch has the loss of its half twice, or what clients train by is, at first, the loss of a guess
    times the batch. Harmless with a rate to suit; named where the job ails. Where only clients' own code sums, the same
    rate with the job's loss, in a reference, is the proof.
    """
    grows = None if e.learning is None else e.learning.grows
    stated = grows is not None and grows >= GROWS
    times = None if stated else times_the_mean(e)
    if times is None and not stated:
        return None
    gained = ahead(e, "reference")
    better = gained is None or gained > noise(e)  # at the same rate, by the mean
    proven = times is not None and client_side(e) and gained is not None and better
    harms = ails(e) and (stated or better)
    if times is not None:
        says = f"Clients train by the sum of the loss over the batch: it is {number(times)} times that of an example."
        line = Measured("loss trained by, in those of a guess", "M14", number(times), "about 1")
    else:
        doubled = number(1 + (grows or 0.0))
        says = f"The loss is a sum over the batch: of twice the examples it is {doubled} times as large."
        line = Measured("loss of a batch by that of its half", "M14", doubled, "1")
    return Finding(
        "H4",
        Certainty.SUPPORTED if harms and proven else Certainty.CONSISTENT if harms else Certainty.NOTED,
        says,
        (line,),
        "Take the mean, or divide the rate by the batch size.",
        also=("O2",) if proven else (),
        treatment="reference-client" if proven else "",
        weight=misses(e) + (0.01 if proven else 0.0),  # larger and odd updates are its consequence
        hides=HONEST | {"A9", "O5"} if proven else frozenset(),
    )


def times_the_mean(e: Evidence) -> float | None:
    """The first value that clients went backward from, by the loss of a guess, where that is their batch and not 1: so
    many times as far as its rate says goes a step. None: clients train by a mean, or it is not known."""
    guess = math.log(e.facts.classes) if e.facts.classes and e.facts.classes > 1 else None
    if e.learning is not None and e.learning.first_loss:
        guess = e.learning.first_loss
    if guess is None or not guess > 0 or not e.rounds:
        return None
    times, shares = [], []
    for one in (visit.watched for visit in e.rounds[0].visits):
        batch = one.batches[0] if one.batches else 0
        if one.reduction == "sum" and one.loss_first is not None and batch >= LEAST and math.isfinite(one.loss_first):
            times.append(one.loss_first / guess)
            shares.append(one.loss_first / guess / batch)
    share = middle(shares)
    return middle(times) if share is not None and share > 0.5 else None
