"""O2: the local rate is too large."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, points, rounds_watched, visits
from fedlens.diagnosis.signs.symptom import reached

LEAST = 0.1


def rate_is_too_large(e: Evidence) -> Finding | None:
    """O2: steps that overshoot: no numbers, or accuracy far below what a smaller rate reaches.

    Measured by M20, a search over rates, with M07: updates larger than the model, values that are not finite.
    """
    best = None if e.trials is None else e.trials.best_rate
    after = None if e.trials is None else e.trials.best_rate_outcome
    if e.trials is None or not e.trials.rate or not best or after is None:
        return None
    broken = len(rounds_watched(e)) < len(e.rounds) or any(not visit.finite for visit in visits(e))
    here = reached(e)
    gain = after.mean if here is None or math.isnan(here) else after.mean - here
    reference = e.trials.reference
    same = reference is None or not reference.finite or after.mean - reference.mean > LEAST
    if best > e.trials.rate / 2.5 or gain < LEAST or not same:
        return None
    return Finding(
        "O2",
        Certainty.SUPPORTED,
        f"The local rate {number(e.trials.rate)} is too large: at {number(best)} the same rounds gain {points(gain)}.",
        (
            Measured("rate that reaches most", "M20", number(e.trials.rate), number(best)),
            Measured("values that are no numbers", "M07", "yes" if broken else "no", "no"),
        ),
        "Lower the rate by factors of three, or warm it up; bound gradients only after that.",
        also=("K5",),
        treatment=f"rate={best:g}",
        weight=gain,
        hides=frozenset({"A9", "A10", "P1", "C1", "K5", "D3"}),
    )
