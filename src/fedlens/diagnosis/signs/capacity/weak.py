"""K1: the network is too weak for its data."""

from __future__ import annotations

from statistics import fmean

from fedlens.diagnosis.evidence import Evidence, Outcome
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import percent, points
from fedlens.diagnosis.signs.symptom import misses

LEAST, LEARNED = 0.1, 0.95


def model_is_too_weak(e: Evidence) -> Finding | None:
    """K1: pooled training of the same network falls short of a simple probe, at the best of the rates tried.

    Measured by M15 and M18, where training has come to its end: one that still rises is short of rounds, not of
    strength. The federation is then not to blame.
    """
    if e.trials is None or e.labels is None or e.trials.best is None or e.trials.best_rate_outcome is None:
        return None
    best = max(e.trials.best, e.trials.best_rate_outcome.mean)
    lacks = e.labels.learnable - best
    learns = e.learning is not None and (e.learning.overfit_best or 0.0) >= LEARNED
    if learns and best < e.labels.chance + LEAST:  # it can, and was given too few steps to show how far
        return None
    if lacks < LEAST or any(_rises(one, lacks) for one in e.trials.knobs.values()):
        return None
    return Finding(
        "K1",
        Certainty.SUPPORTED,
        f"Trained on pooled data the network reaches {percent(best)}, a simple probe {percent(e.labels.learnable)}.",
        (Measured("simple probe over pooled training", "M15", points(e.labels.learnable - best), "below 10 points"),),
        "Mend the network first, in centralised training; then federate it.",
        also=("K3", "K4", "K2", "K5", "H8"),
        weight=min(misses(e), e.labels.learnable - best),
    )


def _rises(found: Outcome, lacks: float) -> bool:
    """Whether the second half of its rounds gained enough for as many again to make up for what the best `lacks`."""
    if len(found.curve) < 4 or not found.finite:
        return False
    half = len(found.curve) // 2
    before, after = fmean(found.curve[:half][-2:]), fmean(found.curve[-2:])
    return after - before > lacks / 2
