"""A ladder of local rates: many on short runs, the best few at length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedlens.diagnosis.trials.course import Course, Setup, binomial, run
from fedlens.diagnosis.trials.knobs import at_rate

SHORT = 5  # a first run has 1/SHORT of the rounds
KEPT = 3  # rates that are run at length
LOW, HIGH = {"sgd": 1e-4, "adam": 1e-5, "adamw": 1e-5}, {"sgd": 3.0, "adam": 0.1, "adamw": 0.1}


def rungs(rate: float, optimizer: str) -> tuple[float, ...]:
    """Rates in steps of ten through `rate`, over all that is ever of use, rising."""
    found, low, high = [rate], LOW[optimizer], HIGH[optimizer]
    while found[-1] * 10 <= high * 1.001:
        found.append(found[-1] * 10)
    while found[0] / 10 >= low * 0.999:
        found.insert(0, found[0] / 10)
    return tuple(one for one in found if one == rate or low * 0.999 <= one <= high * 1.001)


def best_rate(setup: Setup, plain: Course, tested: int, over: Callable[[], bool]) -> tuple[float, Course]:
    """The rate of the best course, and that course: of the rungs, of those between the best, successively halved.

    `plain` is the course at the rate as it is; it stays unless another is better by more than the evaluation's error.
    `over`: whether no time is left; then what was found so far decides.
    """
    now, rounds = setup.experiment.local.lr, setup.experiment.rounds
    quick = setup.with_(rounds=max(2, rounds // SHORT))
    short = {rate: run(at_rate(quick, rate)) for rate in rungs(now, setup.experiment.local.optimizer) if not over()}
    for rate in _ranked(short)[:1]:
        beside = [other for other in (rate / 3, rate * 3) if not over()]
        short |= {other: run(at_rate(quick, other)) for other in beside}
    whole: dict[float, Course] = {}
    for rate in _ranked(short)[:KEPT]:
        if rate != now and not over():
            whole[rate] = run(at_rate(setup, rate))
    best = _ranked(whole)[:1]
    if not best:
        return now, plain
    margin = 2 * binomial(plain.score, tested)
    better = whole[best[0]].score > plain.score + max(0.01, margin)
    return (best[0], whole[best[0]]) if better else (now, plain)


def _ranked(found: dict[float, Course]) -> Sequence[float]:
    """Rates, the best first; what diverged last."""
    return sorted(found, key=lambda rate: (not found[rate].finite, -found[rate].score))
