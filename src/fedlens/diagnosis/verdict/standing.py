"""What stands in the place of "no fault found" where no cause is named and the job is not well either."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.signs.reading import early_only, points
from fedlens.diagnosis.signs.symptom import misses, on_its_way

UNEXPLAINED = 0.15  # accuracy below the ceiling that no page may pass over


def standing(e: Evidence) -> str:
    """Why a job without suspects gets no clean bill: it does not run, breaks off, or stays far below what its data
    allow; "" where there is nothing of the kind, and for a log alone."""
    if not e.facts.clients:
        return ""
    broken = next((one for one in e.unexamined if "rounds" in one.what and "after" in one.what), None)
    if not e.rounds:
        return f"NO VERDICT  The job does not run: {'it has no rounds.' if broken is None else broken.why}"
    if broken is not None:
        return f"NO VERDICT  The job breaks off after {len(e.rounds)} rounds: {broken.why}"
    far = misses(e)
    if far <= UNEXPLAINED:
        return ""
    if early_only(e) and on_its_way(e):
        played = f"{len(e.rounds)} of {e.facts.rounds} rounds were played"
        return f"NO FAULT FOUND  {played}: the job is {points(far)} below what its data allow, and rises fast enough."
    return f"NO CAUSE FOUND  The job stays {points(far)} below what its data allow, and nothing examined says why."
