"""A reduction examined from every side, with made-up uploads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from fedlens.diagnosis.evidence import Aggregation
from fedlens.diagnosis.job import Declared, State
from fedlens.diagnosis.reduction import experiments
from fedlens.diagnosis.reduction.coefficients import Part, Solved, parts_of, solve
from fedlens.diagnosis.reduction.cohort import Cohort, Form, looked_at, make_cohort
from fedlens.diagnosis.reduction.experiments import Bench, Ruler, tried
from fedlens.diagnosis.reduction.fates import fates_of
from fedlens.diagnosis.reduction.rules import coarse, grid_of, rule_of
from fedlens.diagnosis.subject.guard import Ailing

MOST = 200_000_000  # numbers in one made-up cohort
DRAWS = 8  # pairs of calls over which noise is averaged that no seed repeats


class Reading(NamedTuple):
    """One cohort, what it became, the coefficients of that; `noise`: standard deviation, by number, of what the random
    state changes; `state`: the result with that noise taken out, but for `left` of it."""

    cohort: Cohort
    result: State
    state: State
    solved: Solved
    noise: float
    wrote: tuple[str, ...]
    left: float = 0.0


@dataclass(frozen=True)
class _Plan:
    bench: Bench
    form: Form
    declared: Declared
    names: tuple[str, ...]
    factor: float


def examine(bench: Bench, form: Form, cohort: int, declared: Declared, factor: float = 1.0) -> Aggregation:
    """Everything of Aggregation, for cohorts of about `cohort` uploads whose updates are `factor` real ones large.

    Raises Ailing where the reduction refuses every cohort that was made up.
    """
    names = tuple(
        name for name, value in form.current.items()
        if value.is_floating_point() and form.entries[name].kind == "parameter"
        and form.answered(name) and not declared.stays(name)
    )  # fmt: skip
    plan = _Plan(bench, form, declared, names, factor)
    reading = _first_reading(plan, cohort)
    return _told(plan, reading)


def _first_reading(plan: _Plan, cohort: int) -> Reading:
    """Of a cohort of the planned size or of ten; of the planned one where only that is divided by rightly."""
    room = max(2, MOST // max(1, sum(value.numel() for value in plan.form.current.values())))
    planned = min(cohort, room)
    sizes = [min(planned, 10) if planned > 1 else 3, max(planned, 3), planned, 10, 1]
    failure: Ailing | None = None
    for m in dict.fromkeys(size for size in sizes if size <= max(planned, 10)):
        try:
            reading = _read(plan, m)
        except Ailing as error:
            failure = failure or error
            continue
        total, wanted = float(reading.solved.weights.sum()), plan.declared.server_lr
        if planned > m and abs(total - wanted) > 0.02 * abs(wanted):
            return _read_or(plan, planned, reading)
        if planned < m and not torch.allclose(reading.solved.weights, wanted * _wanted(plan.declared, reading.cohort)):
            return _read_or(plan, planned, reading)
        return reading
    assert failure is not None
    raise failure


def _read_or(plan: _Plan, m: int, otherwise: Reading) -> Reading:
    try:
        return _read(plan, m)
    except Ailing:
        return otherwise


def _read(plan: _Plan, m: int) -> Reading:
    cohort = make_cohort(plan.form, m, factor=plan.factor)
    done = plan.bench.fresh(0)(cohort)
    solved = solve(_enough(plan, cohort, done.state), cohort.p)
    if solved.clean or solved.sources:
        return Reading(cohort, done.state, done.state, solved, 0.0, done.wrote)
    noise = _noise(plan, cohort, done.state)
    if not noise:
        return Reading(cohort, done.state, done.state, solved, 0.0, done.wrote)
    return _without_noise(plan, cohort, done.state, solved, noise, done.wrote)


def _enough(plan: _Plan, cohort: Cohort, result: State) -> list[Part]:
    """The parts of `result`; for a model of few numbers side by side with those of other updates, equally weighted."""
    parts, m = parts_of(cohort, result, plan.names), len(cohort.uploads)
    numbers = sum(len(part.before) for part in parts)
    for draw in range(1, 1 + math.ceil(4 * (m + 2) / numbers) if 0 < numbers < 3 * (m + 2) else 1):
        other = make_cohort(plan.form, m, factor=plan.factor, draw=draw)
        more = parts_of(other, plan.bench(other), plan.names)
        parts = [_beside(one, two) for one, two in zip(parts, more, strict=False)]
    return parts


def _beside(one: Part, two: Part) -> Part:
    moves = torch.cat([one.moves, two.moves], dim=1)
    before, after = torch.cat([one.before, two.before]), torch.cat([one.after, two.after])
    return Part(one.name, moves, before, after, max(one.rounding, two.rounding))


def _noise(plan: _Plan, cohort: Cohort, result: State) -> float:
    """The standard deviation, by number, of the difference that another random state makes, over sqrt 2."""
    other = plan.bench(cohort, 1)
    pairs = [(result[name].double(), other[name].double()) for name in plan.names if name in result and name in other]
    numbers = sum(one.numel() for one, _ in pairs)
    square = sum(float((one - two).square().sum()) for one, two in pairs if one.shape == two.shape)
    return math.sqrt(square / (2 * numbers)) if numbers and math.isfinite(square) else 0.0


def _without_noise(
    plan: _Plan, cohort: Cohort, result: State, raw: Solved, noise: float, wrote: tuple[str, ...]
) -> Reading:
    """The same uploads turned round the model, under the same random state: half the difference has no noise in it.

    Where the noise does not repeat, it is averaged over several such pairs.
    """
    turned = make_cohort(plan.form, len(cohort.uploads), factor=plan.factor, sign=-1.0)
    halves: list[Mapping[str, Tensor]] = []
    for draw in range(DRAWS):
        plus = result if draw == 0 else plan.bench(cohort, draw)
        minus = plan.bench(turned, draw)
        halves.append(_half(cohort, plus, minus))
        state = {**result, **{name: torch.stack([one[name] for one in halves]).mean(dim=0) for name in halves[0]}}
        solved = solve(parts_of(cohort, state, plan.names), cohort.p)
        if solved.clean:
            break
    left = Solved(solved.weights, solved.current, raw.residual, solved.rounding, solved.length, solved.sources)
    remaining = 0.0 if solved.clean else noise / math.sqrt(2 * len(halves))
    return Reading(cohort, result, state, left, noise, wrote, remaining)


def _half(cohort: Cohort, plus: State, minus: State) -> dict[str, Tensor]:
    """The model plus half of what lies between two results, for its entries of floats."""
    found = {}
    for name, before in cohort.form.current.items():
        one, two = plus.get(name), minus.get(name)
        if one is not None and two is not None and before.is_floating_point() and one.shape == two.shape:
            found[name] = before.double().reshape(one.shape) + (one.double() - two.double()) / 2
    return found


def _told(plan: _Plan, reading: Reading) -> Aggregation:
    cohort, solved, bench = reading.cohort, reading.solved, plan.bench
    parts = parts_of(cohort, reading.state, plan.names, reading.left)
    numbers = sum(part.before.numel() for part in parts)
    ruler = Ruler(
        tuple(part.name for part in parts),
        solved.length,
        max(1e-6, 2 * solved.rounding, 2.5 * reading.noise * math.sqrt(numbers) / solved.length),
    )
    repeats = Ruler(ruler.names, ruler.length, max(1e-6, 2 * solved.rounding))
    follows = experiments.follows(bench, cohort, reading.result, ruler)
    shortest = torch.cat([part.moves for part in parts], dim=1).norm(dim=1).min() if parts else 1.0
    known = solved if not reading.noise else replace(solved, residual=0.0, error=reading.left / float(shortest))
    rule = rule_of(parts, known, cohort.p, follows=follows) if parts else "mean"
    fates = fates_of(cohort, reading.state, known, rule, reading.left)
    grid = _grid(plan, reading, parts)
    carried, past = _second_round(plan, reading) if solved.clean else (0.0, 0.0)
    return Aggregation(
        examples=tuple(round(1000 * u.examples) if plan.form.shares else round(u.examples) for u in cohort.uploads),
        weights=tuple(solved.weights.tolist()),
        wanted=tuple((_wanted(plan.declared, cohort) * plan.declared.server_lr).tolist()),
        current=solved.current,
        residual=0.0 if solved.residual <= max(1e-9, solved.rounding) else solved.residual,
        order=tried(lambda: experiments.order(bench, cohort, reading.result, ruler)),
        again=tried(lambda: experiments.again(bench, cohort, reading.result, ruler)),
        landed=solved.sources,
        fates=fates.fates,
        ones=fates.ones,
        dtypes=_dtypes(cohort, reading.result),
        truncated=bool(grid),
        grid=grid,
        extra=tuple(name for name in reading.result if name not in cohort.form.current),
        non_finite=experiments.non_finite(bench, cohort, plan.names),
        empty=experiments.empty(bench, cohort),
        changes_input=bool(reading.wrote),
        wrote=reading.wrote,
        rule=rule,
        noise=reading.noise,
        rounding=solved.rounding,
        by_cohort=_by_cohort(plan, reading),
        carried=carried,
        past=past,
        **_counted(plan, cohort, reading.result, ruler if reading.noise else repeats),
    )


def _second_round(plan: _Plan, reading: Reading) -> tuple[float, float]:
    """`carried` and `past` of Aggregation, where the first round's coefficients are known."""
    cohort, solved, m = reading.cohort, reading.solved, len(reading.cohort.uploads)
    current = plan.form.current
    form = plan.form._replace(current={name: reading.result.get(name, value) for name, value in current.items()})
    if any(form.current[name].shape != value.shape for name, value in current.items()):
        return 0.0, 0.0
    second = make_cohort(form, m, factor=plan.factor, draw=1)
    reduce = plan.bench.fresh(0)
    try:
        reduce(cohort)
        result = reduce(second).state
    except Ailing:
        return 0.0, 0.0
    parts = parts_of(second, result, plan.names)
    if not parts or not all(bool(torch.isfinite(part.after).all()) for part in parts):
        return (math.inf if parts else 0.0), 0.0
    rest = [part.after - solved.current * part.before - solved.weights @ part.moves for part in parts]
    length = math.sqrt(sum(float((second.p @ part.moves).square().sum()) for part in parts)) or 1.0
    carried = math.sqrt(sum(float(one.square().sum()) for one in rest)) / length
    first = {name: looked_at(form.current[name]) - looked_at(current[name]) for name in plan.names}
    along = sum(float(one @ first[part.name]) for one, part in zip(rest, parts, strict=True))
    square = sum(float(value.square().sum()) for value in first.values())
    slack = 3 * max(1e-6, solved.rounding)
    return (carried, along / square if square else 0.0) if carried > slack else (0.0, 0.0)


