"""Remedies tried on the job itself: the same rounds, cohort and seeds with one part replaced, before and after."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from fedlens.diagnosis.evidence import Evidence, Outcome
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.probes.labels import examine_labels
from fedlens.diagnosis.repair.proof import Gain, gain, holds, share
from fedlens.diagnosis.repair.remedies import CHOICES, with_usual
from fedlens.diagnosis.repair.reported import reported
from fedlens.diagnosis.repair.treated import Treated, percent
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.trials.case import NOTHING, Case, Correction
from fedlens.diagnosis.trials.course import outcome, run
from fedlens.diagnosis.trials.cures import CURES
from fedlens.diagnosis.trials.knobs import KNOBS
from fedlens.diagnosis.trials.lend import admit
from fedlens.diagnosis.trials.own import Make, outcome_of, run_job
from fedlens.diagnosis.trials.settings import Assumed, reference_settings
from fedlens.diagnosis.trials.trials import reference_setup
from fedlens.errors import FedlensError

DEALT = ("iid", "the same examples dealt again IID")
PLAIN: tuple[str | None, str] = (None, "the reference implementation")
WITHOUT = {  # beginnings of causes that the reference has too, and the knob that takes them away
    **dict.fromkeys(("P", "C", "S3", "S4", "N2"), DEALT),
    "V1": ("noise-off", "the reference without noise"),
    "V": ("clip-off", "the reference without clipping"),
    "X": ("codec-off", "the reference without compression"),
}
APART = 1000  # added to the seed where one of several is chosen
SEEDS = 3  # at least; as many again where all gain and that is not yet sure
FAR = 0.1  # accuracy above chance, below which a job has hardly begun to learn
LONGEST = 900.0  # seconds that a proof over all rounds may take, where a part of them proves nothing

After = Callable[[Sequence[int]], Outcome]


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

    `length`: rounds; by default as many as the trials had and, where a gain is seen there and not proven, all of the
    job's. `settings`: of the doctor's clients, as measured by default. Raises Ailing where the author's code fails,
    ConfigurationError where the job does not lend what the remedy needs.
    """
    finding = with_usual(finding)
    case, rounds = case_of(subject, evidence, finding, settings), length or _length(evidence)
    if finding.treatment == "reference-evaluation":
        return reported(case, rounds, seeds)
    case = _chosen(case, rounds)
    began = time.monotonic()
    found = _tried(case, rounds, seeds)
    spent, every = time.monotonic() - began, case.facts.rounds
    if found is None or found.verified or length is not None or rounds >= every or finding.silent:
        return found
    lacks = math.isfinite(found.recovered) or finding.certainty is not Certainty.FOUND
    promising = lacks and (found.after.mean > found.before.mean or not learns(found, evidence))
    return (_tried(case, every, seeds) if promising and spent / rounds * every <= LONGEST else None) or found


def learns(found: Treated, evidence: Evidence) -> bool:
    """Whether what could be had in the rounds of a treatment is far from chance."""
    classes, trials = evidence.facts.classes or 2, evidence.trials
    return found.reference > (trials.chance if trials is not None and trials.chance else 1 / classes) + FAR


def case_of(subject: Subject, evidence: Evidence, finding: Finding, settings: Assumed | None = None) -> Case:
    """What the finding's cure may look at; maps of labels are looked for where they are needed and not yet known."""
    name, _, value = finding.treatment.partition("=")
    if name == "relabel" and evidence.labels is None and evidence.data is not None:
        evidence = replace(evidence, labels=examine_labels(subject, evidence.facts, evidence.data))
    return Case(subject, evidence, finding, settings or reference_settings(evidence.facts, evidence.rounds), value)


def _chosen(case: Case, rounds: int) -> Case:
    """Where the treatment stands for several, the case with the one that is ahead on a seed that no proof uses."""
    ahead, best = -math.inf, case
    for treatment in CHOICES.get(case.finding.treatment, ()):
        finding = replace(case.finding, treatment=treatment)
        one = case._replace(finding=finding, value=treatment.partition("=")[2])
        tried = _trial(one, rounds)
        score = -math.inf if tried is None else tried[0]((APART,)).mean
        if score > ahead:
            ahead, best = score, one
    return best


