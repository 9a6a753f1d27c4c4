"""One repair after another: what is proven is kept, the changed job is examined, and what it shows is treated next."""

from __future__ import annotations

import math
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
from fedlens.diagnosis.repair.treatment import LONGEST, case_of, learns, treat
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.verdict.judgement import judged

MOST = 3  # repairs, one on top of the other
PROOF = 9  # runs in a proof: the job as it is, treated and sound, three seeds each
STANDS = "What was broken is found in the changed job too."
GONE = "What was broken is not found in the changed job."

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
    for _ in range(MOST):
        tried = _each(x, subject, evidence, suspects)
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
        suspects = tuple(one for one in suspects if one.cause not in known)
        if not tried or not suspects or any(one.verified for one in tried):
            break
    return tuple(done)


def _together(kept: Sequence[Treated], last: Treated) -> Treated:
    """`last` with what it comes to on top of those that were kept before it, where as many rounds were run of both."""
    if not kept or kept[0].before.rounds != last.after.rounds:
        return last
    before, after = (f"{100 * outcome.mean:.1f}%" for outcome in (kept[0].before, last.after))
    return replace(last, says=f"{last.says} All changes together: {before} -> {after}.")


def _each(x: Examination, subject: Subject, evidence: Evidence, suspects: Sequence[Finding]) -> list[Treated]:
    """The suspects treated, one after the other, up to the first remedy that is proven."""
    tried: list[Treated] = []
    for finding in suspects:
        with x.part(f"treatment of {finding.cause}"):
            found = treat(subject, evidence, finding)
            whole = wholesale(found.finding) if found is not None and _fails(found) else None
            again = None if whole is None else treat(subject, evidence, whole)
            tried += [one for one in (found, again) if one is not None]
        if tried and tried[-1].verified:
            break
    return tried


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
            tried[place] = replace(one, remains=_left(one))
            return place, None
        with x.part(f"examination with {one.finding.cause} mended"):
            then = examine(changed)
            tried[place] = _seen(one, then)
            rounds = evidence.facts.rounds
            alone = not tried[place].verified and not tried[place].further and one.before.rounds < rounds
            if alone and PROOF * (x.run_seconds or 0.0) <= LONGEST:
                again = treat(subject, evidence, one.finding, length=rounds)
                tried[place] = tried[place] if again is None else _seen(again, then)
            stays = any(one.finding.cause == other.cause for other in tried[place].further)
            return (place, None) if stays else (place, then)
    return None, None


def _fails(found: Treated) -> bool:
    """Whether the remedy of an exact finding leaves the job where it was, below what could be had."""
    return _exact(found.finding) and not found.verified and math.isfinite(found.recovered)


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
        verified, says = verified or one.finding.silent or _costs_nothing(one, then.evidence), f"{says} {GONE}"
    further = " ".join(f"{other.certainty.words}: {other.says} ({other.cause})" for other in suspects)
    remains = f"{_left(one)} Examined anew, the changed job shows {further or 'no fault.'}".strip()
    return replace(one, verified=verified, says=says, remains=remains, further=suspects)


def _costs_nothing(one: Treated, evidence: Evidence) -> bool:
    """Whether the job as it is lacks nothing of what could be had, and the treated one neither."""
    return learns(one, evidence) and math.isnan(one.recovered) and one.after.mean > one.before.mean - CLEAR


def _left(one: Treated) -> str:
    """What the treated job lacks still of what could be had."""
    left = one.reference - one.after.mean
    if not math.isfinite(left) or not math.isfinite(one.recovered):
        return ""
    if left <= CLEAR:
        return f"Nothing is left to {one.against}."
    return f"{100 * left:.1f} points are left to {one.against}."
