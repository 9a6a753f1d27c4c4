"""V3: noise that protects nothing."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.privacy.amount import expected, in_uploads, size
from fedlens.diagnosis.signs.reading import middle, noisy, number, place, rounds_watched

BEYOND = 1.2  # update by bound from which it should have been cut


def noise_without_clip(e: Evidence) -> Finding | None:
    """V3: noise is declared, but no bound is set or applied before it, or the noise itself is missing.

    Measured by M22 (updates above the bound keep their full coefficient) and M21 (the noise found by the noise
    declared). Healthy: larger updates are cut, and the noise is as declared. Accuracy does not suffer: the guarantee
    does.
    """
    said = e.facts.declared
    if not noisy(e):
        return None
    clip = said.dp.get("clip", math.inf)
    if not 0 < clip < math.inf:
        return _finding(e, "Noise is declared without a bound on updates: it protects nothing.",
                        Measured("declared bound", "M22", "none", "a number"))  # fmt: skip
    whole = _uncut(e, clip)
    if whole is not None:
        return _finding(e, f"Updates up to {number(whole)} times the bound are taken whole before noise is added.",
                        Measured("largest uncut update by the bound", "M22", number(whole), "1"))  # fmt: skip
    a, means = e.aggregation, middle(one.mean_norm for one in rounds_watched(e))
    if a is None or not means or in_uploads(e):
        return None
    seen = a.noise / expected(e)
    if seen > 1 / 3 or expected(e) * math.sqrt(size(e)) < 0.05 * means:
        return None
    return _finding(e, f"The aggregate holds {number(seen)} of the noise that is declared.",
                    Measured("noise found by noise declared", "M21", number(seen), "1"))  # fmt: skip


def _uncut(e: Evidence, clip: float) -> float | None:
    """How far above the bound an update is, that keeps its whole coefficient; None: all are cut."""
    found = []
    for one in rounds_watched(e):
        room, rate = 4 * one.weights_error, abs(e.facts.declared.server_lr)
        for weight, share, visit in zip(one.weights, one.wanted, one.visits, strict=False):
            over, whole = visit.norm / clip, rate * share
            cut = max(BEYOND, 1.0) if over <= BEYOND else over
            if over > BEYOND and weight - room > whole * (1 / cut + 0.5 * (1 - 1 / cut)) and weight > 0.8 * whole:
                found.append(over)
    cases = sum(visit.norm > BEYOND * clip for one in rounds_watched(e) for visit in one.visits)
    return max(found) if found and 2 * len(found) > cases else None


def _finding(e: Evidence, says: str, line: Measured) -> Finding:
    return Finding(
        "V3",
        Certainty.FOUND,
        says,
        (line,),
        "Clip each update to the bound, then add noise of that bound times the multiplier, and account.",
        source="Abadi et al. 2016; McMahan et al. 2018",
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=0.1,
        silent=True,
    )
