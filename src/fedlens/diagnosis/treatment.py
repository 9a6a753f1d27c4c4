"""Remedies tried on the job itself: the same rounds, cohort and seeds with one part replaced, before and after."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy import stats  # type: ignore[import-untyped]

from fedlens.diagnosis.evidence import Evidence, Outcome
from fedlens.diagnosis.finding import Finding
from fedlens.diagnosis.job import State
from fedlens.diagnosis.subject.patient import Patient, Subject
from fedlens.diagnosis.trials.case import NOTHING, Case, Correction
from fedlens.diagnosis.trials.course import binomial, outcome, run
from fedlens.diagnosis.trials.cures import CURES
from fedlens.diagnosis.trials.knobs import KNOBS
from fedlens.diagnosis.trials.lend import admit, tested_on_few
from fedlens.diagnosis.trials.own import Make, courses
from fedlens.diagnosis.trials.parts import Mean, Parts, authors
from fedlens.diagnosis.trials.settings import Assumed, reference_settings
from fedlens.diagnosis.trials.trials import reference_setup
from fedlens.errors import FedlensError

CLEAR = 0.01  # accuracy that a remedy must gain to be called one, beside an interval that excludes 0
SAME = 1e-4  # relative difference of two models that float32 rounding explains
DEALT = ("iid", "the same examples dealt again IID")
PLAIN: tuple[str | None, str] = (None, "the reference implementation")
WITHOUT = {  # beginnings of causes that the reference has too, and the knob that takes them away
    **dict.fromkeys(("P", "C", "S3", "S4", "N2"), DEALT),
    "V1": ("noise-off", "the reference without noise"),
    "V": ("clip-off", "the reference without clipping"),
    "X": ("codec-off", "the reference without compression"),
}
SEEDS = 3  # at least; as many again where all gain and their mean is not yet sure

After = Callable[[Sequence[int]], Outcome]


@dataclass(frozen=True)
class Treated:
    """What a remedy did to the job.

    `before`, `after`: the job as it is and treated, over the same seeds. `reference`: the accuracy that could be had,
    of `against`. `recovered`: (after - before) / (reference - before), nan where the job lacks nothing. `interval`: 95%
    of the gain after - before, paired by seed (t distribution). `verified`: the interval excludes 0 and the gain is
    more than a point; of faults that cost no accuracy: what was broken holds. `change`: what was done.
    """

    finding: Finding
    before: Outcome
    after: Outcome
    reference: float
    against: str
    recovered: float
    interval: tuple[float, float]
    verified: bool
    says: str
    change: str


def treat(
    subject: Subject,
    evidence: Evidence,
    finding: Finding,
    *,
    settings: Assumed | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    length: int | None = None,
) -> Treated | None:
    """The job with the finding's treatment, beside the job as it is; None where there is none that can be tried.

    `length`: rounds, as many as the trials had by default; `settings`: of the doctor's clients, as measured by default.
    Raises Ailing where the author's code fails, ConfigurationError where the job does not lend what the remedy needs.
    """
    name, _, value = finding.treatment.partition("=")
    rounds = length or _length(evidence)
    assumed = settings or reference_settings(evidence.facts, evidence.rounds)
    case = Case(subject, evidence, finding, assumed, value)
    if name == "reference-evaluation":
        return _reported(case, rounds, seeds)
    tried = _trial(case, rounds)
    if tried is None:
        return None
    after, change, make = tried
    return _compared(case, *_both(case, after, rounds, seeds), change, make)


def _trial(case: Case, rounds: int) -> tuple[After, str, Make | None] | None:
    """What makes the treated outcome for given seeds, in words what it changes, and the treated parts."""
    treatment, (name, _, value) = case.finding.treatment, case.finding.treatment.partition("=")
    if treatment in KNOBS:
        ward = admit(case.subject.fresh(0))
        if KNOBS[treatment].turn(reference_setup(ward, case.facts, case.settings, rounds, 0)[0]) is None:
            return None
        return lambda seeds: _turned(case, treatment, rounds, seeds), f"the reference with {treatment}", None
    made = CURES[name].make(case) if name in CURES else None
    if made is None:
        return None
    change = CURES[name].change.format(value or "as usual")
    return lambda seeds: _outcome(case, made, rounds, seeds), change, made


def _both(case: Case, after: After, rounds: int, seeds: Sequence[int]) -> tuple[Outcome, Outcome]:
    """The job as it is and treated. Where every seed gains and three do not prove it, three more are run."""
    one, other = _before(case, rounds, seeds), after(seeds)
    gains = [b - a for a, b in zip(one.values, other.values, strict=True)]
    if len(gains) != SEEDS or min(gains) <= 0 or interval(gains)[0] > 0:
        return one, other
    more = tuple(range(max(seeds) + 1, max(seeds) + 1 + SEEDS))
    return _joined(one, _before(case, rounds, more, fresh=True)), _joined(other, after(more))


def _length(evidence: Evidence) -> int:
    known = None if evidence.trials is None else evidence.trials.reference or evidence.trials.job
    rounds = evidence.facts.rounds
    return known.rounds if known is not None else min(rounds, max(10, rounds // 4))


def _outcome(case: Case, make: Make, rounds: int, seeds: Sequence[int]) -> Outcome:
    share = len(seeds) * rounds / max(1, case.facts.rounds)
    return outcome(courses(case.subject, make, rounds, seeds), share)


def _before(case: Case, rounds: int, seeds: Sequence[int], fresh: bool = False) -> Outcome:
    known = None if case.evidence.trials is None else case.evidence.trials.job
    if not fresh and known is not None and known.rounds == rounds and len(known.values) == len(seeds):
        return known
    return _outcome(case, lambda patient, seed: authors(patient), rounds, seeds)


def _turned(
    case: Case, knob: str | None, rounds: int, seeds: Sequence[int], put_right: Correction = NOTHING
) -> Outcome:
    """The reference, with one knob turned where there is such a thing to turn (None: as it is)."""
    found = []
    for seed in seeds:
        ward = put_right.admit(case.subject.fresh(seed))
        setup, _ = reference_setup(ward, case.facts, put_right.assumed or case.settings, rounds, seed)
        found.append(run(setup if knob is None else KNOBS[knob].turn(setup) or setup))
    return outcome(found, len(seeds) * rounds / max(1, case.facts.rounds))


def _joined(one: Outcome, other: Outcome) -> Outcome:
    curve = tuple((a + b) / 2 for a, b in zip(one.curve, other.curve, strict=False))
    both = one.values + other.values
    return Outcome(both, one.rounds, one.cost + other.cost, one.finite and other.finite, curve)


def _reference(case: Case, rounds: int, seeds: Sequence[int]) -> tuple[Outcome | None, str]:
    """What the job could reach at the same budget, and what that is; None where it cannot be run."""
    cure, trials = CURES.get(case.finding.treatment.partition("=")[0]), case.evidence.trials
    knob, against = next((told for cause, told in WITHOUT.items() if case.finding.cause.startswith(cause)), PLAIN)
    try:
        if cure is not None and cure.put_right is not None:
            return _turned(case, None, rounds, seeds, cure.put_right(case) or NOTHING), "the reference without it"
        have = None if trials is None else trials.reference if knob is None else trials.knobs.get(knob)
        if have is None or have.rounds != rounds or len(have.values) < len(seeds):
            have = _turned(case, knob, rounds, seeds)
    except FedlensError:
        return None, against
    return have, against


def _compared(case: Case, before: Outcome, after: Outcome, change: str, make: Make | None) -> Treated:
    n, rounds = len(before.values), before.rounds
    reference, against = _reference(case, rounds, range(min(n, SEEDS)))
    gains = [b - a for a, b in zip(before.values, after.values, strict=True)]
    low, high = interval(gains)
    gain, recovered = statistics.fmean(gains), math.nan
    says = (
        f"{_percent(before.mean)} -> {_percent(after.mean)} ({100 * gain:+.1f} points, 95% interval "
        f"{100 * low:+.1f}..{100 * high:+.1f}, {n} paired seeds, {rounds} rounds)"
    )
    if reference is not None:
        gaps = [c - a for a, c in zip(before.values, reference.values, strict=False)]
        gap = statistics.fmean(gaps)
        if gap > CLEAR:
            recovered = statistics.fmean(gains[: len(gaps)]) / gap
            says += f": {recovered:.0%} of the way to {against} ({_percent(reference.mean)})"
    verified = low > 0 and gain > CLEAR
    if not verified and case.finding.silent and make is not None:
        verified, proof = holds(case, make)
        says += f". This fault need not cost accuracy: {proof}"
    elif not verified:
        says += ". Not proven"
    best = math.nan if reference is None else reference.mean
    return Treated(case.finding, before, after, best, against, recovered, (low, high), verified, f"{says}.", change)


def interval(gains: Sequence[float]) -> tuple[float, float]:
    """95% of the mean of paired gains by the t distribution; without bounds for one alone."""
    mean, n = statistics.fmean(gains), len(gains)
    if n < 2:
        return -math.inf, math.inf
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(gains) / math.sqrt(n)
    return mean - half, mean + half


def holds(case: Case, make: Make) -> tuple[bool, str]:
    """Whether two rounds of the treated job keep what a federation promises, with the numbers in words.

    The new model is the weighted mean of the uploads (where no more is declared), and does not depend on the order in
    which clients are visited.
    """
    ways: tuple[Callable[[Sequence[int]], Sequence[int]], ...] = (list, lambda asked: list(reversed(asked)))
    models = [_two_rounds(case, make, way) for way in ways]
    order = _apart(models[0][0], models[1][0], case)
    says = f"the order of clients changes the model by {order:.0e}"
    if not case.facts.declared.plain_server or case.facts.declared.dp:
        return order < SAME, says
    residual = _apart(models[0][0], models[0][1], case)
    return order < SAME and residual < SAME, f"{says}, it differs from the weighted mean by {residual:.0e}"


def _two_rounds(case: Case, make: Make, way: Callable[[Sequence[int]], Sequence[int]]) -> tuple[State, State]:
    """The model after two rounds, and what the weighted mean of the last uploads is."""
    patient = case.subject.fresh(0)
    parts: Parts = make(patient, 0)
    state: State = dict(patient.init)
    mean: State = state
    for number in (1, 2):
        asked = way(list(parts.sample(number)))
        sent = [parts.fit(client, state, number) for client in asked]
        mean = Mean(case.facts)(state, sent, number)
        state = parts.aggregate(state, sent, number)
    return state, mean


def _apart(one: State, other: State, case: Case) -> float:
    names = [name for name in case.facts.of_kind("parameter") if name in one and name in other]
    far = sum(float((one[name].double() - other[name].double()).square().sum()) for name in names)
    size = sum(float(one[name].double().square().sum()) for name in names)
    return math.sqrt(far / size) if size else math.sqrt(far)


def _reported(case: Case, rounds: int, seeds: Sequence[int]) -> Treated | None:
    """The doctor's evaluation in the author's place: the model stays what it is, the number told of it does not."""
    told, measured, tested, key = [], [], 1, ""
    for seed in seeds:
        patient = case.subject.fresh(seed)
        examiner = tested_on_few(case.subject.fresh(seed))
        state = _last_state(patient, rounds)
        reported = patient.evaluate(state, rounds)
        key = _metric(case, reported)
        if not key or not math.isfinite(reported[key]):
            return None
        told.append(reported[key])
        measured.append(examiner.exam(state).accuracy)
        tested = len(examiner.labels)
    share = len(seeds) * rounds / max(1, case.facts.rounds)
    before, after = Outcome(tuple(told), rounds, share), Outcome(tuple(measured), rounds, share)
    low, high = interval([b - a for a, b in zip(told, measured, strict=True)])
    wrong = max(abs(a - b) / max(binomial(b, tested), 1e-9) for a, b in zip(told, measured, strict=True))
    says = (
        f"'{key}' was {before.mean:.4g} where the model's accuracy on {tested} test examples is "
        f"{_percent(after.mean)} +- {_percent(binomial(after.mean, tested))}; the model itself does not change."
    )
    verified = wrong > 2
    return Treated(
        *(case.finding, before, after, after.mean, "the doctor's evaluation", math.nan, (low, high), verified, says),
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


def _metric(case: Case, reported: dict[str, float]) -> str:
    """The reported accuracy."""
    known = "" if case.evidence.evaluating is None else case.evidence.evaluating.metric
    if known in reported:
        return known
    return next((name for name in reported if "acc" in name.lower()), "")


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"
