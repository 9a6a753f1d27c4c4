"""V3: noise that protects nothing."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import averages
from fedlens.diagnosis.signs.privacy.amount import bounded, expected, in_uploads, ratio, size
from fedlens.diagnosis.signs.reading import middle, noisy, number, place, rounds_watched, visits

BEYOND = 1.2  # update by bound from which it should have been cut
SLIGHT = 0.02  # noise by signal below which it may be another thing: stochastic rounding, say
LEFT = 1e-3  # of the mean of made-up updates, that noise leaves beside every sum of them
CANCELS = 0.5  # share of the uploads' noise that must be left in their mean: masks of a secure sum add up to 0


def noise_without_clip(e: Evidence) -> Finding | None:
    """V3: noise is added, but no bound is set or applied before it, or declared noise is missing.

    Measured by M22 (updates above the bound keep their full coefficient) and M21 (the noise found by the noise
    declared; noise that nobody declared, from what the random state alone changes in the aggregate and from what comes
    back beside what the last step left). Healthy: larger updates are cut, and the noise is as declared. Accuracy does
    not suffer: the guarantee does.
    """
    said = e.facts.declared
    if not noisy(e):
        return _undeclared(e)
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


def _undeclared(e: Evidence) -> Finding | None:
    """Noise that nobody declared, on updates of any length."""
    said = e.facts.declared
    if said.dp or said.codec is not None or bounded(e) is not None:
        return None
    if (spread := _of_clients(e)) is not None:
        says = f"Clients add noise of standard deviation {number(spread)} to updates of any length, undeclared."
        line = Measured("noise beside what the last step left", "M21", number(spread), "none, or declared")
        return _finding(e, says, line, "fit", "reference-client")
    a, once = e.aggregation, ratio(e)
    if a is None or a.noise <= 0 or once is None or once < SLIGHT or a.grid or a.rule != "mean" or not averages(e):
        return None
    if a.residual < max(LEFT, 4 * a.rounding):  # chance only weighs the uploads, say in a subset of them
        return None
    says = f"The server adds noise of standard deviation {number(a.noise)} to updates of any length, undeclared."
    return _finding(e, says, Measured("noise by the mean update, one round", "M21", number(once), "none, or declared"))


def _of_clients(e: Evidence) -> float | None:
    """The standard deviation of what clients add to what they trained; None: nothing, or what cancels in the mean."""
    known = [visit for visit in visits(e) if visit.watched.added is not None]
    noise = [visit.watched.added for visit in known if visit.watched.added]
    spread, count = middle(noise), max((len(one.visits) for one in e.rounds), default=1)
    means = middle(one.mean_norm for one in rounds_watched(e))
    if len(noise) < 2 or 2 * len(noise) < len(known) or spread is None or means is None:
        return None
    whole = spread * math.sqrt(size(e))
    slight = whole < SLIGHT * (middle(visit.norm for visit in known) or 0.0)
    return None if slight or means < CANCELS * whole / math.sqrt(max(1, count)) else spread


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


def _finding(
    e: Evidence, says: str, line: Measured, stage: str = "aggregate", treatment: str = "reference-aggregator"
) -> Finding:
    return Finding(
        "V3",
        Certainty.FOUND,
        says,
        (line,),
        "Clip each update to the bound, then add noise of that bound times the multiplier, and account.",
        source="Abadi et al. 2016; McMahan et al. 2018",
        also=("V1",),
        treatment=treatment,
        where=place(e, stage),
        weight=0.1,
        silent=True,
    )
