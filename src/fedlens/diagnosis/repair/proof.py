"""When a remedy is proven: intervals of what it gained, paired by seed, and invariants that hold after it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from scipy import stats  # type: ignore[import-untyped]

from fedlens.diagnosis.job import State
from fedlens.diagnosis.trials.case import Case
from fedlens.diagnosis.trials.own import Make
from fedlens.diagnosis.trials.parts import Mean, Parts

CLEAR = 0.01  # accuracy that a remedy must gain to be called one, beside an interval that excludes 0
SAME = 1e-4  # relative difference of two models that float32 rounding explains
MANY = 6  # pairs from which their extremes bound the median in more than 95% of cases: 1 - 2 / 2^6


class Gain(NamedTuple):
    """Of `n` paired seeds: the mean, what surely bounds it, and whether that is a gain; `of`: what is bounded."""

    mean: float
    low: float
    high: float
    n: int
    of: str

    @property
    def proven(self) -> bool:
        """Whether the interval excludes 0 and the mean is more than a point."""
        return self.low > 0 and self.mean > CLEAR

    def __str__(self) -> str:
        bounds = f"{100 * self.low:+.1f}..{100 * self.high:+.1f}"
        return f"{100 * self.mean:+.1f} points, 95% interval {bounds}{self.of}, {self.n} paired seeds"


def gain(before: Sequence[float], after: Sequence[float]) -> Gain:
    """What was gained from `before` to `after`, seed by seed.

    Few pairs are bounded by the t distribution. From MANY on, where it does not decide, the smallest and the largest
    bound the median whatever the distribution: gains of jobs that fail at some seeds alone are far from normal.

    A proof may thus look three times: at three seeds, and at six in two ways. Of remedies that do nothing at most 1 in
    15 is so called a gain (2.5 % + 2.5 % + 1.6 %), and only where it is above a point.
    """
    gains = [b - a for a, b in zip(before, after, strict=True)]
    mean, n = statistics.fmean(gains), len(gains)
    low, high = interval(gains)
    if n >= MANY and low <= 0:
        return Gain(mean, min(gains), max(gains), n, " of the median")
    return Gain(mean, low, high, n, "")


def interval(gains: Sequence[float]) -> tuple[float, float]:
    """95% of the mean of paired gains by the t distribution; without bounds for one alone."""
    mean, n = statistics.fmean(gains), len(gains)
    if n < 2:
        return -math.inf, math.inf
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(gains) / math.sqrt(n)
    return mean - half, mean + half


class Share(NamedTuple):
    """The part of a gap that was recovered, with 95% of it; nan where there is no gap."""

    mean: float
    low: float
    high: float


def share(before: Sequence[float], after: Sequence[float], reference: Sequence[float]) -> Share:
    """(after - before) / (reference - before), as far as all three have the seed.

    The interval is that of a ratio of paired means by its residuals (Cochran, Sampling Techniques, 1977, 6.4), by the
    t distribution.
    """
    rows = list(zip(before, after, reference, strict=False))
    gains, gaps = [b - a for a, b, _ in rows], [c - a for a, _, c in rows]
    gap, n = statistics.fmean(gaps), len(rows)
    if gap <= CLEAR:
        return Share(math.nan, math.nan, math.nan)
    ratio = statistics.fmean(gains) / gap
    if n < 2:
        return Share(ratio, -math.inf, math.inf)
    left = [one - ratio * other for one, other in zip(gains, gaps, strict=True)]
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(left) / (gap * math.sqrt(n))
    return Share(ratio, ratio - half, ratio + half)


def holds(case: Case, make: Make) -> tuple[bool, str]:
    """Whether two rounds of the treated job keep what a federation promises, with the numbers in words.

    The new model is the weighted mean of the uploads (where no more is declared), and does not depend on the order in
    which clients are visited.
    """
    ways: tuple[Callable[[Sequence[int]], Sequence[int]], ...] = (list, lambda asked: list(reversed(asked)))
    models = [_two_rounds(case, make, way) for way in ways]
    order = _apart(models[0][0], models[1][0], case)
    says = f"the order of clients changes the model by {order:.0e}"
    if not case.facts.declared.plain_server or case.facts.declared.dp:
        return order < SAME, says
    residual = _apart(models[0][0], models[0][1], case)
    return order < SAME and residual < SAME, f"{says}, it differs from the weighted mean by {residual:.0e}"


def _two_rounds(case: Case, make: Make, way: Callable[[Sequence[int]], Sequence[int]]) -> tuple[State, State]:
    """The model after two rounds, and what the weighted mean of the last uploads is."""
    patient = case.subject.fresh(0)
    parts: Parts = make(patient, 0)
    state: State = dict(patient.init)
    mean: State = state
    for number in (1, 2):
        asked = way(list(parts.sample(number)))
        sent = [parts.fit(client, state, number) for client in asked]
        mean = Mean(case.facts)(state, sent, number)
        state = parts.aggregate(state, sent, number)
    return state, mean


def _apart(one: State, other: State, case: Case) -> float:
    names = [name for name in case.facts.of_kind("parameter") if name in one and name in other]
    far = sum(float((one[name].double() - other[name].double()).square().sum()) for name in names)
    size = sum(float(one[name].double().square().sum()) for name in names)
    return math.sqrt(far / size) if size else math.sqrt(far)
