"""Small experiments on a reduction: the same uploads in another order, twice, alone, broken, or none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch

from fedlens.diagnosis.job import State, Upload
from fedlens.diagnosis.reduction.coefficients import parts_of
from fedlens.diagnosis.reduction.cohort import Cohort, looked_at
from fedlens.diagnosis.reduction.rules import grid_of
from fedlens.diagnosis.subject.guard import Ailing


class Done(NamedTuple):
    """What a reduction returned, and what it wrote to on the way: "current", "upload 0" ..."""

    state: State
    wrote: tuple[str, ...] = ()


Reduce = Callable[[Cohort], Done]


@dataclass(frozen=True)
class Bench:
    """`fresh(seed)` gives the reduction as if it had never been called, with its random states set by `seed`."""

    fresh: Callable[[int], Reduce]

    def __call__(self, cohort: Cohort, seed: int = 0) -> State:
        """What `cohort` becomes."""
        return self.fresh(seed)(cohort).state


class Ruler(NamedTuple):
    """How states are compared: over the entries `names`, relative to the norm `length` of the mean update; what
    `slack` (relative too) explains counts as nothing."""

    names: tuple[str, ...]
    length: float
    slack: float

    def apart(self, one: State, other: State) -> float:
        """||one - other|| / length; infinite where one of them is not finite or lacks an entry."""
        total = 0.0
        for name in self.names:
            if name not in one or name not in other or one[name].numel() != other[name].numel():
                return math.inf
            total += float((looked_at(one[name]) - looked_at(other[name])).square().sum())
        distance = math.sqrt(total) / self.length if math.isfinite(total) else math.inf
        return 0.0 if distance <= self.slack else distance


def tried(experiment: Callable[[], float]) -> float:
    """The number that `experiment` gives; 0 where the reduction refuses it."""
    try:
        return experiment()
    except Ailing:
        return 0.0


def order(bench: Bench, cohort: Cohort, result: State, ruler: Ruler) -> float:
    """How far the result moves when the uploads are listed in other orders."""
    m = len(cohort.uploads)
    orders = (range(m - 1, -1, -1), [*range(1, m), 0])
    return max(ruler.apart(result, bench(cohort.listed(list(one)))) for one in orders)


def copies(bench: Bench, cohort: Cohort, ruler: Ruler, rate: float, clip: float | None) -> float:
    """The result of one upload, listed as often as there are uploads, against the model moved by it at `rate`."""
    counts = [upload.examples for upload in cohort.uploads]
    result = bench(cohort.listed([0] * len(counts), counts))
    if clip is not None:
        rate *= min(1.0, clip / max(_norm(cohort, ruler.names), 1e-30))
    current = cohort.form.current
    wanted = {}
    for name in ruler.names:
        sent, before = cohort.uploads[0].state[name].double(), current[name].double()
        wanted[name] = before + rate * (sent - before if cohort.form.payload == "weights" else sent)
    return ruler.apart(result, wanted)


def stepped(bench: Bench, cohort: Cohort, names: Sequence[str]) -> float:
    """The grid on which the result of one upload lies, listed as often as there are uploads, where each is rounded by a
    step of its own that no mean of several shows; 0: on none."""
    same = cohort.listed([0] * len(cohort.uploads), [upload.examples for upload in cohort.uploads])
    for part in parts_of(same, bench(same), names):
        slack = 4 * part.rounding / len(part.moves) ** 0.5
        for values in (part.after, part.after - part.before):
            if not part.kept and (step := grid_of(values, slack)):
                return step
    return 0.0


def again(bench: Bench, cohort: Cohort, result: State, ruler: Ruler) -> float:
    """How far the second of two equal calls is from the first."""
    reduce = bench.fresh(0)
    reduce(cohort)
    return ruler.apart(result, reduce(cohort).state)


def twice(bench: Bench, cohort: Cohort, ruler: Ruler) -> float:
    """The first upload listed twice, against the first upload with twice the examples."""
    places, counts = list(range(len(cohort.uploads))), [upload.examples for upload in cohort.uploads]
    listed = bench(cohort.listed([0, *places], [counts[0], *counts]))
    return ruler.apart(listed, bench(cohort.listed(places, [2 * counts[0], *counts[1:]])))


def scale(bench: Bench, cohort: Cohort, result: State, ruler: Ruler) -> float:
    """How far the result moves when all counts are doubled."""
    doubled = [2 * upload.examples for upload in cohort.uploads]
    return ruler.apart(result, bench(cohort.listed(range(len(doubled)), doubled)))


def non_finite(
    bench: Bench, cohort: Cohort, names: Sequence[str]
) -> Literal["refused", "left out", "passed on", "untried"]:
    """What becomes of an upload with one entry that is not a number."""
    name = max(names, key=lambda one: cohort.form.current[one].numel(), default="")
    if not name or len(cohort.uploads) < 2:
        return "untried"
    spoilt = cohort.uploads[1]
    state = {**spoilt.state, name: torch.full_like(spoilt.state[name], torch.nan)}
    uploads = (cohort.uploads[0], replace(spoilt, state=state), *cohort.uploads[2:])
    try:
        result = bench(Cohort(cohort.form, uploads))
    except Ailing:
        return "refused"
    if any(not bool(torch.isfinite(result[one]).all()) for one in names if one in result):
        return "passed on"
    same = all(torch.equal(result[one], cohort.form.current[one]) for one in names if one in result)
    return "refused" if same else "left out"


def empty(bench: Bench, cohort: Cohort) -> Literal["refused", "unchanged", "passed on", "untried"]:
    """What becomes of no uploads at all."""
    try:
        result = bench(Cohort(cohort.form, ()))
    except Ailing:
        return "refused"
    current = cohort.form.current
    same = result.keys() == current.keys() and all(torch.equal(result[name], current[name]) for name in current)
    return "unchanged" if same else "passed on"


def follows(bench: Bench, cohort: Cohort, result: State, ruler: Ruler) -> bool:
    """Whether the result does not depend on the order of uploads."""
    try:
        return order(bench, cohort, result, ruler) < 1e-3
    except Ailing:
        return False


def _norm(cohort: Cohort, names: Sequence[str]) -> float:
    upload: Upload = cohort.uploads[0]
    current = cohort.form.current
    total = 0.0
    for name in names:
        move = upload.state[name].double() - (current[name].double() if cohort.form.payload == "weights" else 0.0)
        total += float(move.square().sum())
    return math.sqrt(total)
