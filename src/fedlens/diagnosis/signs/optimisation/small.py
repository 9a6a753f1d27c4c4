"""O1: the local rate is too small."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.loss.summed import times_the_mean
from fedlens.diagnosis.signs.reading import early_only, middle, number, points, visits
from fedlens.diagnosis.signs.symptom import reached

FACTOR = 9.0  # a rate within this factor of the best is a matter of taste and budget
LEAST = 0.15  # accuracy that the better rate must gain


def rate_is_too_small(e: Evidence) -> Finding | None:
    """O1: steps so short that nothing moves in the budget.

    Measured by M20, a search over rates on the doctor's reference, with M07, the size of updates. Early in training a
    larger rate is ahead on healthy jobs too, so only much larger rates with much better ends count, and only where the
    reference at the job's own rate does not reach them either, in all of the job's rounds where the search had fewer.
    Where that is not known, a rate that the rounds which are left might make up for is only consistent.
    """
    here, best = reached(e), None if e.trials is None else e.trials.best_rate
    after = None if e.trials is None else e.trials.best_rate_outcome
    if e.trials is None or not e.trials.rate or not best or after is None or here is None:
        return None
    gain = after.mean - (0.0 if math.isnan(here) else here)
    own = e.trials.late or e.trials.reference
    if own is not None and own.finite and not after.mean - own.mean > LEAST:
        return None
    rate = e.trials.rate * (times_the_mean(e) or 1.0)  # what clients' own steps come to
    if best < FACTOR * rate or not gain > LEAST:
        return None
    size = middle(visit.size for visit in visits(e))
    left = e.facts.rounds / max(1, after.rounds)  # n rounds at a small rate are about as far as one at n times it
    undecided = early_only(e) and best < FACTOR * left * rate
    return Finding(
        "O1",
        Certainty.CONSISTENT if undecided else Certainty.SUPPORTED,
        f"The local rate {number(e.trials.rate)} is too small: at {number(best)} the same rounds gain {points(gain)}.",
        (
            Measured("rate that reaches most", "M20", number(e.trials.rate), number(best)),
            Measured("size of an update by the model's", "M07", number(size or 0.0), "1e-3 to 1"),
        ),
        "Search the rate first, by factors of three, on few rounds; then compare methods.",
        source="Reddi et al. 2021",
        also=("K5",),
        treatment=f"rate={best:g}",
        weight=gain,
        hides=frozenset({"O7", "K1", "P1", "K5"}),
    )
