"""The reference of a job and its counterfactuals, cheapest first, within a budget of seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedlens.diagnosis.evidence import Effect, Facts, Outcome, Round, Trials
from fedlens.diagnosis.job import Declared
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.trials.course import Course, Setup, binomial, effect, federation_of, outcome, run
from fedlens.diagnosis.trials.declared import buffers_of, experiment, understood
from fedlens.diagnosis.trials.knobs import KNOBS, at_rate
from fedlens.diagnosis.trials.lend import Ward, admit
from fedlens.diagnosis.trials.rates import best_rate
from fedlens.diagnosis.trials.settings import Assumed, reference_settings
from fedlens.errors import ConfigurationError, FedlensError

LADDER = "best-rate"  # among the wanted: a search over rates
LADDER_COST = 6.0  # in courses of the reference: a short run for each rung, the best few at length
POOLED = ("pooled-samples", "pooled-depth", "pooled-wall", "pooled-best-rate")


def run_trials(
    subject: Subject,
    facts: Facts,
    rounds: Sequence[Round],
    *,
    wanted: Sequence[str],
    length: int,
    seeds: Sequence[int] = (0, 1, 2),
    budget: float,
    ran: Ran | None = None,
) -> Trials:
    """The reference for `length` rounds, and those of the `wanted` knobs (KNOBS, "best-rate") that `budget` seconds
    allow. Where they do not allow all seeds, fewer are taken.

    Raises ConfigurationError where the job lends no data or network, Ailing where its code fails.
    """
    unknown = [name for name in wanted if name not in KNOBS and name != LADDER]
    if unknown:
        raise ConfigurationError("no such trial", where="trials", seen=", ".join(unknown), do=", ".join(KNOBS))
    assumed = reference_settings(facts, rounds)
    bench = _Bench(subject, facts, assumed, length, tuple(seeds), time.monotonic() + budget, ran or Ran())
    bench.refer(wanted)
    for name in sorted(wanted, key=bench.cost):
        bench.attempt(name)
    return bench.trials()


def reference_setup(ward: Ward, facts: Facts, assumed: Assumed, rounds: int, seed: int) -> tuple[Setup, Sequence[str]]:
    """The reference of a job for one seed, and notes on what it leaves out of the declaration."""
    said, lent, cohort = facts.declared, ward.lent, facts.cohort
    take = understood(said, assumed.local, buffers=buffers_of(lent))
    notes = take.notes
    try:
        made = experiment(take, assumed.local, lent, cohort=cohort, rounds=rounds, seed=seed)
    except FedlensError as error:
        take = understood(Declared(weighting=said.weighting), assumed.local, buffers=False)
        notes = (*notes, f"plain FedAvg is the reference: {error.problems[0].what}")
        made = experiment(take, assumed.local, lent, cohort=cohort, rounds=rounds, seed=seed)
    return Setup(made, lent, ward.examiner, ward.chance), notes


@dataclass
class Ran:
    """Courses that were run for one job and length, by knob ("": the reference) and seed, so that none is run twice.
    `seconds`: of one course of the reference."""

    setups: dict[int, Setup] = field(default_factory=dict)
    courses: dict[tuple[str, int], Course] = field(default_factory=dict)
    seconds: float = 0.0
    tested: int = 1
    chance: float = 0.0


@dataclass
class _Bench:
    """What is run for one call. `ends`: when the budget is used up, on the monotonic clock."""

    subject: Subject
    facts: Facts
    assumed: Assumed
    length: int
    seeds: tuple[int, ...]
    ends: float
    ran: Ran
    plain: list[Course] = field(default_factory=list)
    knobs: dict[str, Outcome] = field(default_factory=dict)
    effects: dict[str, Effect] = field(default_factory=dict)
    rate: float | None = None
    notes: list[str] = field(default_factory=list)
    unrun: list[str] = field(default_factory=list)

    def refer(self, wanted: Sequence[str]) -> None:
        """Run the reference, for as many seeds as leave time for what is `wanted`."""
        self.notes += self.assumed.notes
        self._run_reference(self.seeds[0], first=True)
        each = 1 + sum(self.cost(name) for name in wanted if name != LADDER)
        affordable = (self.ends - time.monotonic()) / max(self.ran.seconds, 1e-3) + 1
        seeds = max(1, min(len(self.seeds), int((affordable - LADDER_COST * (LADDER in wanted)) / each)))
        if seeds < len(self.seeds):
            self.notes.append(f"{seeds} of {len(self.seeds)} seeds were run: time did not allow more")
        self.seeds = self.seeds[:seeds]
        for seed in self.seeds[1:]:
            self._run_reference(seed)

    def _run_reference(self, seed: int, first: bool = False) -> None:
        if seed in self.ran.setups:
            self.plain.append(self.ran.courses["", seed])
            return
        ward = admit(self.subject.fresh(seed))
        setup, notes = reference_setup(ward, self.facts, self.assumed, self.length, seed)
        if first:
            self.notes += (*ward.notes, *notes)
            self.ran.tested, self.ran.chance = ward.tested, ward.chance
            federation_of(setup).engine.close()  # what is only loaded once shall not count as time of a course
        began = time.monotonic()
        self.ran.courses["", seed] = run(setup)
        self.ran.seconds = max(self.ran.seconds, time.monotonic() - began)
        self.ran.setups[seed] = setup
        self.plain.append(self.ran.courses["", seed])

    def cost(self, name: str) -> float:
        """Of one knob, in courses of the reference."""
        return LADDER_COST if name == LADDER else KNOBS[name].cost(self.ran.setups[self.seeds[0]])

    def attempt(self, name: str) -> None:
        """Turn a knob, if there is time for it and something to turn."""
        left = 1 if name == LADDER else sum((name, seed) not in self.ran.courses for seed in self.seeds)
        spent = left * self.cost(name) * self.ran.seconds
        if time.monotonic() + spent > self.ends:
            self.unrun.append(name)
            return
        try:
            if name == LADDER:
                self._climb()
            else:
                self._turn(name)
        except FedlensError as error:
            self.notes.append(f"{name}: {error.problems[0].what}")

    def _turn(self, name: str) -> None:
        turned = [KNOBS[name].turn(self.ran.setups[seed]) for seed in self.seeds]
        setups = [setup for setup in turned if setup is not None]
        if len(setups) < len(self.seeds):
            return
        courses = self.ran.courses
        for seed, setup in zip(self.seeds, setups, strict=True):
            if (name, seed) not in courses:
                courses[name, seed] = run(setup)
        self._record(name, [courses[name, seed] for seed in self.seeds], self.cost(name))

    def _climb(self) -> None:
        first, *others = self.seeds

        def over() -> bool:
            return time.monotonic() + self.ran.seconds > self.ends

        rate, course = best_rate(self.ran.setups[first], self.plain[0], self.ran.tested, over)
        self.rate = rate
        if rate == self.assumed.local.lr:
            self._record(LADDER, self.plain, LADDER_COST)
            return
        self._record(LADDER, [course, *(run(at_rate(self.ran.setups[seed], rate)) for seed in others)], LADDER_COST)
        pooled = KNOBS["pooled-samples"].turn(at_rate(self.ran.setups[first], rate))
        if pooled is not None and not over():
            self._record("pooled-best-rate", [run(pooled)], 1.0)

    def _record(self, name: str, courses: Sequence[Course], cost: float) -> None:
        share = len(courses) * self.length / max(1, self.facts.rounds)
        self.knobs[name] = outcome(courses, cost * share)
        self.effects[name] = effect(courses, self.plain, self.ran.tested)

    def trials(self) -> Trials:
        """Everything that was found."""
        reference = outcome(self.plain, len(self.plain) * self.length / max(1, self.facts.rounds))
        pooled = [self.knobs[name].mean for name in POOLED if name in self.knobs]
        return Trials(
            reference=reference,
            knobs=self.knobs,
            effects=self.effects,
            best=max(pooled) if pooled else None,
            rate=self.assumed.local.lr,
            best_rate=self.rate,
            best_rate_outcome=self.knobs.get(LADDER),
            chance=self.ran.chance,
            error=binomial(reference.mean, self.ran.tested),
            notes=tuple(dict.fromkeys(self.notes)),
            unrun=tuple(self.unrun),
        )
