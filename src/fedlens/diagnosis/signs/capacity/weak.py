"""K1: the network is too weak for its data."""

from __future__ import annotations

from statistics import fmean

from fedlens.diagnosis.evidence import Evidence, Outcome
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import early_only, effect, lines, outcome, percent, points
from fedlens.diagnosis.signs.symptom import misses, reached

LEAST, LEARNED = 0.1, 0.95
SMALL, FAR = "small-network", 0.2  # the trial, and by how much it must be ahead


def model_is_too_weak(e: Evidence) -> Finding | None:
    """K1: pooled training of the same network falls short of a simple probe, at the best of the rates tried.

    Measured by M15 and M18, where training has come to its end: one that still rises is short of rounds, not of
    strength. The federation is then not to blame. It is not the rounds either where a small network of the doctor's
    comes much further on as many examples.
    """
    if e.trials is None or e.labels is None or e.trials.best is None:
        return None
    after, pair = e.trials.best_rate_outcome, behind_a_small_one(e)
    if pair is None and after is None:
        return None
    best = e.trials.best if after is None else max(e.trials.best, after.mean)
    lacks = e.labels.learnable - best
    learns = e.learning is not None and (e.learning.overfit_best or 0.0) >= LEARNED
    if pair is None and learns and best < e.labels.chance + LEAST:  # it can, and had too few steps
        return None
    if (reached(e) or 0.0) > e.labels.learnable - LEAST:  # the job itself does better, with the rounds that it has
        return None
    if pair is None and (lacks < LEAST or any(_rises(one, lacks) for one in e.trials.knobs.values())):
        return None
    small = (
        None if pair is None else Measured("pooled, against a small network", "M18", percent(best), percent(pair[1]))
    )
    beside = f", a small network {percent(pair[1])}" if pair else ""
    return Finding(
        "K1",
        Certainty.CONSISTENT if early_only(e) else Certainty.SUPPORTED,
        f"Trained on pooled data the network reaches {percent(best)}, a simple probe {percent(e.labels.learnable)}"
        f"{beside}.",
        lines(Measured("simple probe over pooled training", "M15", points(lacks), "below 10 points"), small),
        "Mend the network first, in centralised training; then federate it.",
        also=("K3", "K4", "K2", "K5", "H8"),
        weight=min(misses(e), max(lacks, 0.0 if pair is None else pair[1] - best)),
    )


def behind_a_small_one(e: Evidence) -> tuple[float, float] | None:
    """The accuracies of pooled training of the job's network, at the best rate tried, and of a small network on as many
    examples, where the first is far behind and no other rate mends it; None: it is not, or was not tried."""
    small, here = outcome(e, SMALL), reached(e)
    if small is None or e.trials is None or e.trials.best is None or here is None:
        return None
    after, rates = e.trials.best_rate_outcome, [effect(e, name) for name in ("lr*3", "lr/3")]
    best = e.trials.best if after is None else max(e.trials.best, after.mean)
    searched = after is not None or all(one is not None and one.gain < FAR for one in rates)
    far = small.mean - max(best, here) > FAR and small.finite
    return (best, small.mean) if far and searched else None


def _rises(found: Outcome, lacks: float) -> bool:
    """Whether the second half of its rounds gained enough for as many again to make up for what the best `lacks`."""
    if len(found.curve) < 4 or not found.finite:
        return False
    half = len(found.curve) // 2
    before, after = fmean(found.curve[:half][-2:]), fmean(found.curve[-2:])
    return after - before > lacks / 2