def _tried(case: Case, rounds: int, seeds: Sequence[int]) -> Treated | None:
    tried = _trial(case, rounds)
    if tried is None:
        return None
    after, change, make = tried
    return _compared(case, *_both(case, after, rounds, seeds), change, make)


def _trial(case: Case, rounds: int) -> tuple[After, str, Make | None] | None:
    """What makes the treated outcome for given seeds, in words what it changes, and the treated parts."""
    treatment, (name, _, value) = case.finding.treatment, case.finding.treatment.partition("=")
    if treatment in KNOBS and name not in CURES:
        ward = admit(case.subject.fresh(0))
        if KNOBS[treatment].turn(reference_setup(ward, case.facts, case.settings, rounds, 0)[0]) is None:
            return None
        return lambda seeds: _turned(case, treatment, rounds, seeds), f"the reference with {treatment}", None
    made = CURES[name].make(case) if name in CURES else None
    if made is None:
        return None
    place = f" (to change: {case.finding.where})" if case.finding.where else ""
    change = CURES[name].change.format(value or "as usual") + place
    return lambda seeds: outcome_of(case.subject, case.facts, made, rounds, seeds), change, made


def _both(case: Case, after: After, rounds: int, seeds: Sequence[int]) -> tuple[Outcome, Outcome]:
    """The job as it is and treated. Where every seed gains and three do not prove it, three more are run."""
    one, other = _before(case, rounds, seeds), after(seeds)
    gains = [b - a for a, b in zip(one.values, other.values, strict=True)]
    if len(gains) != SEEDS or min(gains) <= 0 or gain(one.values, other.values).low > 0:
        return one, other
    more = tuple(range(max(seeds) + 1, max(seeds) + 1 + SEEDS))
    return _joined(one, _before(case, rounds, more, fresh=True)), _joined(other, after(more))


def _length(evidence: Evidence) -> int:
    known = None if evidence.trials is None else evidence.trials.reference or evidence.trials.job
    rounds = evidence.facts.rounds
    return known.rounds if known is not None else min(rounds, max(10, rounds // 4))


def _before(case: Case, rounds: int, seeds: Sequence[int], fresh: bool = False) -> Outcome:
    known = None if case.evidence.trials is None else case.evidence.trials.job
    if not fresh and known is not None and known.rounds == rounds and len(known.values) == len(seeds):
        return known
    return run_job(case.subject, case.facts, rounds, seeds)


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
    found, rounds = gain(before.values, after.values), before.rounds
    reference, against = _reference(case, rounds, range(min(found.n, SEEDS)))
    best, part = math.nan, share(before.values, after.values, before.values)
    says = f"{percent(before.mean)} -> {percent(after.mean)} ({found}, {rounds} rounds)"
    if reference is not None:
        best, part = reference.mean, share(before.values, after.values, reference.values)
    if math.isfinite(part.mean):
        sure = f", 95% interval {part.low:.0%} to {part.high:.0%}" if math.isfinite(part.low) else ""
        says += f": {part.mean:.0%} of the way to {against} ({percent(best)}){sure}"
    verified, proof = _verified(case, found, make)
    return Treated(
        finding=case.finding,
        before=before,
        after=after,
        reference=best,
        against=against,
        recovered=part.mean,
        interval=(found.low, found.high),
        verified=verified,
        says=says + proof,
        change=change,
        share=(part.low, part.high),
    )


def _verified(case: Case, found: Gain, make: Make | None) -> tuple[bool, str]:
    """Whether the remedy is proven, and the end of the sentence that says so."""
    if found.proven:
        return True, "."
    if not case.finding.silent or make is None:
        return False, ". Not proven."
    sound, proof = holds(case, make)
    return sound, f". This fault need not cost accuracy: {proof}."
