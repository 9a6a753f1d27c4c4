"""Whether the aggregate is the mean that is declared: the exact test behind the signs of aggregation.

One job has one answer (`fault`), so that signs of one broken sum exclude each other instead of all firing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import mean, pstdev
from typing import Literal, NamedTuple

from fedlens.diagnosis.evidence import Aggregation, Evidence, Round
from fedlens.diagnosis.signs.arriving import made_up_for
from fedlens.diagnosis.signs.reading import lossy, noisy, rounds_watched

Broken = Literal["B2", "A1", "A3", "A6", "A12"]
# Methods whose server is known to do something else than add the mean update: their sums are not judged.
OTHER_SERVERS = frozenset(
    {"fedavgm", "fedadam", "fedyogi", "fedadagrad", "fedamsgrad", "fedopt", "slowmo"}
    | {"fednova", "feddyn", "fedexp", "qfedavg", "qffl", "fedgkt"}
)
CONSERVED = 1e-3  # M02: healthy jobs have 0 and the rounding of float32
EXACT = 5e-3  # coefficients of made-up updates that are as declared
WATCHED = 0.02  # coefficients of real updates, which are less independent


class Total(NamedTuple):
    """Coefficients `weights` of the updates in the change of the model, `examples` of each upload, `current` the
    model's own coefficient, `slack` what noise alone does to one coefficient, `round` None if uploads were made up."""

    weights: tuple[float, ...]
    examples: tuple[float, ...]
    current: float
    slack: float
    round: int | None = None

    @property
    def total(self) -> float:
        """The server's rate."""
        return sum(self.weights)

    @property
    def first(self) -> int:
        """The place of the heaviest upload."""
        return max(range(len(self.weights)), key=lambda place: abs(self.weights[place]))

    @property
    def alone(self) -> bool:
        """Whether one upload is all there is."""
        reach = sum(abs(weight) for weight in self.weights)
        most = abs(self.weights[self.first])
        return len(self.weights) > 1 and most > 0.9 * reach > 0 and reach - most < EXACT * most + self.slack


class Fault(NamedTuple):
    """The cause, and the sum that shows it."""

    cause: Broken
    seen: Total


def averages(e: Evidence) -> bool:
    """Whether the server is declared to take a mean and to step along it."""
    said, method = e.facts.declared, (e.facts.declared.method or "").lower()
    named = "".join(letter for letter in method if letter.isalnum())
    return said.reduce == "mean" and said.server_optimizer == "sgd" and named not in OTHER_SERVERS


def made_up(e: Evidence) -> Aggregation | None:
    """The examination with made-up uploads, where it says something of a mean of uploads."""
    a, least = e.aggregation, e.facts.declared.min_clients or 0
    if a is None or not averages(e) or len(a.weights) < max(2, least) or len(a.wanted) != len(a.weights):
        return None
    return a if all(math.isfinite(x) for x in (*a.weights, a.current, a.residual)) else None


def tolerance(one: Round) -> float:
    """The residual of M02 up to which a round conserves the mean: float32 explains that much."""
    return max(CONSERVED, 2 * one.rounding)


def leaks(e: Evidence) -> tuple[Round, ...]:
    """Watched rounds whose aggregate is not the server's rate times the declared mean, beyond rounding; none where
    clients send multiples that the server undoes."""
    return () if made_up_for(e) else tuple(one for one in rounds_watched(e) if _off(one, e.facts.declared.server_lr))


def held_back(e: Evidence) -> tuple[int, ...]:
    """Rounds after which the model is exactly what it was, though clients moved by more than rounding, where others
    take the declared mean: there the server had a choice. A round with fewer uploads than `min_clients` is void, and
    none of them."""
    least, broken = e.facts.declared.min_clients or 0, {one.number for one in leaks(e)}
    full = [one for one in rounds_watched(e) if len(one.visits) >= max(1, least) and one.number in broken]
    return tuple(one.number for one in full if one.moved == 0) if _taken(e) else ()


def _taken(e: Evidence) -> bool:
    """Whether some round's model is the declared mean."""
    broken = {one.number for one in leaks(e)}
    return any(one.moved and one.residual is not None and one.number not in broken for one in rounds_watched(e))


def _off(one: Round, rate: float) -> bool:
    if one.residual is None or not math.isfinite(one.residual):
        return False
    if rate == 1.0:
        return one.residual > tolerance(one)
    if one.cosine is None or not one.mean_norm or one.moved is None or one.norm is None:
        return one.total is not None and abs(one.total - rate) > WATCHED * max(1.0, abs(rate)) + 4 * one.total_error
    move = one.moved * one.norm / one.mean_norm
    left = math.sqrt(max(0.0, move**2 + rate**2 - 2 * rate * move * one.cosine))
    return left > max(WATCHED * abs(rate), 2 * one.rounding)


def totals(e: Evidence) -> Iterator[Total]:
    """The sums to judge: of made-up uploads, which are exact, then of rounds that are not the declared mean."""
    a, least = made_up(e), e.facts.declared.min_clients or 0
    if e.facts.declared.codec is not None or not averages(e):
        return
    if a is not None and (a.residual < 0.05 or a.noise > 0) and a.rule == "mean":
        yield Total(a.weights, tuple(map(float, a.examples)), a.current, 0.02 if a.noise > 0 else 0.0)
    for one in rounds_watched(e) if lossy(e) else leaks(e):
        weights = one.weights or tuple((one.total or 0.0) * share for share in one.wanted)
        told = (one.weights or one.total is not None) and len(weights) == len(one.visits) >= max(1, least)
        if told and all(map(math.isfinite, weights)) and (noisy(e) or (one.unexplained or 0.0) < 0.05):
            error = 4 * max(one.weights_error, one.total_error / math.sqrt(len(weights)))
            yield Total(weights, tuple(v.examples for v in one.visits), 1.0 + one.current, error, one.number)


