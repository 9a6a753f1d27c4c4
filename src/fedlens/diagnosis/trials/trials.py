"""The reference of a job and its counterfactuals, cheapest first, within a budget of seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
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
DOUBT = 3.0  # times what a gain needs to be clear: beyond, one seed is enough
ENOUGH = 0.1  # accuracy by which the re-deal is ahead of the job's end when its other rounds are left out
LOOKS = 2  # evaluations that must say so
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
    allow: all with the first seed, and those of which it leaves in doubt whether they gain with the others, if all of
    those can be.

    Raises ConfigurationError where the job lends no data or network, Ailing where its code fails.
    """
    unknown = [name for name in wanted if name not in KNOBS and name != LADDER]
    if unknown:
        raise ConfigurationError("no such trial", where="trials", seen=", ".join(unknown), do=", ".join(KNOBS))
    assumed = reference_settings(facts, rounds)
    bench = _Bench(subject, facts, assumed, length, tuple(seeds), time.monotonic() + budget, ran or Ran())
    bench.refer()
    for name in sorted(wanted, key=bench.cost):
        bench.attempt(name)
    bench.make_sure()
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


def in_doubt(seen: Effect) -> bool:
    """Whether other seeds might tell another story of a gain that was seen with one."""
    return seen.n == 1 and 0.0 < seen.gain < DOUBT * max(0.01, 2 * seen.error)


@dataclass
class Ran:
    """Courses that were run for one job and length, by knob ("": the reference) and seed, so that none is run twice.
    `seconds`: of one course of the reference."""

    setups: dict[int, Setup] = field(default_factory=dict)
    courses: dict[tuple[str, int], Course] = field(default_factory=dict)
    seconds: float = 0.0
    tested: int = 1
    chance: float = 0.0


def reference_to_the_end(ran: Ran, rounds: int) -> Outcome:
    """The reference that `ran`, over `rounds`, with its first seed."""
    return outcome([run(_longer(ran, rounds))], 1.0)


def dealt_to_the_end(ran: Ran, rounds: int, end: float) -> tuple[Effect, int]:
    """By how much the re-deal ends above `end`, the accuracy that the job or its reference ends with, and after how
    many of the `rounds`: where it is far ahead of the end early, the rest of them would not say more."""

    def enough(found: Sequence[float]) -> bool:
        return len(found) >= LOOKS and statistics.fmean(found[-LOOKS:]) > end + ENOUGH

    setup = KNOBS["iid"].turn(_longer(ran, rounds))
    assert setup is not None  # any deal can be dealt again
    dealt = run(setup, enough)
    if dealt.rounds < rounds:
        dealt = dealt._replace(accuracies=dealt.accuracies[-LOOKS:])
    return effect([dealt], [Course((end,), rounds)], ran.tested), dealt.rounds


def _longer(ran: Ran, rounds: int) -> Setup:
    first = next(iter(ran.setups.values()))
    return first.with_(rounds=rounds, evaluate_every=rounds)


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

    def refer(self) -> None:
        """Run the reference, with the first seed."""
        self.notes += self.assumed.notes
        self._run_reference(self.seeds[0], first=True)

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
        """Turn a knob with the first seed, if there is time for it and something to turn."""
        spent = 0.0 if (name, self.seeds[0]) in self.ran.courses else self.cost(name) * self.ran.seconds
        if spent and time.monotonic() + spent > self.ends:
            self.unrun.append(name)
            return
        try:
            if name == LADDER:
                self._climb()
            else:
                self._turn(name, self.seeds[:1])
        except FedlensError as error:
            self.notes.append(f"{name}: {error.problems[0].what}")

    def make_sure(self) -> None:
        """Turn what one seed leaves in doubt with the other seeds too, the likeliest first."""
        knobs = [name for name in self.effects if name in KNOBS and name not in POOLED]
        doubtful = [name for name in knobs if in_doubt(self.effects[name])]
        for name in sorted(doubtful, key=lambda name: -self.effects[name].gain / self.effects[name].error):
            missing = [
                (knob, seed) for seed in self.seeds for knob in ("", name) if (knob, seed) not in self.ran.courses
            ]
            spent = sum(self.cost(knob) if knob else 1.0 for knob, _ in missing) * self.ran.seconds
            if time.monotonic() + spent > self.ends:
                self.notes.append(f"{name}: one of {len(self.seeds)} seeds was run, time did not allow more")
                continue
            with suppress(FedlensError):  # what one seed said stays
                for seed in self.seeds[len(self.plain) :]:
                    self._run_reference(seed)
                self._turn(name, self.seeds)

    def _turn(self, name: str, seeds: Sequence[int]) -> None:
        courses = self.ran.courses
        for seed in seeds:
            if (name, seed) not in courses:
                setup = KNOBS[name].turn(self.ran.setups[seed])
                if setup is None:
                    return
                courses[name, seed] = run(setup)
        self._record(name, [courses[name, seed] for seed in seeds], self.cost(name))

    def _climb(self) -> None:
        first = self.seeds[0]

        def over() -> bool:
            return time.monotonic() + self.ran.seconds > self.ends

        rate, course = best_rate(self.ran.setups[first], self.plain[0], self.ran.tested, over)
        self.rate = rate
        if rate == self.assumed.local.lr:
            self._record(LADDER, self.plain[:1], LADDER_COST)
            return
        self._record(LADDER, [course], LADDER_COST)
        pooled = KNOBS["pooled-samples"].turn(at_rate(self.ran.setups[first], rate))
        if pooled is not None and not over():
            self._record("pooled-best-rate", [run(pooled)], 1.0)

    def _record(self, name: str, courses: Sequence[Course], cost: float) -> None:
        share = len(courses) * self.length / max(1, self.facts.rounds)
        self.knobs[name] = outcome(courses, cost * share)
        self.effects[name] = effect(courses, self.plain[: len(courses)], self.ran.tested)

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
