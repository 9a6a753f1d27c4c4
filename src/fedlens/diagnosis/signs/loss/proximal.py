"""H6: a proximal term that is not the declared one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.evidence.rounds import Pull
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, percent, place, visits

STEPS = 3  # at least
LOADED = 1e-6  # relative distance of the start from what was sent up to which the two are one
EXACT = 1e-3  # share of a gradient that its model may leave unexplained
SAME = 0.01  # relative difference of coefficients that are one
VARIED = 1.5  # ratio of distances that tells a square from a norm
ASIDE = 0.02  # distance of another point from the start, by the norm of the start


def proximal_term_is_wrong(e: Evidence) -> Finding | None:
    """H6: the gradient beside the loss is not mu (w - w_t): no square, another factor, a mean, another point.

    Measured tensor by tensor at every one of the first steps. Healthy: the coefficient of w - w_t is mu everywhere, at
    any distance. Twice that is a convention (no 1/2), and what has other terms beside is not judged.
    """
    said = e.facts.declared
    if "prox" not in named(said.method) and (said.method or not (said.mu or 0.0) > 0):
        return None
    loaded = [visit.watched for visit in visits(e) if visit.watched.start is not None]
    every = [p for one in loaded if (one.start or 0.0) <= LOADED for p in one.pulls if p.distance > 0]
    pulls = [p for p in every if p.most]
    if len(every) >= STEPS and not pulls:
        return _without_pull(e, every)
    if len(pulls) < STEPS or not all(math.isfinite(x) for p in pulls for x in (p.low, p.high, p.least, p.most, p.off)):
        return None
    if min(p.off for p in pulls) > 10 * EXACT:
        return _elsewhere(e, pulls) if "prox" in named(said.method) else None
    if max(p.off for p in pulls) > EXACT:
        return None
    if all(_one(p.low, p.high) for p in pulls):
        return _of_one_strength(e, pulls)
    return _by_tensor(e, pulls)


def named(method: str | None) -> str:
    """A method's name in small letters alone."""
    return "".join(letter for letter in (method or "").lower() if letter.isalnum())


def _of_one_strength(e: Evidence, pulls: Sequence[Pull]) -> Finding | None:
    mu, strengths = e.facts.declared.mu, [p.low for p in pulls]
    if _one(min(strengths), max(strengths)):
        if not mu or not all(p.added for p in pulls):
            return None
        factor = strengths[0] / mu
        if abs(factor - 1) <= SAME:
            return None
        line = Measured("coefficient of w - w_t", "M14", number(strengths[0]), f"mu = {number(mu)}")
        if abs(factor - 2) <= 2 * SAME:
            says = "The proximal term has no 1/2: it pulls with 2 mu. Papers differ in this; compare mu accordingly."
            return _finding(e, Certainty.NOTED, says, line)
        return _finding(
            e, Certainty.FOUND, f"The proximal term pulls with {number(factor)} times the declared mu.", line
        )
    sizes, far = [p.low * p.distance for p in pulls], [p.distance for p in pulls]
    if max(far) < VARIED * min(far) or not _one(min(sizes), max(sizes)):
        return None
    return _unsquared(e, pulls, sizes, "whole model")


def _by_tensor(e: Evidence, pulls: Sequence[Pull]) -> Finding | None:
    if all(_one(p.least, p.most) for p in pulls):
        return _unsquared(e, pulls, [p.most for p in pulls], "single tensors")
    mu, lows, highs = e.facts.declared.mu, [p.low for p in pulls], [p.high for p in pulls]
    steady = _one(min(lows), max(lows)) and _one(min(highs), max(highs))
    if not mu or not steady or max(highs) >= 0.5 * mu or not all(p.added for p in pulls):
        return None
    return _finding(
        e,
        Certainty.FOUND,
        f"The proximal term differs by tensor and is at most {percent(highs[0] / mu)} of mu: a mean instead of a sum.",
        Measured("coefficient of w - w_t", "M14", f"{number(lows[0])} to {number(highs[0])}", f"mu = {number(mu)}"),
    )


def _unsquared(e: Evidence, pulls: Sequence[Pull], sizes: Sequence[float], what: str) -> Finding:
    far = [p.distance for p in pulls]
    size = f"{number(min(sizes))} to {number(max(sizes))}" if not _one(min(sizes), max(sizes)) else number(max(sizes))
    return _finding(
        e,
        Certainty.FOUND,
        f"The proximal term is made of norms of {what}, not of their squares: it pulls with {size} at any distance.",
        Measured(
            f"pull of the term at distances {number(min(far))} to {number(max(far))}",
            "M14",
            f"{size} ({what})",
            "mu times the distance",
        ),
    )


def _without_pull(e: Evidence, pulls: Sequence[Pull]) -> Finding:
    far = f"0 at distances up to {number(max(p.distance for p in pulls))}"
    line = Measured("gradient of the term", "M14", far, "mu times the distance")
    says = "The proximal term has a gradient of 0 at any distance: weights are compared with themselves."
    return replace(_finding(e, Certainty.FOUND, says, line), also=("H5",))


def _elsewhere(e: Evidence, pulls: Sequence[Pull]) -> Finding | None:
    points = [p.aside for p in pulls if p.aside is not None]
    if len(points) < STEPS or min(points) < ASIDE:
        return None
    return _finding(
        e,
        Certainty.FOUND,
        "The proximal term pulls to another point than the model that was sent: it is compared with the wrong tensors.",
        Measured("distance of that point from the model that was sent", "M14", percent(min(points)), "0"),
    )


def _finding(e: Evidence, certainty: Certainty, says: str, line: Measured) -> Finding:
    return Finding(
        "H6",
        certainty,
        says,
        (line,),
        "Add mu / 2 times the sum over parameters of ((w - w_t) ** 2).sum(), with w_t paired by name.",
        source="Li et al. 2020",
        where=place(e, "fit"),
        weight=0.2,
        silent=True,
        hides=frozenset({"C1"}) if certainty is Certainty.FOUND else frozenset(),
    )


def _one(low: float, high: float) -> bool:
    """Whether two numbers are one, to SAME."""
    return abs(high - low) <= SAME * max(abs(low), abs(high))