def alike(values: Sequence[float], shares: Sequence[float], within: float) -> bool:
    """Whether `values`, divided by their sum, are `shares` divided by theirs, to `within` of the mean share."""
    if abs(sum(values)) < 1e-9 or abs(sum(shares)) < 1e-12:
        return False
    room = within / len(values)
    return all(abs(v / sum(values) - s / sum(shares)) <= room for v, s in zip(values, shares, strict=True))


def fault(e: Evidence) -> Fault | None:
    """What is wrong with the sum, by the first of `totals` that shows something; None: it is the declared mean."""
    if made_up_for(e) or (clipped_to(e) is not None and "clip" not in e.facts.declared.dp):
        return None
    held, taken = held_back(e), _taken(e)
    for one in totals(e):
        cause = _cause(e, one) if one.round not in held else None
        if cause is not None and not (cause == "B2" and one.round is None and taken):  # made-up uploads were refused
            return Fault(cause, one)
    return None


def _cause(e: Evidence, one: Total) -> Broken | None:
    said, room = e.facts.declared, (EXACT if one.round is None else WATCHED)
    rate, m = said.server_lr, len(one.weights)
    if one.slack > 0.2 / m:
        return None  # noise hides the coefficients
    near = room * max(1.0, abs(rate)) + one.slack * math.sqrt(m)
    if max(map(abs, one.weights)) < EXACT * 0.02 * abs(rate) and abs(one.current - 1) < near:
        return "B2" if one.slack == 0 else None
    if one.alone:
        return "A1"
    wrong = None if "clip" in said.dp else _wrong_shares(e, one, 4 * room + m * one.slack)
    low = ("clip" in said.dp and 0 < one.total < rate) or said.server_momentum
    off = abs(one.total - rate) > near and not low
    if wrong is not None:
        return _wrong_total(e, one) if off and wrong == "A3" else wrong
    if said.server_momentum:
        return None
    if off:
        return _wrong_total(e, one)
    if one.round is None and by_constant(e):
        return "A12"
    return "A6" if abs(one.current - 1) > near and not said.dp else None


def _wrong_shares(e: Evidence, one: Total, room: float) -> Broken | None:
    said, m = e.facts.declared.weighting, len(one.weights)
    even, counted = (1.0,) * m, one.examples
    by_count = sum(counted) > 0 and alike(one.weights, counted, room)
    if (by_count and said != "uniform") or (alike(one.weights, even, room) and said != "examples"):
        return None
    if alike(counted, even, 5 * room) and alike(one.weights, even, 5 * room):
        return None  # as many examples everywhere: the two are one
    return "A3" if (by_count or alike(one.weights, even, room)) and not _undivided(one) else "A1"


def _wrong_total(e: Evidence, one: Total) -> Broken:
    a = e.aggregation
    if one.round is None and by_constant(e) and not _undivided(one):
        return "A12"
    leaves_sum = abs(one.current - one.total) < 0.02 * max(1.0, abs(one.total)) and one.current > 0
    scaled = a is not None and one.round is None and a.scale > 0.1
    return "A1" if _undivided(one) or leaves_sum or scaled else "A6"


def _undivided(one: Total) -> bool:
    """Whether the coefficients add up to the number of uploads, or of their examples."""
    wholes = (len(one.weights), sum(one.examples))
    return any(abs(one.total - whole) < 0.02 * whole for whole in wholes if whole > 1)


def by_constant(e: Evidence) -> bool:
    """Whether coefficients add up to another sum where more uploads come: they are divided by a constant."""
    a = e.aggregation
    sums = [total for _, total in a.by_cohort] if a is not None and not e.facts.declared.dp else []
    if len(sums) < 2 or not all(map(math.isfinite, sums)) or min(sums) <= EXACT * max(sums):  # refused, not divided
        return False
    most = max(a.by_cohort) if a is not None else (0, 0.0)
    return max(sums) > 1.05 * min(sums) and most[1] == max(sums)


def clipped_to(e: Evidence) -> float | None:
    """The bound on an update that the server shows, by client or on the mean; None: it shows none.

    Under a bound C upload i has the coefficient p_i min(1, C / ||D_i||): small where the update is large, while under a
    server's rate it is p_i times one number.
    """
    rounds = [
        one for one in rounds_watched(e) if one.weights and len(one.weights) == len(one.visits) == len(one.wanted)
    ]
    rate = e.facts.declared.server_lr or 1.0
    seen = [
        (weight / (share * rate), visit.norm)
        for one in rounds
        for weight, share, visit in zip(one.weights, one.wanted, one.visits, strict=True)
        if share > 0 and visit.norm > 0
    ]
    cut, whole = [x for x in seen if 0 < x[0] < 0.98], [x for x in seen if x[0] >= 0.98]
    bounds = [part * norm for part, norm in cut]
    if len(cut) + len(whole) == len(seen) and _constant(bounds) and not _constant([part for part, _ in cut]):
        bound = mean(bounds)
        return bound if all(norm < 1.05 * bound for _, norm in whole) else None
    means = [(one.total / rate, one.mean_norm) for one in rounds if one.total is not None and one.mean_norm]
    bounds = [part * norm for part, norm in means if 0 < part < 0.98]
    if len(bounds) == len(means) and _constant(bounds) and not _constant([part for part, _ in means]):
        return mean(bounds)
    return None


def _constant(values: Sequence[float]) -> bool:
    return len(values) >= 3 and pstdev(values) < 0.02 * abs(mean(values))
