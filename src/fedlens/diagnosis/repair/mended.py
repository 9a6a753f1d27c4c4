"""A job whose faulty part is replaced, as a job: it can be examined and treated like any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn

from fedlens.diagnosis.examiner import Examiner
from fedlens.diagnosis.job import OPTIONAL, Declared, State
from fedlens.diagnosis.repair.remedies import REMEDIES
from fedlens.diagnosis.repair.sending import fraction
from fedlens.diagnosis.repair.starting import first_model
from fedlens.diagnosis.subject.forms import read_state, read_upload
from fedlens.diagnosis.subject.patient import Sent, Subject
from fedlens.diagnosis.trials.case import NOTHING, Case, Correction
from fedlens.diagnosis.trials.cures import ADAM, MOMENTUM
from fedlens.diagnosis.trials.lend import tested_on_few
from fedlens.diagnosis.trials.own import Make
from fedlens.diagnosis.trials.parts import authors

UNBOUNDED = ("no-clip", "clip", "noise")  # treatments of what the job declares of its privacy


class MendedJob:
    """A fresh job of the author's with one cure: whatever the cure leaves alone is the author's own function.

    `put_right`: what of its data and loss is corrected, for what looks at these; `metric`: the reported number that the
    doctor's own evaluation takes the place of, "" where none does. A copy is made anew.
    """

    def __init__(self, case: Case, make: Make, put_right: Correction, seed: int, metric: str = "") -> None:
        self.given = (case, make, put_right, seed, metric)
        self.patient = case.subject.fresh(seed)
        own, anew = authors(self.patient), case.finding.treatment == "fresh-start"
        self.parts = own if anew else make(self.patient, seed)  # who is given the new first model needs nothing else
        self.without = frozenset(case.finding.clients if case.finding.treatment == "drop-clients" else ())
        self.whom = [client for client in range(self.patient.clients) if client not in self.without]
        self.clients, self.rounds = len(self.whom), self.patient.rounds
        self.cohort, self.classes = min(self.patient.cohort, self.clients), self.patient.classes
        self.declared = declared(case, put_right)
        job, same = self.patient.job, not self.without
        # Partial functions have no line of their own: nothing found in the doctor's parts is told as the author's.
        self.init: Any = partial(self._first_model, seed) if anew else job.init
        self.sample: Any = job.sample if same and self.parts.sample == own.sample else partial(self._sample)
        self.fit: Any = job.fit if same and self.parts.fit == own.fit else partial(self._fit)
        self.aggregate: Any = job.aggregate if self.parts.aggregate == own.aggregate else partial(self._aggregate)
        self.evaluate: Any = partial(self._evaluate, metric) if metric else job.evaluate
        for name in OPTIONAL:
            setattr(self, name, getattr(job, name, None) if self.patient.offers(name) and name != "log" else None)
        if put_right.cross_entropy and self.patient.offers("loss"):
            self.loss: Any = partial(nn.functional.cross_entropy)
        if self.patient.offers("train_data") and (put_right.change is not None or self.without):
            self.train_data: Any = partial(self._train_data, put_right)

    def __deepcopy__(self, memo: object) -> MendedJob:
        return MendedJob(*self.given)

    def _first_model(self, seed: int) -> Any:
        return self.patient.written(first_model(self.patient, seed))

    def _sample(self, round: int) -> list[int]:
        return [self.whom.index(client) for client in self.parts.sample(round) if client not in self.without]

    def _fit(self, client: int, received: Any, round: int) -> Any:
        return self.parts.fit(self.whom[client], read_state(received, self.patient.names), round).raw

    def _aggregate(self, current: Any, uploads: Sequence[Any], round: int) -> Any:
        names = self.patient.names
        sent = [Sent(read_upload(raw, names).upload, raw, 0.0) for raw in uploads]
        state: State = read_state(current, names)
        return self.patient.written(self.parts.aggregate(state, sent, round))

    def _evaluate(self, metric: str, state: Any, round: int) -> Mapping[str, float]:
        return {metric: self._examiner.exam(read_state(state, self.patient.names)).accuracy}

    @cached_property
    def _examiner(self) -> Examiner:
        """Of another fresh job: loading models must not touch the one that is played."""
        case, _, _, seed, _ = self.given
        return tested_on_few(case.subject.fresh(seed))

    def _train_data(self, put_right: Correction, client: int) -> tuple[Tensor, Tensor]:
        inputs, labels = self.patient.train_data(self.whom[client])
        return (inputs, labels) if put_right.change is None else put_right.change(self.whom[client], inputs, labels)


def mended(case: Case, metric: str = "") -> Subject | None:
    """The job with the finding's cure; None where the cure is no part of the job, or lacks evidence."""
    name = case.finding.treatment.partition("=")[0]
    make: Make | None = (lambda patient, seed: authors(patient)) if metric else None
    put_right: Correction | None = NOTHING
    if name in REMEDIES:
        cure = REMEDIES[name]
        make = cure.make(case)
        put_right = NOTHING if cure.put_right is None or name == "drop-clients" else cure.put_right(case)
    if make is None or put_right is None:
        return None
    made: Callable[..., MendedJob] = partial(_made, case, make, put_right, metric)
    return Subject(made, case.subject.name, case.subject.patience)


def _made(case: Case, make: Make, put_right: Correction, metric: str, seed: int = 0) -> MendedJob:
    return MendedJob(case, make, put_right, seed, metric)


def declared(case: Case, put_right: Correction) -> Declared:
    """What the mended job says of itself: as the author's, with what the cure sets otherwise."""
    said, (name, _, value) = case.facts.declared, case.finding.treatment.partition("=")
    if put_right.assumed is not None:
        said = dataclasses.replace(said, lr=put_right.assumed.local.lr)
    if name in UNBOUNDED:
        clip = 0.0 if name == "no-clip" or value in ("", "median") else float(value) if name == "clip" else None
        bound = said.dp.get("clip", 0.0) if clip is None else clip
        noise = float(value) if name == "noise" else said.dp.get("noise", 0.0)
        given = {"clip": bound, "noise": noise}
        rule = "median-clipped" if name == "clip" and not bound else said.reduce
        said = dataclasses.replace(said, dp={key: one for key, one in given.items() if one}, reduce=rule)
    if name == "server-momentum":
        beta, _, rate = value.partition(",")
        said = dataclasses.replace(said, server_momentum=float(beta or MOMENTUM), server_lr=float(rate or 1.0))
    if name == "fedadam":
        said = dataclasses.replace(said, server_optimizer="adam", server_lr=float(value or ADAM))
    if name == "feedback":
        said = dataclasses.replace(said, codec=said.codec or "topk", stateful=True)
    if name == "bytes":
        said = dataclasses.replace(said, codec=f"topk:{fraction(case) or 1:g}", stateful=True)
    return said
