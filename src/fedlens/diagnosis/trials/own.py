"""Courses of the author's own code, whole, and with either half replaced by the doctor's (M35)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from fedlens.diagnosis.evidence import Facts, Outcome
from fedlens.diagnosis.subject.patient import Patient, Sent, Subject
from fedlens.diagnosis.trials.client import Client
from fedlens.diagnosis.trials.course import Course, outcome
from fedlens.diagnosis.trials.lend import admit, chance_of, tested_on_few
from fedlens.diagnosis.trials.parts import Mean, Parts, authors, course
from fedlens.diagnosis.trials.settings import Assumed
from fedlens.errors import FedlensError

Make = Callable[[Patient, int], Parts]


def run_job(subject: Subject, facts: Facts, length: int, seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """The author's own code for `length` rounds, examined by the doctor. Raises Ailing where it fails."""
    return outcome_of(subject, facts, lambda patient, seed: authors(patient), length, seeds)


def own_parts(
    subject: Subject,
    facts: Facts,
    length: int,
    settings: Assumed,
    seeds: Sequence[int] = (0, 1, 2),
    sure: Callable[[Outcome], bool] = lambda found: False,
) -> tuple[Outcome | None, Outcome | None]:
    """The author's clients with the doctor's aggregator, and the doctor's clients with the author's aggregator, over
    the `seeds`, or as many of them as make the doctor `sure` of each.

    None where it could not be run; the first failure is raised where neither could.
    """
    found: list[Outcome | None] = []
    failures: list[FedlensError] = []
    for make in (own_clients(facts), own_server(subject, facts, settings)):
        try:
            found.append(_in_turn(subject, facts, make, length, seeds, sure))
        except FedlensError as error:
            failures.append(error)
            found.append(None)
    if len(failures) == len(found):
        raise failures[0]
    return found[0], found[1]


def _in_turn(
    subject: Subject, facts: Facts, make: Make, length: int, seeds: Sequence[int], sure: Callable[[Outcome], bool]
) -> Outcome:
    """One seed after the other, until one is `sure`."""
    done: list[Course] = []
    for seed in seeds:
        done += courses(subject, make, length, (seed,))
        known = outcome(done, len(done) * length / max(1, facts.rounds))
        if sure(known):
            break
    return known


def own_clients(facts: Facts) -> Make:
    """The author's sampling and clients, the doctor's weighted mean."""
    return lambda patient, seed: dataclasses.replace(authors(patient), aggregate=Mean.declared(facts))


def own_server(subject: Subject, facts: Facts, settings: Assumed) -> Make:
    """The author's sampling and aggregator, the doctor's clients."""

    def make(patient: Patient, seed: int) -> Parts:
        ward = admit(subject.fresh(seed))
        return dataclasses.replace(
            authors(patient), fit=Client(ward, facts, settings, first_upload(ward.patient), seed)
        )

    return make


def first_upload(patient: Patient) -> Sent:
    """An upload of a job that is not played any further: it shows the author's form."""
    asked = patient.sample(1)
    return patient.fit(asked[0] if asked else 0, patient.init, 1)


def courses(subject: Subject, make: Make, length: int, seeds: Sequence[int]) -> list[Course]:
    """The course of the parts that `make` makes of a fresh job, for each seed."""
    found = []
    for seed in seeds:
        examiner = tested_on_few(subject.fresh(seed))  # of another one: loading models must not touch the played job
        patient = subject.fresh(seed)
        parts = make(patient, seed)
        found.append(course(parts, patient.init, examiner, length, chance_of(examiner)))
    return found


def outcome_of(subject: Subject, facts: Facts, make: Make, length: int, seeds: Sequence[int]) -> Outcome:
    """The courses of those parts as one outcome."""
    share = len(seeds) * length / max(1, facts.rounds)
    return outcome(courses(subject, make, length, seeds), share)