def _counted(plan: _Plan, cohort: Cohort, result: State, ruler: Ruler) -> dict[str, float]:
    """`copies`, `twice` and `scale`, where counts are declared to matter so."""
    bench, declared = plan.bench, plan.declared
    clip = declared.dp.get("clip")
    found = {"copies": tried(lambda: experiments.copies(bench, cohort, ruler, declared.server_lr, clip))}
    if plan.form.counted and not plan.form.shares:
        found["scale"] = tried(lambda: experiments.scale(bench, cohort, result, ruler))
        if declared.weighting != "uniform" and declared.reduce == "mean":
            found["twice"] = tried(lambda: experiments.twice(bench, cohort, ruler))
    return found


def _grid(plan: _Plan, reading: Reading, parts: Sequence[Part]) -> float:
    """The grid on which the result lies, seen at the real size of updates or at a large one; 0: on none."""
    for part in parts:
        for values in (part.after, part.after - part.before):
            if not part.kept and (step := grid_of(values, 4 * part.rounding / len(part.moves) ** 0.5)):
                return step
    rounded = not (reading.solved.clean or reading.solved.sources or reading.noise)
    if rounded and (step := tried(lambda: experiments.stepped(plan.bench, reading.cohort, plan.names))):
        return step
    large = make_cohort(plan.form, len(reading.cohort.uploads), size=20.0)
    try:
        result = plan.bench(large)
    except Ailing:
        return 0.0
    seen = parts_of(large, result, plan.names)
    return coarse(large, seen) if seen else 0.0


