"""A course of rounds, examined at some of them by the doctor's own evaluator: accuracies over rounds, and a score."""

from __future__ import annotations

import copy
import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedlens.diagnosis.evidence import Effect, Outcome
from fedlens.diagnosis.examiner import Examiner
from fedlens.errors import RunError
from fedlens.methods import fedavg
from fedlens.runs import Experiment, Federation, prepare
from fedlens.runs.federation import Lent
from fedlens.runs.loop import advance

LAST = 5  # evaluations in a score, at most
ALONE = "more than 1 value per channel"  # what batch norm says of a batch of one
Twin = Callable[[Federation], Federation]
Until = Callable[[Sequence[float]], bool]


class Course(NamedTuple):
    """Accuracies at some of `rounds` rounds, the last ones all; `finite`: it never left the finite numbers."""

    accuracies: tuple[float, ...]
    rounds: int
    finite: bool = True

    @property
    def last(self) -> tuple[float, ...]:
        """The evaluations that are averaged."""
        return self.accuracies[-in_score(self.rounds) :]

    @property
    def score(self) -> float:
        """Their mean."""
        return statistics.fmean(self.last)


def in_score(rounds: int) -> int:
    """How many of the last evaluations make a score."""
    return min(LAST, max(1, round(rounds / 3)))


def due(rounds: int) -> frozenset[int]:
    """The rounds, from 1, after which a course is examined: about eight, and all that make its score."""
    return frozenset(range(max(1, rounds // 8), rounds + 1, max(1, rounds // 8))) | frozenset(
        range(rounds - in_score(rounds) + 1, rounds + 1)
    )


def never(found: Sequence[float]) -> bool:
    """Go on to the end."""
    return False


@dataclass(frozen=True)
class Setup:
    """One federation of the doctor's for one seed. `twin` makes a counterfactual of it once it is prepared; `chance`:
    what a course that diverges is worth."""

    experiment: Experiment
    lent: Lent
    examiner: Examiner
    chance: float
    twin: Twin | None = None

    def with_(self, **changes: object) -> Setup:
        """With other parts of the experiment."""
        return dataclasses.replace(self, experiment=dataclasses.replace(self.experiment, **changes))  # type: ignore[arg-type]

    def on(self, module: nn.Module) -> Setup:
        """With another network in the author's place."""
        examiner = copy.copy(self.examiner)
        examiner.module = copy.deepcopy(module)
        return dataclasses.replace(self, lent=dataclasses.replace(self.lent, module=module), examiner=examiner)


def federation_of(setup: Setup) -> Federation:
    """The setup, prepared."""
    made = prepare(setup.experiment, setup.lent)
    return made if setup.twin is None else setup.twin(made)


def taught(federation: Federation, lent: Lent) -> Federation:
    """A pooled twin that keeps the author's loss."""
    method = dataclasses.replace(fedavg(), loss=lent.loss)
    trainer = dataclasses.replace(federation.engine.trainer, method=method)
    return dataclasses.replace(federation, engine=dataclasses.replace(federation.engine, trainer=trainer))


def run(setup: Setup, until: Until = never) -> Course:
    """The course of a setup, to the end or `until` its accuracies so far are enough. Raises ConfigurationError where it
    cannot be run at all.

    Authors leave out batches of one, in which batch norm finds nothing to normalise by: there it then uses its running
    statistics.
    """
    try:
        return _run(setup, until)
    except RunError as error:
        if ALONE not in str(error):
            raise
        return _run(setup.on(spared(setup.lent.module)), until)


def _run(setup: Setup, until: Until) -> Course:
    federation, found = federation_of(setup), list[float]()
    rounds = federation.plan.rounds
    wanted = due(rounds)
    try:
        for state in advance(federation):
            if state.round in wanted:
                if not bool(torch.isfinite(state.tree.vector).all()):
                    return diverged(found, rounds, setup.chance)
                found.append(setup.examiner.exam(state.tree.state_dict()).accuracy)
                if until(found):
                    rounds = state.round
                    break
    except RunError as error:
        if error.problems[0].what == "local training failed":
            raise
        return diverged(found, rounds, setup.chance)
    return Course(tuple(found), rounds)


def spared(module: nn.Module) -> nn.Module:
    """A copy of `module` whose batch norm takes a batch of one by its running statistics."""
    copied = copy.deepcopy(module)
    for part in copied.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats:
            part.register_forward_pre_hook(_before_one)
            part.register_forward_hook(_after_one, always_call=True)
    return copied


def _before_one(part: nn.Module, given: tuple[Tensor, ...]) -> None:
    if part.training and given[0].numel() == given[0].shape[1]:
        part.training, part.alone = False, True  # type: ignore[assignment]


def _after_one(part: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
    if getattr(part, "alone", False):
        part.training, part.alone = True, False  # type: ignore[assignment]


def diverged(found: Sequence[float], rounds: int, chance: float) -> Course:
    """A course that left the finite numbers: from there on worth what a constant answer is."""
    missing = len(due(rounds)) - len(found)
    return Course((*found, *[chance] * missing), rounds, finite=False)


def outcome(courses: Sequence[Course], cost: float) -> Outcome:
    """Courses of several seeds as one outcome."""
    values = tuple(course.score for course in courses)
    curve = tuple(statistics.fmean(column) for column in zip(*(c.accuracies for c in courses), strict=True))
    return Outcome(values, courses[0].rounds, cost, all(course.finite for course in courses), curve)


def effect(changed: Sequence[Course], plain: Sequence[Course], tested: int) -> Effect:
    """What a change gained, paired by seed. With one seed the error is the evaluation's own, and the last rounds'."""
    gains = [one.score - other.score for one, other in zip(changed, plain, strict=False)]
    n = len(gains)
    wobble = sum(_squared_error(one) + _squared_error(other) for one, other in zip(changed, plain, strict=False)) / n**2
    if n > 1:
        return Effect(statistics.fmean(gains), math.sqrt(max(statistics.variance(gains) / n, wobble)), n)
    counting = sum(binomial(one.score, tested) ** 2 for one in (changed[0], plain[0]))
    return Effect(gains[0], math.sqrt(counting + wobble), 1)


def binomial(accuracy: float, tested: int) -> float:
    """The standard error of an accuracy on `tested` examples."""
    return math.sqrt(max(accuracy * (1 - accuracy), 0.0) / max(1, tested))


def _squared_error(course: Course) -> float:
    """Of the mean of the last evaluations, by how they differ from each other."""
    last = course.last
    return statistics.variance(last) / len(last) if len(last) > 1 else 0.0
