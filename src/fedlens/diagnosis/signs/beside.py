"""Whether another fault stands beside one that is exactly known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.signs.reading import noise, outcome, personal
from fedlens.diagnosis.signs.symptom import ceiling

LEARNT = 0.1  # of the way from chance to what the data allow: a reference below that has learnt nothing
MENDED = ("A", "B", "N", "S", "X", "V", "D7", "D8")  # what the reference does by its own code, and so has right
SHARED = frozenset({"O1", "O2", "O7", "K1", "K5", "V1", "V2", "X1", "C3"})  # what it is told, and so may have wrong too


def fails_beside(e: Evidence, findings: Sequence[Finding]) -> bool:
    """Whether the reference, which has nothing of what is exactly broken, learns nothing either, and no more than the
    job: then it fails by what it shares with the job, and trials on it tell by what."""
    exact = [one for one in findings if one.certainty is Certainty.FOUND and not one.cause.startswith("E")]
    if not exact or not all(one.cause.startswith(MENDED) for one in exact):
        return False
    job, other, there = outcome(e, "job"), outcome(e, "reference"), ceiling(e)
    chance = None if e.trials is None else e.trials.chance
    if job is None or other is None or there is None or chance is None or personal(e):
        return False
    here, theirs = (one.mean if math.isfinite(one.mean) else chance for one in (job, other))
    return theirs - here <= noise(e) and theirs - chance < LEARNT * (there - chance)


def unhidden(e: Evidence, findings: Sequence[Finding]) -> list[Finding]:
    """`findings`, of which what is exactly broken hides nothing that the reference fails by."""
    if not fails_beside(e, findings):
        return list(findings)
    return [replace(one, hides=one.hides - SHARED) for one in findings]