def _by_cohort(plan: _Plan, reading: Reading) -> tuple[tuple[int, float], ...]:
    """The sum of coefficients for this cohort and for one of another size."""
    m = len(reading.cohort.uploads)
    found = [(m, float(reading.solved.weights.sum()))]
    for other in (max(1, m // 2), m - 1, m + 2):
        if other in (0, m) or (reading.noise and other > m):
            continue
        try:
            again = _read(plan, other)
        except Ailing:
            continue
        total = float(again.solved.weights.sum())
        kept = all(torch.equal(again.result[n], v) for n, v in plan.form.current.items() if n in again.result)
        if math.isfinite(total) and not kept:
            found.append((other, total))
            break
    return tuple(found)


def _wanted(declared: Declared, cohort: Cohort) -> Tensor:
    uniform = declared.weighting == "uniform" or declared.reduce != "mean"
    return torch.full_like(cohort.p, 1 / len(cohort.p)) if uniform else cohort.p


def _dtypes(cohort: Cohort, result: State) -> dict[str, tuple[str, str]]:
    """Entries of another type than the model's: entry -> (type of the model's, type of the result's)."""
    told = {name: (value.dtype, result[name].dtype) for name, value in cohort.form.current.items() if name in result}
    return {
        name: (str(before).removeprefix("torch."), str(after).removeprefix("torch."))
        for name, (before, after) in told.items()
        if before != after
    }
