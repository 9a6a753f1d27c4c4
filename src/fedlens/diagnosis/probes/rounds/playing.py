"""The job's own rounds, played as its author's loop would, and everything about them that can be counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from fedlens.diagnosis.evidence import Exam, Facts, Paired, Round, Visit
from fedlens.diagnosis.examiner import Examiner, examined
from fedlens.diagnosis.job import State
from fedlens.diagnosis.probes.rounds.counting import Before, counted
from fedlens.diagnosis.probes.rounds.pairs import paired
from fedlens.diagnosis.probes.rounds.visits import Payload, Returned, after, visit
from fedlens.diagnosis.subject.guard import Ailing, guarded
from fedlens.diagnosis.subject.patient import Patient
from fedlens.diagnosis.watch import watching
from fedlens.errors import FedlensError

AHEAD = 200  # of the last rounds are asked whom they ask
EXAMPLES = 256  # of a client, or of the test set, that its own model is examined on
T = TypeVar("T")


@dataclass(frozen=True)
class Played:
    """What was seen of the rounds. `state`: the last model; `seconds_fit`: by round, inside the author's `fit`;
    `seconds_own`: by round, inside all functions of the author's; `seconds_rest`: watching, reading and counting (not
    examining models). `payload`: what uploads were found to be; `failure`: what ended the playing, or the reports of
    `evaluate`, early."""

    rounds: tuple[Round, ...]
    state: State
    seconds_fit: tuple[float, ...]
    seconds_own: tuple[float, ...]
    seconds_rest: float
    payload: Payload | None = None
    failure: Ailing | None = None


def examine_rounds(
    patient: Patient,
    facts: Facts,
    count: int,
    *,
    examiner: Examiner | None = None,
    watched: int = 2,
    each: Callable[[Round, State], None] | None = None,
) -> Played:
    """Play `count` rounds from `init`, the first `watched` with all that can be seen of training and
    of clients' models, the others with the little that is free. `each` is told every round and the model after it.

    A stage that fails ends the playing, and `failure` says so; `evaluate` that fails is only not called again. Raises
    Ailing where there is no first model.
    """
    playing = Playing(patient, facts, examiner, patient.init, facts.payload)
    playing.play(count, watched=watched, each=each)
    return playing.played


@dataclass
class Playing:
    """Rounds that are played up to some number, and further later. `broken`: there is no further, as a stage failed;
    `mute`: `evaluate` failed."""

    patient: Patient
    facts: Facts
    examiner: Examiner | None
    state: dict[str, Tensor]
    payload: Payload | None
    before: Before = field(default_factory=lambda: Before({}, {}))
    rounds: list[Round] = field(default_factory=list)
    seconds_fit: list[float] = field(default_factory=list)
    seconds_other: list[float] = field(default_factory=list)
    seconds_rest: float = 0.0
    failure: Ailing | None = None
    broken: bool = False
    mute: bool = False

    @property
    def played(self) -> Played:
        """What has been seen so far."""
        fit = tuple(self.seconds_fit)
        own = tuple(one + other for one, other in zip(fit, self.seconds_other, strict=False))
        return Played(tuple(self.rounds), self.state, fit, own, self.seconds_rest, self.payload, self.failure)

    def play(self, count: int, *, watched: int, each: Callable[[Round, State], None] | None = None) -> None:
        """Go on up to round `count`, as `examine_rounds` says."""
        for number in range(len(self.rounds) + 1, count + 1):
            if self.broken:
                break
            full = number <= watched
            try:
                round = self.round(number, full)
            except Ailing as failure:
                self.failure, self.broken = failure, True
                break
            if self.examiner is not None and (full or number == count):
                round = self.examined(round)
            self.rounds.append(round)
            if each is not None:
                each(round, self.state)

    def round(self, number: int, full: bool) -> Round:
        """One more. Raises Ailing where nothing of it can be told."""
        self.seconds_fit.append(0.0)
        self.seconds_other.append(0.0)
        with self._timed():
            asked = self.patient.sample(number)
        received = self.state
        returned = [back for client in asked if (back := self._visit(client, received, number, full)) is not None]
        new: dict[str, Tensor] | None = None
        try:
            with self._timed():
                new = self.patient.aggregate(received, [one.sent for one in returned], number)
        except Ailing as failure:
            self.failure, self.broken = failure, True
        began = time.perf_counter()
        blank = Round(number=number, asked=asked, visits=(), wanted=())
        told = counted(self.facts, self.payload, blank, received, returned, new, self.before, full=full)
        round, self.before, self.payload = told
        self.seconds_rest += time.perf_counter() - began
        if new is None:
            return round
        if self.examiner is not None and full:
            round = replace(round, **self._gains(self.examiner, round, received, returned, new))
        self.state = new
        return replace(round, reported=self._reported(number))

    def beside(self, clients: Sequence[int], received: State, seconds: float) -> tuple[Visit, ...]:
        """What there is to tell of `clients`, each visited once more with the model `received`, as in the last round
        that asks it, as long as `seconds` allow; visits that fail are left out. The rounds cannot be played on."""
        self.broken, began, returned = True, time.perf_counter(), list[Returned]()
        number, spent, last = len(self.rounds) + 1, list(self.seconds_fit), self._last_asked()
        for client in clients:
            with suppress(Ailing):
                back = self._visit(client, received, last.get(client, number), True)
                returned += [] if back is None else [back]
            if time.perf_counter() - began > seconds:
                break
        self.seconds_fit = spent
        blank = Round(number=number, asked=tuple(clients), visits=(), wanted=())
        counts = counted(self.facts, self.payload, blank, received, returned, None, Before({}, {}), full=True)
        if self.examiner is None or not returned:
            return counts.round.visits
        found: tuple[Visit, ...] = self._gains(self.examiner, counts.round, received, returned, received)["visits"]
        return found

    def _last_asked(self) -> dict[int, int]:
        """Client -> the last round to come that asks it; the very last one, whose rate may be 0, aside."""
        found: dict[int, int] = {}
        rounds = self.facts.rounds
        with suppress(Ailing):
            for number in range(max(len(self.rounds) + 1, rounds - AHEAD), rounds):
                found |= dict.fromkeys(self.patient.sample(number), number)
        return found

    def _visit(self, client: int, received: State, number: int, full: bool) -> Returned | None:
        began = time.perf_counter()
        back = visit(self.patient, client, received, number, watching(received, light=not full))
        if back is not None:
            self.seconds_fit[-1] += back.sent.seconds
            self.seconds_rest += time.perf_counter() - began - back.sent.seconds
        return back

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """What the author's functions other than `fit` take in this round."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds_other[-1] += time.perf_counter() - began

    def _gains(
        self, examiner: Examiner, round: Round, received: State, returned: Sequence[Returned], new: State
    ) -> dict[str, Any]:
        """What the clients' models and the next one are worth on clients' own data and a part of the test set."""
        clients = [one.client for one in returned]
        before, now = (self._losses(examiner, state, clients) for state in (received, new))
        visits, gains = [], []
        for told, one, first, last in zip(round.visits, returned, before, now, strict=True):
            own = after(received, one.sent.upload, self.payload or "weights")
            then = self._losses(examiner, own, [one.client])[0]
            gain = None if first is None or then is None else first - then
            right = _tried(self.patient, partial(_part, examiner, own))
            pairs = _tried(self.patient, partial(_pairs, examiner, one)) if one.pairs else None
            visits.append(replace(told, gain=gain, accuracy=right, paired=pairs))
            gains.append(None if first is None or last is None else first - last)
        known = [share * gain for share, gain in zip(round.wanted, gains, strict=True) if gain is not None]
        return {"visits": tuple(visits), "gain": sum(known) if known and len(known) == len(gains) else None}

    def _losses(self, examiner: Examiner, state: State, clients: Sequence[int]) -> list[float | None]:
        """The loss of `state` on the own examples of each of `clients`; None where the author's code fails in it."""
        if not _tried(self.patient, partial(_loaded, examiner, state)):
            return [None] * len(clients)
        return [_tried(self.patient, partial(examiner.client_loss, client, EXAMPLES)) for client in clients]

    def _reported(self, number: int) -> dict[str, float]:
        if self.mute:
            return {}
        try:
            with self._timed():
                return self.patient.evaluate(self.state, number)
        except Ailing as failure:
            self.mute, self.failure = True, self.failure or failure
            return {}

    def examined(self, round: Round) -> Round:
        """`round` with the doctor's examination of the model after it."""
        assert self.examiner is not None
        examiner, state = self.examiner, self.state
        exam: Exam | None = _tried(self.patient, partial(examiner.exam, state))
        batch: Exam | None = None
        if self.facts.of_kind("statistic") or any("BatchNorm" in kind for kind in self.facts.norms or {}):
            batch = _tried(self.patient, partial(examiner.exam, state, batch_statistics=True))
        return replace(round, exam=exam, exam_batch=batch)


def _tried(patient: Patient, call: Callable[[], T]) -> T | None:
    """What `call` gives, or None where the author's network or data fail in it."""
    try:
        with guarded("model", "examining a state", patient.patience):
            return call()
    except FedlensError:
        return None


def _pairs(examiner: Examiner, one: Returned) -> Paired | None:
    return paired(*examiner.patient.train_data(one.client), one.pairs)


def _loaded(examiner: Examiner, state: State) -> bool:
    examiner.load(state)
    return True


def _part(examiner: Examiner, state: State) -> float:
    kept = torch.linspace(0, len(examiner.labels) - 1, min(EXAMPLES, len(examiner.labels))).long()
    return examined(examiner.outputs(state, examiner.inputs[kept]), examiner.labels[kept]).accuracy
