"""Remedies tried on the job itself: the same rounds, cohort and seeds with one part replaced, before and after."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from fedlens.diagnosis.evidence import Evidence, Outcome
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.probes.labels import examine_labels
from fedlens.diagnosis.repair.health import Health, Side, sides
from fedlens.diagnosis.repair.played import Played, played, referred
from fedlens.diagnosis.repair.proof import CLEAR, Gain, gain, holds, share
from fedlens.diagnosis.repair.remedies import CHOICES, REMEDIES, with_usual
from fedlens.diagnosis.repair.reported import reported
from fedlens.diagnosis.repair.skew import best, turned, words
from fedlens.diagnosis.repair.starting import refers_anew
from fedlens.diagnosis.repair.treated import Treated, percent
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.trials.case import NOTHING, Case, Correction
from fedlens.diagnosis.trials.knobs import KNOBS, Turn
from fedlens.diagnosis.trials.lend import admit
from fedlens.diagnosis.trials.own import Make
from fedlens.diagnosis.trials.parts import authors
from fedlens.diagnosis.trials.settings import Assumed, reference_settings
from fedlens.diagnosis.trials.trials import reference_setup
from fedlens.errors import FedlensError
from fedlens.local import Diverged

DEALT = ("iid", "the same examples dealt again IID")
PLAIN: tuple[str | None, str] = (None, "the reference implementation")
WITHOUT = {  # beginnings of causes that the reference has too, and the knob that takes them away
    **dict.fromkeys(("P", "C", "S3", "S4", "N2"), DEALT),
    "V1": ("noise-off", "the reference without noise"),
    "V": ("clip-off", "the reference without clipping"),
    "X": ("codec-off", "the reference without compression"),
}
SKEWED, OF_SKEW = ("P1", "C1"), ("server-momentum=0.9", "fewer-steps")  # what the knobs of skew are searched for
APART = 1000  # added to the seed where one of several is chosen
SEEDS = 3  # at least; as many again where all gain and that is not yet sure
FAR = 0.1  # accuracy above chance, below which a job has hardly begun to learn
LONGEST = 900.0  # seconds that a proof over all rounds may take, where a part of them proves nothing
ENOUGH = 0.8  # of the gap: the first of several that gives this much back is taken
CALMER = (3, 10, 30, 100)  # parts of the rate, where training leaves the finite numbers
MEASURED = frozenset({"model", "test_data"})  # what an accuracy of the doctor's needs
BLIND = "The job lends no network with test data: what the remedy gains cannot be measured, and is not proven."

After = Callable[[Sequence[int]], Played]


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

    `length`: rounds; by default as many as the trials had and, where a gain is seen there and not proven, or nothing is
    learned yet, all of the job's. `settings`: of the doctor's clients, as measured by default. Raises Ailing where the
    author's code fails, ConfigurationError where the job does not lend what the remedy needs.
    """
    finding = with_usual(finding)
    case, rounds = case_of(subject, evidence, finding, settings), length or _length(evidence)
    if finding.treatment == "reference-evaluation":
        return reported(case, rounds, seeds)
    if skewed(finding) and length is None:  # what helps early need not help in the end
        rounds = max(rounds, case.facts.rounds // 2)
    case = _chosen(case, rounds)
    began = time.monotonic()
    found = _tried(case, rounds, seeds)
    spent, every = time.monotonic() - began, case.facts.rounds
    if found is None or found.verified or length is not None or rounds >= every or finding.silent:
        return found
    lacks = math.isfinite(found.recovered) or finding.certainty is not Certainty.FOUND
    promising = (lacks and found.after.mean > found.before.mean) or not learns(found, evidence)
    return (_tried(case, every, seeds) if promising and spent / rounds * every <= LONGEST else None) or found


def unmeasured(subject: Subject, evidence: Evidence, finding: Finding) -> list[Treated]:
    """The treatment, unproven, of an exact finding where no accuracy can be measured: whether what was broken is gone
    can be examined all the same."""
    case = case_of(subject, evidence, with_usual(finding))
    cure = REMEDIES.get(case.finding.treatment.partition("=")[0])
    if cure is None or finding.certainty is not Certainty.FOUND:
        return []
    none = Outcome((math.nan,), case.facts.rounds, 0.0)
    change, interval = cure.change.format(case.value or "as usual"), (math.nan, math.nan)
    return [Treated(case.finding, none, none, math.nan, PLAIN[1], math.nan, interval, False, BLIND, change)]


def learns(found: Treated, evidence: Evidence) -> bool:
    """Whether in the rounds of a treatment anything comes far from chance: the reference, the job or the treated."""
    classes, trials = evidence.facts.classes or 2, evidence.trials
    chance = trials.chance if trials is not None and trials.chance else 1 / classes
    return any(one > chance + FAR for one in (found.reference, found.before.mean, found.after.mean))


def case_of(subject: Subject, evidence: Evidence, finding: Finding, settings: Assumed | None = None) -> Case:
    """What the finding's cure may look at; maps of labels are looked for where they are needed and not yet known."""
    name, _, value = finding.treatment.partition("=")
    if name == "relabel" and evidence.labels is None and evidence.data is not None:
        evidence = replace(evidence, labels=examine_labels(subject, evidence.facts, evidence.data))
    return Case(subject, evidence, finding, settings or reference_settings(evidence.facts, evidence.rounds), value)


def _chosen(case: Case, rounds: int) -> Case:
    """Where the treatment stands for several, the first that gives back ENOUGH on a seed that no proof uses, else the
    one that is ahead there."""
    if skewed(case.finding):
        return _of_knobs(case, rounds)
    calmer = tuple(f"rate={case.settings.local.lr / part:.3g}" for part in CALMER)
    choices = calmer if case.finding.treatment == "calmer" else CHOICES.get(case.finding.treatment, ())
    if not choices:
        return case
    ahead, chosen, seeds = -math.inf, case, (APART,)
    job = _before(case, rounds, seeds, fresh=True).outcome.mean
    reference = None if choices == calmer else _reference(case, rounds, seeds)[0]
    enough = math.inf if reference is None else job + ENOUGH * (reference.outcome.mean - job)
    for treatment in choices:
        finding = replace(case.finding, treatment=treatment)
        one = case._replace(finding=finding, value=treatment.partition("=")[2])
        tried = _trial(one, rounds)
        try:
            score = -math.inf if tried is None else tried[0](seeds).outcome.mean
        except Diverged:  # the doctor's clients end where a weight is not finite
            continue
        if score > ahead:
            ahead, chosen = score, one
        if score >= max(enough, job + CLEAR):
            break
    return chosen


def skewed(finding: Finding) -> bool:
    """Whether a finding is treated by knobs that are searched for."""
    return finding.cause in SKEWED and finding.treatment in OF_SKEW


def _of_knobs(case: Case, rounds: int) -> Case:
    """The case with the knobs that help most where clients' data differ, on a seed that no proof uses."""
    seeds, ends = (APART,), time.monotonic() + LONGEST / 2
    plain = referred(case, rounds, seeds, lambda setup: setup).outcome.mean
    dealt = referred(case, rounds, seeds, KNOBS["iid"].turn).outcome.mean

    def score(value: str) -> float:
        if time.monotonic() > ends or not _turns(case, rounds, turned(value)):
            return -math.inf
        return referred(case, rounds, seeds, turned(value)).outcome.mean

    value = best(score, plain + CLEAR, max(plain + ENOUGH * (dealt - plain), plain + CLEAR))
    return case._replace(finding=replace(case.finding, treatment=f"knobs={value}"), value=value)


def _turns(case: Case, rounds: int, turn: Turn) -> bool:
    """Whether a knob finds something to turn."""
    return turn(reference_setup(admit(case.subject.fresh(0)), case.facts, case.settings, rounds, 0)[0]) is not None


def _tried(case: Case, rounds: int, seeds: Sequence[int]) -> Treated | None:
    tried = _trial(case, rounds)
    if tried is None:
        return None
    after, change, make = tried
    return _compared(case, *_both(case, after, rounds, seeds), change, make)


def _trial(case: Case, rounds: int) -> tuple[After, str, Make | None] | None:
    """What plays the treated job for given seeds, in words what it changes, and the treated parts."""
    treatment, (name, _, value) = case.finding.treatment, case.finding.treatment.partition("=")
    if name == "knobs" or (treatment in KNOBS and name not in REMEDIES):
        turn, change = (
            (turned(value), value and words(value)) if name == "knobs" else (KNOBS[treatment].turn, treatment)
        )
        if not change or not _turns(case, rounds, turn):
            return None
        return lambda seeds: referred(case, rounds, seeds, turn), f"the reference with {change}", None
    made = REMEDIES[name].make(case) if name in REMEDIES else None
    if made is None:
        return None
    place = f" (to change: {case.finding.where})" if case.finding.where else ""
    change, put_right = REMEDIES[name].change.format(value or "as usual") + place, _put_right(case)
    return lambda seeds: played(case, made, rounds, seeds, put_right.change), change, made


def _put_right(case: Case) -> Correction:
    """What the treatment puts right of data, loss or local work."""
    cure = REMEDIES.get(case.finding.treatment.partition("=")[0])
    return NOTHING if cure is None or cure.put_right is None else cure.put_right(case) or NOTHING


def _both(case: Case, after: After, rounds: int, seeds: Sequence[int]) -> tuple[Played, Played]:
    """The job as it is and treated. Where every seed gains and three do not prove it, three more are run."""
    one, other = _before(case, rounds, seeds), after(seeds)
    before, now = one.outcome.values, other.outcome.values
    gains = [b - a for a, b in zip(before, now, strict=True)]
    if len(gains) != SEEDS or min(gains) <= 0 or gain(before, now).low > 0:
        return one, other
    more = tuple(range(max(seeds) + 1, max(seeds) + 1 + SEEDS))
    return one.with_(_before(case, rounds, more, fresh=True)), other.with_(after(more))


def _length(evidence: Evidence) -> int:
    known = None if evidence.trials is None else evidence.trials.reference or evidence.trials.job
    rounds = evidence.facts.rounds
    return known.rounds if known is not None else min(rounds, max(10, rounds // 4))


def _before(case: Case, rounds: int, seeds: Sequence[int], fresh: bool = False) -> Played:
    known = None if case.evidence.trials is None else case.evidence.trials.job
    if not fresh and known is not None and known.rounds == rounds and len(known.values) == len(seeds):
        return Played(known)
    return played(case, lambda patient, seed: authors(patient), rounds, seeds, _put_right(case).change)


def _reference(case: Case, rounds: int, seeds: Sequence[int], models: bool = False) -> tuple[Played | None, str]:
    """What the job could reach at the same budget, and what that is; None where it cannot be run. With `models` their
    health is measured too, where the trials know the accuracy alone."""
    trials, put_right = case.evidence.trials, _put_right(case)
    knob, against = next((told for cause, told in WITHOUT.items() if case.finding.cause.startswith(cause)), PLAIN)
    turn = (lambda setup: setup) if knob is None else KNOBS[knob].turn
    try:
        if case.finding.treatment == "fresh-start":  # the reference has the author's first weights too
            return referred(case, rounds, seeds, refers_anew), "the reference from weights drawn anew"
        cure = REMEDIES.get(case.finding.treatment.partition("=")[0])
        if cure is not None and cure.put_right is not None:
            return referred(case, rounds, seeds, lambda setup: setup, put_right), "the reference without it"
        have = None if trials is None else trials.reference if knob is None else trials.knobs.get(knob)
        if not models and have is not None and have.rounds == rounds and len(have.values) >= len(seeds) > 1:
            return Played(have), against
        return referred(case, rounds, seeds, turn), against
    except FedlensError:
        return None, against


def _compared(case: Case, one: Played, other: Played, change: str, make: Make | None) -> Treated:
    before, after = one.outcome, other.outcome
    found, rounds = gain(before.values, after.values), before.rounds
    seeds = range(found.n)
    sound, against = _reference(case, rounds, seeds)
    most, part = math.nan, share(before.values, after.values, before.values)
    says = f"{percent(before.mean)} -> {percent(after.mean)} ({found}, {rounds} rounds)"
    if sound is not None:
        most, part = sound.outcome.mean, share(before.values, after.values, sound.outcome.values)
    if math.isfinite(part.mean):
        sure = f", 95% interval {part.low:.0%} to {part.high:.0%}" if math.isfinite(part.low) else ""
        says += f": {part.mean:.0%} of the way to {against} ({percent(most)}){sure}"

    def reference() -> Sequence[Health]:
        known = sound if sound is None or sound.health else _reference(case, rounds, seeds, models=True)[0]
        return () if known is None else known.health

    beside = sides(one.health, other.health, reference)
    verified, proof = _verified(case, found, beside, make)
    return Treated(
        finding=case.finding,
        before=before,
        after=after,
        reference=most,
        against=against,
        recovered=part.mean,
        interval=(found.low, found.high),
        verified=verified,
        says=says + proof,
        change=change,
        share=(part.low, part.high),
        beside=beside,
    )


def _verified(case: Case, found: Gain, beside: Sequence[Side], make: Make | None) -> tuple[bool, str]:
    """Whether the remedy is proven, and the end of the sentences that say so.

    A fault that costs no accuracy is proven by what it broke alone: what it flattered may well fall.
    """
    told = f". Beside it: {', '.join(str(one) for one in beside)}" if beside else ""
    if case.finding.silent and make is not None and not found.proven:
        sound, proof = holds(case, make)
        return sound, f". This fault need not cost accuracy: {proof}{told}."
    if not found.proven:
        return False, f". Not proven by accuracy{told}."
    spoiled = [one.name for one in beside if one.worse]
    if spoiled and not case.finding.silent:
        return False, f"{told}. Not proven: {' and '.join(spoiled)} worse by more than a standard error."
    return True, f"{told}."
