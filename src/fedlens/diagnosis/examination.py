"""An examination under way: what is known so far, what each part took and what could not be examined."""

from __future__ import annotations

import math
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from fedlens.diagnosis.evidence import Effect, Evidence, Outcome, Trials, Unexamined
from fedlens.diagnosis.examiner import Examiner
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.job import State
from fedlens.diagnosis.origins.examine import examine_origins
from fedlens.diagnosis.probes.rounds import Played, Playing
from fedlens.diagnosis.signs import read
from fedlens.diagnosis.signs.places import OF_DATA
from fedlens.diagnosis.subject.patient import Patient, Subject
from fedlens.diagnosis.trials import Ran
from fedlens.diagnosis.verdict.judgement import breaks
from fedlens.errors import FedlensError

SHARE, KNOWN = 0.2, 0.15  # of its rounds that the job is run for; and where something exact is broken already
LEAST, MOST = 6, 30  # rounds
FEW = 5  # rounds at least where something exact is broken
OF_INPUTS = ("D2", "D3")  # of all clients; who alone prepares inputs otherwise is left out of what labels are judged by
WATCHED = 2  # the first rounds, of which all is seen

Told = Callable[[str], None]


@dataclass
class Examination:
    """One examination under way. `seconds` of each stage; `known`: seconds until each cause was sure; `last_read`:
    the evidence that the signs were last shown, and what they said of it."""

    subject: Subject
    tell: Told
    evidence: Evidence
    began: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)
    known: dict[str, float] = field(default_factory=dict)
    played: Played | None = None
    models: list[tuple[int, State]] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    ran: Ran = field(default_factory=Ran)
    last_read: tuple[Evidence, list[Finding]] | None = None

    @cached_property
    def patient(self) -> Patient:
        """The job that is played; other parts of the examination have their own."""
        return self.subject.fresh()

    @cached_property
    def playing(self) -> Playing:
        """The rounds of the job that is played. Raises Ailing where it has no first model."""
        return Playing(self.patient, self.evidence.facts, self.examiner, self.patient.init, self.evidence.facts.payload)

    @cached_property
    def length(self) -> int:
        """Rounds that the job is run for, by what is known when that is first asked."""
        rounds, (share, least) = self.evidence.facts.rounds, (KNOWN, FEW) if self.explained else (SHARE, LEAST)
        return min(rounds, max(least, min(MOST, math.ceil(share * rounds))))

    @property
    def exact(self) -> bool:
        """Whether something exact is broken, by what is known so far."""
        return any(breaks(one) for one in self.findings())

    @property
    def explained(self) -> bool:
        """Whether something exact is broken that training can suffer from: a wrong evaluation is none."""
        return any(breaks(one) and not one.cause.startswith("E") for one in self.findings())

    @property
    def examples_are_broken(self) -> bool:
        """Whether inputs or labels are exactly wrong already: what labels mean beside that cannot be told from it."""
        return any(breaks(one) and (one.cause[0] == "L" or one.cause in OF_INPUTS) for one in self.findings())

    @property
    def some_data_are_odd(self) -> bool:
        """Whether something is wrong with the data of some clients, by what is known so far."""
        return any(one.clients and one.certainty and one.cause in OF_DATA for one in self.findings())

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
        """What one whole training run of the job takes, its own evaluations with it, by the rounds that were played:
        those in which little was watched, unless the job broke down, after which its rounds may be short."""
        if self.played is None or not self.played.rounds:
            return None
        rounds, seconds = self.played.rounds, self.played.seconds_own[: len(self.played.rounds)]
        sound = all(one.finite for one in rounds)
        return statistics.fmean((sound and seconds[WATCHED:]) or seconds) * self.evidence.facts.rounds

    def learn(self, **sections: Any) -> None:
        """Add what a stage measured."""
        self.evidence = replace(self.evidence, **sections)
        for one in self.findings():
            if one.certainty >= Certainty.SUPPORTED:
                self.known.setdefault(one.cause, time.perf_counter() - self.began)

    def findings(self) -> list[Finding]:
        """What all signs say of the evidence so far."""
        if self.last_read is None or self.last_read[0] is not self.evidence:
            found, failed = read(self.evidence)
            for one in failed:
                if one not in self.evidence.unexamined:
                    self.missed(*one)
            self.last_read = self.evidence, found
        return self.last_read[1]

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
    x = Examination(subject, tell, Evidence(facts=patient.facts()))
    if subject.trace is not None:
        with x.part("where the job's code stands"):
            origins, where = examine_origins(patient, subject.trace, x.evidence.facts)
            x.learn(origins=origins, facts=replace(x.evidence.facts, where={**x.evidence.facts.where, **where}))
    return x


def merged(known: Trials | None, more: Trials) -> Trials:
    """`known` trials with what `more` adds."""
    if known is None:
        return more
    fresh = {name: value for name, value in vars(more).items() if value not in (None, {}, 0.0)}
    knobs: Mapping[str, Outcome] = {**known.knobs, **more.knobs}
    effects: Mapping[str, Effect] = {**known.effects, **more.effects}
    notes = tuple(dict.fromkeys((*known.notes, *more.notes)))
    return replace(known, **{**fresh, "knobs": knobs, "effects": effects, "notes": notes})
