"""Courses of the job, of the job treated and of the doctor's reference, with the health of the models they end in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fedlens.diagnosis.evidence import Exam, Outcome
from fedlens.diagnosis.examiner import Examiner
from fedlens.diagnosis.job import State
from fedlens.diagnosis.repair.health import Health, health
from fedlens.diagnosis.subject.patient import Patient, Sent
from fedlens.diagnosis.trials.case import NOTHING, Case, Correction
from fedlens.diagnosis.trials.course import Course, Setup, outcome, run
from fedlens.diagnosis.trials.lend import Change, tested_on_few
from fedlens.diagnosis.trials.own import Make, outcome_of
from fedlens.diagnosis.trials.parts import Parts
from fedlens.diagnosis.trials.trials import reference_setup

Turned = Callable[[Setup], Setup | None]


class Played(NamedTuple):
    """What some seeds came to, and the health of each seed's last model; () where that was not measured."""

    outcome: Outcome
    health: tuple[Health, ...] = ()

    def with_(self, more: Played) -> Played:
        """These seeds and those of `more`."""
        one, other = self.outcome, more.outcome
        curve = tuple((a + b) / 2 for a, b in zip(one.curve, other.curve, strict=False))
        both, finite = one.values + other.values, one.finite and other.finite
        known = self.health and more.health
        return Played(
            Outcome(both, one.rounds, one.cost + other.cost, finite, curve), self.health + more.health if known else ()
        )


def played(case: Case, make: Make, rounds: int, seeds: Sequence[int], change: Change | None = None) -> Played:
    """The parts that `make` makes of a fresh job; `change` corrects the data that clients are examined on."""
    last: dict[int, State] = {}
    found = outcome_of(case.subject, case.facts, _kept(make, last), rounds, seeds)
    return Played(found, tuple(health(tested_on_few(case.subject.fresh(seed)), last[seed], change) for seed in seeds))


def referred(case: Case, rounds: int, seeds: Sequence[int], turn: Turned, put_right: Correction = NOTHING) -> Played:
    """The doctor's reference, turned."""
    courses: list[Course] = []
    told: list[Health] = []
    for seed in seeds:
        ward = put_right.admit(case.subject.fresh(seed))
        setup, _ = reference_setup(ward, case.facts, put_right.assumed or case.settings, rounds, seed)
        setup = turn(setup) or setup
        examiner = _Remembering(setup.examiner)
        courses.append(run(dataclasses.replace(setup, examiner=examiner)))
        told.append(health(setup.examiner, examiner.last if courses[-1].finite else {}, put_right.change))
    share = len(seeds) * rounds / max(1, case.facts.rounds)
    return Played(outcome(courses, share), tuple(told))


def _kept(make: Make, last: dict[int, State]) -> Make:
    """The same parts, whose newest model is in `last`, by seed."""

    def made(patient: Patient, seed: int) -> Parts:
        parts = make(patient, seed)

        def aggregate(current: State, sent: Sequence[Sent], round: int) -> State:
            last[seed] = parts.aggregate(current, sent, round)
            return last[seed]

        return dataclasses.replace(parts, aggregate=aggregate)

    return made


class _Remembering(Examiner):
    """An examiner that keeps the model that it examined last."""

    def __init__(self, of: Examiner) -> None:
        self.__dict__.update(vars(of))
        self.last: State = {}

    def exam(self, state: State, *, batch_statistics: bool = False) -> Exam:
        """As any other."""
        self.last = state
        return super().exam(state, batch_statistics=batch_statistics)
