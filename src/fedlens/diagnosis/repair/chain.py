"""One repair after another: what is proven is kept, the changed job is examined, and what it shows is treated next."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.examination import Examination
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.repair.mended import mended
from fedlens.diagnosis.repair.proof import CLEAR
from fedlens.diagnosis.repair.remedies import wholesale
from fedlens.diagnosis.repair.reported import metric_of
from fedlens.diagnosis.repair.treated import Treated
from fedlens.diagnosis.repair.treatment import LONGEST, MEASURED, case_of, learns, skewed, treat, unmeasured
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.verdict.judgement import judged

MOST = 3  # repairs, one on top of the other
LATEST = 1200.0  # seconds after which no further remedy is begun
PROOF = 9  # runs in a proof: the job as it is, treated and sound, three seeds each
STANDS = "What was broken is found in the changed job too."
GONE = "What was broken is not found in the changed job."
UNSEEN = "Whether what was broken holds in the changed job could not be examined: not proven."
LESS = "It cost no accuracy here: proven by what was broken alone."

Examine = Callable[[Subject], Examination]


def repaired(x: Examination, examine: Examine) -> tuple[Treated, ...]:
    """The remedies that were tried on an examined job, in order.

    Suspects are treated until one remedy is proven. The job with that remedy is examined anew, and its suspects are
    treated on top of it, save what is only consistent with what is seen. Where none is proven, an exact finding that
    its remedy puts an end to is built on all the same: what else is broken may keep the job from gaining.
    """
    done: list[Treated] = []
    kept: list[Treated] = []
    subject, evidence, suspects = x.subject, x.evidence, judged(x.findings())[0]
    ends = time.monotonic() + LATEST
    for _ in range(MOST):
        tried = _each(x, subject, evidence, suspects, ends)
        place, then = _kept(x, subject, evidence, tried, examine)
        stays = place is None or (then is None and not tried[place].verified)
        if place is not None and not stays and tried[place].finding.treatment != "reference-evaluation":
            tried[place] = _together(kept, tried[place])
            kept.append(tried[place])
        done += tried
        if then is not None and place is not None:
            subject, evidence = then.subject, then.evidence
            suspects = tuple(one for one in tried[place].further if one.certainty >= Certainty.SUPPORTED)
            continue
        known = {one.finding.cause for one in tried}
        suspects = tuple(one for one in suspects if one.cause not in known and not _searched(one, tried))
        if not tried or not suspects or any(one.verified for one in tried):
            break
    return tuple(done)


def _together(kept: Sequence[Treated], last: Treated) -> Treated:
    """`last` with what it comes to on top of those that were kept before it, where as many rounds were run of both."""
    if not kept or kept[0].before.rounds != last.after.rounds or not math.isfinite(last.after.mean):
        return last
    before, after = (f"{100 * outcome.mean:.1f}%" for outcome in (kept[0].before, last.after))
    return replace(last, says=f"{last.says} All changes together: {before} -> {after}.")


def _each(
    x: Examination, subject: Subject, evidence: Evidence, suspects: Sequence[Finding], ends: float
) -> list[Treated]:
    """The suspects treated, one after the other, up to the first remedy that is proven; none is begun after `ends`."""
    tried: list[Treated] = []
    for finding in suspects:
        if _searched(finding, tried):
            continue
        if time.monotonic() > ends:
            x.missed(f"treatment of {finding.cause}", f"the remedies before it took {LATEST:g} s")
            break
        with x.part(f"treatment of {finding.cause}"):
            if not evidence.facts.offers >= MEASURED:
                tried += unmeasured(subject, evidence, finding)
                continue
            found = treat(subject, evidence, finding)
            tried += [] if found is None else [found]
            whole = _instead(found)
            again = None if whole is None else treat(subject, evidence, whole)
            tried += [] if again is None else [again]
        if tried and tried[-1].verified:
            break
    return tried


def _searched(finding: Finding, tried: Sequence[Treated]) -> bool:
    """Whether treating a finding would be the same search for the same remedies as one that was tried."""
    return skewed(finding) and any(one.finding.treatment.startswith("knobs=") for one in tried)


def _kept(
    x: Examination, subject: Subject, evidence: Evidence, tried: list[Treated], examine: Examine
) -> tuple[int | None, Examination | None]:
    """Which of `tried` is built on, and the job with it, examined; that one learns here what the examination says."""
    order = [place for place, one in enumerate(tried) if one.verified]
    order += [place for place, one in enumerate(tried) if not one.verified and _exact(one.finding)]
    for place in order[:1]:
        one = tried[place]
        changed = None
        with x.part(f"the job with {one.finding.cause} mended"):
            case = case_of(subject, evidence, one.finding)
            changed = mended(case, metric_of(case) if one.finding.treatment == "reference-evaluation" else "")
        if changed is None:
            tried[place] = replace(_unseen(one), remains=_left(one))
            return place, None
        then = None
        with x.part(f"examination with {one.finding.cause} mended"):
            then = examine(changed)
        if then is None:
            tried[place] = _unseen(one)
            return place, None
        tried[place] = _seen(one, then)
        rounds = evidence.facts.rounds
        alone = not tried[place].verified and not tried[place].further and one.before.rounds < rounds
        if alone and PROOF * (x.run_seconds or 0.0) <= LONGEST:
            with x.part(f"treatment of {one.finding.cause} over all rounds"):
                again = treat(subject, evidence, one.finding, length=rounds)
                tried[place] = tried[place] if again is None else _seen(again, then)
        stays = any(one.finding.cause == other.cause for other in tried[place].further)
        return (place, None) if stays else (place, then)
    return None, None


def _instead(found: Treated | None) -> Finding | None:
    """What is tried where a remedy does not help: a lower rate where the job leaves the finite numbers all the same,
    else, of an exact finding that stays below what could be had, the whole part anew."""
    if found is None or found.verified or not _exact(found.finding):
        return None
    if not found.after.finite:
        return replace(found.finding, treatment="calmer", clients=())
    return wholesale(found.finding) if math.isfinite(found.recovered) else None


def _exact(finding: Finding) -> bool:
    return finding.certainty is Certainty.FOUND


def _seen(one: Treated, then: Examination) -> Treated:
    """What the changed job shows. An exact finding that stands is not mended; a silent one that is gone is."""
    found = then.findings()
    suspects = judged(found)[0]
    stands = any(other.cause == one.finding.cause and other.certainty is not Certainty.NOTED for other in found)
    verified, says = one.verified, one.says
    if _exact(one.finding) and stands:
        verified, says = False, f"{says} {STANDS}"
    elif _exact(one.finding):
        says = f"{says} {GONE}"
        if not verified and (one.finding.silent or _costs_nothing(one, then.evidence)):
            verified, says = True, says if one.finding.silent else f"{says} {LESS}"
    further = " ".join(f"{other.certainty.words}: {other.says} ({other.cause})" for other in suspects)
    remains = f"{_left(one)} Examined anew, the changed job shows {further or 'no fault.'}".strip()
    return replace(one, verified=verified, says=says, remains=remains, further=suspects)


def _unseen(one: Treated) -> Treated:
    """A remedy whose job could not be examined: what was exactly broken is not known to be mended."""
    return replace(one, verified=False, says=f"{one.says} {UNSEEN}") if _exact(one.finding) else one


def _costs_nothing(one: Treated, evidence: Evidence) -> bool:
    """Whether the job as it is lacks nothing of what could be had, the treated one neither, and nothing is spoiled."""
    same = math.isnan(one.recovered) and one.after.mean > one.before.mean - CLEAR
    return learns(one, evidence) and same and not any(side.worse for side in one.beside)


def _left(one: Treated) -> str:
    """What the treated job lacks still of what could be had."""
    left = one.reference - one.after.mean
    if not math.isfinite(left) or not math.isfinite(one.recovered):
        return ""
    if left <= CLEAR:
        return f"Nothing is left to {one.against}."
    return f"{100 * left:.1f} points are left to {one.against}."
