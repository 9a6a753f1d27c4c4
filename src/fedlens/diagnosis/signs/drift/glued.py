"""C3: the proximal term holds the model where it is."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Effect, Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import (
    effect,
    gained,
    lines,
    lost,
    middle,
    number,
    outcome,
    place,
    points,
    underperforms,
    visits,
)

FREE = ("mu=0", "mu-off", "no-prox")
HOLDS = 0.5  # mu times rate times steps from which the pull undoes most of a visit


def proximal_term_holds(e: Evidence) -> Finding | None:
    """C3: mu is so large that clients hardly leave what they received.

    Measured by M07 and by mu times rate times steps, the part of a visit that the pull undoes; a trial without the term
    proves it. Healthy: small beside 1. Without a trial it is at most consistent. Any pull slows the first rounds: where
    it undoes little, what a trial of fewer rounds than the job's gains without it is no more than that.
    """
    mu = e.facts.declared.mu
    if not mu or mu <= 0:
        return None
    knob, free = _freed(e)
    pulls = [mu * sum(v.watched.rates) for v in visits(e) if v.watched.rates]
    pull = middle(pulls)
    heavy = pull is not None and pull > HOLDS
    clear = free is not None and free.clear and (heavy or pull is None or _to_the_end(e, knob))
    if not underperforms(e) or not (clear or (heavy and free is None)):
        return None
    gain = f": without it the reference gains {points(free.gain)}" if clear and free is not None else ""
    return Finding(
        "C3",
        Certainty.SUPPORTED if clear else Certainty.CONSISTENT,
        f"The proximal term (mu {number(mu)}) undoes {number(min(1.0, pull or 0.0))} of a visit{gain}.",
        lines(
            Measured("mu times the sum of rates of a visit", "M07", number(pull), f"well below {HOLDS:g}")
            if pull is not None
            else None,
            gained(e, knob, "without the term"),
        ),
        "Search mu together with the rate, from 0 up.",
        source="Li et al. 2020 (FedProx), section 5",
        where=place(e, "fit"),
        weight=free.gain if clear and free is not None else 0.5 * lost(e),
    )


def _to_the_end(e: Evidence, knob: str) -> bool:
    """Whether the trial `knob` took all rounds of the job."""
    tried = outcome(e, knob)
    return tried is None or tried.rounds >= e.facts.rounds


def _freed(e: Evidence) -> tuple[str, Effect | None]:
    """The trial without the term, by whichever name it has."""
    for knob in FREE:
        if (found := effect(e, knob)) is not None:
            return knob, found
    return FREE[0], None
