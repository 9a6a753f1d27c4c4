"""The order of the examination: the cheapest first, each part from a fresh job, each allowed to fail alone."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedlens.diagnosis.evidence import Effect, Evidence, Outcome, Round, Trials, Unexamined
from fedlens.diagnosis.examiner import Examiner
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.forensics import examine_log, read_log
from fedlens.diagnosis.job import State
from fedlens.diagnosis.probes.aggregation import examine_aggregation
from fedlens.diagnosis.probes.data import examine_data
from fedlens.diagnosis.probes.evaluating import examine_evaluating
from fedlens.diagnosis.probes.handling import examine_handling
from fedlens.diagnosis.probes.labels import examine_labels
from fedlens.diagnosis.probes.learning import examine_learning
from fedlens.diagnosis.probes.participation import examine_participation
from fedlens.diagnosis.probes.rounds import Played, examine_rounds
from fedlens.diagnosis.signs import read
from fedlens.diagnosis.subject.patient import Patient, Subject
from fedlens.diagnosis.trials import Ran
from fedlens.diagnosis.verdict.judgement import breaks
from fedlens.errors import FedlensError

SHARE, KNOWN = 0.25, 0.15  # of its rounds that the job is run for; and where something exact is broken already
LEAST, MOST = 6, 30  # rounds
LAST = 5  # evaluations whose mean is a run's score

Told = Callable[[str], None]


@dataclass
class Examination:
    """One examination under way. `seconds` of each stage; `first`: seconds until the first exact suspect was known."""

    subject: Subject
    tell: Told
    evidence: Evidence
    began: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)
    first: float | None = None
    played: Played | None = None
    models: list[tuple[int, State]] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    ran: Ran = field(default_factory=Ran)

    @cached_property
    def patient(self) -> Patient:
        """The job that is played; other parts of the examination have their own."""
        return self.subject.fresh()

    @cached_property
    def length(self) -> int:
        """Rounds that the job is run for."""
        rounds = self.evidence.facts.rounds
        return min(rounds, max(LEAST, min(MOST, math.ceil((KNOWN if self.exact else SHARE) * rounds))))

    @property
    def exact(self) -> bool:
        """Whether something exact is broken, by what is known so far."""
        return any(breaks(one) for one in self.findings())

    @cached_property
    def examiner(self) -> Examiner | None:
        """The doctor's own evaluator, where the job has a network and test data."""
        if not {"model", "test_data"} <= self.evidence.facts.offers:
            return None
        with self.part("the doctor's own evaluation"):
            return Examiner(self.subject.fresh())  # not the one that is played: an author's generator may be shared
        return None

    @property
    def run_seconds(self) -> float | None:
        """What one whole training run of the job takes, by the rounds that were played."""
        if self.played is None or not self.played.rounds:
            return None
        return self.played.seconds_fit / len(self.played.rounds) * self.evidence.facts.rounds

    def learn(self, **sections: Any) -> None:
        """Add what a stage measured."""
        self.evidence = replace(self.evidence, **sections)
        if self.first is None and any(one.certainty >= Certainty.SUPPORTED for one in self.findings()):
            self.first = time.perf_counter() - self.began

    def findings(self) -> list[Finding]:
        """What all signs say of the evidence so far."""
        found, failed = read(self.evidence)
        for one in failed:
            if one not in self.evidence.unexamined:
                self.missed(*one)
        return found

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part of the examination; when it fails, the page says so and the examination goes on."""
        self.tell(name)
        began = time.perf_counter()
        try:
            yield
        except FedlensError as error:
            self.missed(name, " ".join(str(error).split()))
        except Exception as error:  # data that nobody thought of must not cost the rest of the examination
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self.missed(name, f"{type(error).__name__}: {error} ({frame.filename.rpartition('/')[2]}:{frame.lineno})")
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def missed(self, what: str, why: str) -> None:
        """Say that `what` was not examined."""
        self.evidence = replace(self.evidence, unexamined=(*self.evidence.unexamined, Unexamined(what, why)))


def begun(subject: Subject, tell: Told) -> Examination:
    """An examination of `subject`. Raises ConfigurationError or Ailing where there is nothing to examine."""
    patient = subject.fresh()
    # The first optimiser loads PyTorch's compiler, for two seconds that every training run pays too.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    return Examination(subject, tell, Evidence(facts=patient.facts()))


def without_training(x: Examination) -> None:
    """All that needs hardly a visit: the log, who is asked, the aggregator, how clients and states are handled."""
    facts = x.evidence.facts
    with x.part("participation"):
        x.learn(participation=examine_participation(x.subject, facts))
    with x.part("the aggregator"):
        x.learn(aggregation=examine_aggregation(x.subject, facts))
    with x.part("how clients and states are handled"):
        x.learn(handling=examine_handling(x.subject, facts))


def some_rounds(x: Examination) -> None:
    """The job's own rounds, watched."""
    facts = x.evidence.facts

    def each(round: Round, state: State) -> None:
        kept = {name: value.clone() for name, value in state.items()}
        if round.number in (1, 2, x.length // 2, x.length):
            x.models.append((round.number, kept))
        if x.examiner is not None:
            x.curve.append(x.examiner.exam(kept).accuracy)

    with x.part("rounds of the job"):
        x.played = examine_rounds(x.patient, facts, x.length, examiner=x.examiner, each=each)
        x.learn(rounds=x.played.rounds, facts=replace(facts, payload=x.played.payload or facts.payload))
        if x.played.failure is not None:
            x.missed(f"rounds after {len(x.played.rounds)}", " ".join(str(x.played.failure).split()))


def with_models(x: Examination) -> None:
    """What needs to know how the job trains and what it reports."""
    facts, offers = x.evidence.facts, x.evidence.facts.offers
    if {"model", "train_data"} <= offers:
        with x.part("the network and its loss"):
            x.learn(learning=examine_learning(x.subject, facts, rate(x.evidence), optimizer(x.evidence)))
    if x.models:
        with x.part("what is reported"):
            numbers = {number for number, _ in x.models}
            told = [round.reported for round in x.evidence.rounds if round.number in numbers]
            x.learn(evaluating=examine_evaluating(x.subject, facts, x.examiner, x.models, reported=told))
    lacking = [name for name in ("model", "loss", "train_data", "test_data") if name not in offers]
    if lacking:
        x.missed("what needs the job's " + ", ".join(lacking), "the job does not offer it (see fedlens.Job)")


def data_and_log(x: Examination) -> None:
    """The clients' examples and, where nothing exact is broken yet, what their labels mean; and what was printed."""
    facts, offers = x.evidence.facts, x.evidence.facts.offers
    if "train_data" in offers:
        with x.part("the clients' data"), threadpool_limits(1):  # on a busy machine their threads wait for each other
            x.learn(data=examine_data(x.subject, facts))
    if x.evidence.data is not None:
        held = {client: [c for c, n in enumerate(row) if n] for client, row in x.evidence.data.counts.items()}
        with x.part("classes that are never seen"):
            x.learn(participation=examine_participation(x.subject, facts, held))
        if not x.exact:
            with x.part("the labels"), threadpool_limits(1):
                x.learn(labels=examine_labels(x.subject, facts, x.evidence.data))
    if "log" in offers:
        with x.part("the log"):
            rows, said = read_log(x.patient.job.log), facts.declared.test_size
            size = said if said is not None or x.evidence.data is None else x.evidence.data.test_size
            values, printed = [row.value for row in rows], [row.printed for row in rows]
            x.learn(log=examine_log(values, printed=printed, claimed=size, classes=facts.classes))


def rate(e: Evidence) -> float | None:
    """The local rate, as first measured, else as declared."""
    seen = [visit.watched.rates[0] for round in e.rounds for visit in round.visits if visit.watched.rates]
    return seen[0] if seen else e.facts.declared.lr


def optimizer(e: Evidence) -> str | None:
    """The local optimiser, as first measured, else as declared."""
    seen = [visit.watched.optimizer for round in e.rounds for visit in round.visits if visit.watched.optimizer]
    return seen[0] if seen else e.facts.declared.optimizer


def score(curve: Sequence[float]) -> float:
    """The mean of the last evaluations."""
    last = [value for value in curve[-LAST:] if math.isfinite(value)]
    return sum(last) / len(last) if last else math.nan


def merged(known: Trials | None, more: Trials) -> Trials:
    """`known` trials with what `more` adds."""
    if known is None:
        return more
    fresh = {name: value for name, value in vars(more).items() if value not in (None, {}, 0.0)}
    knobs: Mapping[str, Outcome] = {**known.knobs, **more.knobs}
    effects: Mapping[str, Effect] = {**known.effects, **more.effects}
    notes = tuple(dict.fromkeys((*known.notes, *more.notes)))
    return replace(known, **{**fresh, "knobs": knobs, "effects": effects, "notes": notes})
