"""A remedy for wrong numbers: the doctor's evaluation in the place of the author's."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedlens.diagnosis.evidence import Outcome
from fedlens.diagnosis.job import State
from fedlens.diagnosis.repair.proof import gain
from fedlens.diagnosis.repair.treated import Treated, percent
from fedlens.diagnosis.subject.patient import Patient
from fedlens.diagnosis.trials.case import Case
from fedlens.diagnosis.trials.course import binomial
from fedlens.diagnosis.trials.lend import tested_on_few
from fedlens.diagnosis.trials.parts import authors


def reported(case: Case, rounds: int, seeds: Sequence[int]) -> Treated | None:
    """The doctor's evaluation in the author's place: the model stays what it is, the number told of it does not."""
    told, measured, tested, key = [], [], 1, ""
    for seed in seeds:
        patient = case.subject.fresh(seed)
        examiner = tested_on_few(case.subject.fresh(seed))
        state = _last_state(patient, rounds)
        said = patient.evaluate(state, rounds)
        key = _metric(case, said)
        if not key or not math.isfinite(said[key]):
            return None
        told.append(said[key])
        measured.append(examiner.exam(state).accuracy)
        tested = len(examiner.labels)
    share = len(seeds) * rounds / max(1, case.facts.rounds)
    before, after = Outcome(tuple(told), rounds, share), Outcome(tuple(measured), rounds, share)
    found = gain(told, measured)
    wrong = max(abs(a - b) / max(binomial(b, tested), 1e-9) for a, b in zip(told, measured, strict=True))
    says = (
        f"'{key}' was {before.mean:.4g} where the model's accuracy on {tested} test examples is "
        f"{percent(after.mean)} +- {percent(binomial(after.mean, tested))}; the model itself does not change."
    )
    return Treated(
        finding=case.finding,
        before=before,
        after=after,
        reference=after.mean,
        against="the doctor's evaluation",
        recovered=math.nan,
        interval=(found.low, found.high),
        verified=wrong > 2,
        says=says,
        change="the model is examined on all test examples, in evaluation mode",
    )


def _last_state(patient: Patient, rounds: int) -> State:
    parts = authors(patient)
    state: State = patient.init
    for number in range(1, rounds + 1):
        sent = [parts.fit(client, state, number) for client in parts.sample(number)]
        state = parts.aggregate(state, sent, number)
        patient.evaluate(state, number)
    return state


def metric_of(case: Case) -> str:
    """The reported accuracy's name, "" where nothing is reported."""
    patient = case.subject.fresh()
    return _metric(case, patient.evaluate(patient.init, 1))


def _metric(case: Case, reported: dict[str, float]) -> str:
    """The reported accuracy."""
    known = "" if case.evidence.evaluating is None else case.evidence.evaluating.metric
    if known in reported:
        return known
    return next((name for name in reported if "acc" in name.lower()), "")
