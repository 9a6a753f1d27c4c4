"""Whether a job reaches what its data allow; what only makes sense of a job that does not, asks here."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.signs.reading import ending, noise, outcome, personal

PACE = 3  # rounds over which the job's pace is measured
NEAR = 0.05  # accuracy below the ceiling that counts as there


def reached(e: Evidence) -> float | None:
    """The accuracy of the job: of its trial, or where more of it is known (its own log goes to the end, if that is of
    the test data) of its end; else of the last round that was examined."""
    job, end = outcome(e, "job"), ending(e)
    if job is not None:
        return job.mean if end is None or math.isnan(job.mean) else max(job.mean, end)
    exams = [one.exam.accuracy for one in e.rounds if one.exam is not None]
    return exams[-1] if exams else None


def ceiling(e: Evidence) -> float | None:
    """The highest accuracy that anything reached on the same data: a trial, the best rate, a simple probe."""
    trials = [] if e.trials is None else [e.trials.best, *(one.mean for one in e.trials.knobs.values() if one.values)]
    best = None if e.trials is None else e.trials.best_rate_outcome
    probe = None if e.labels is None else e.labels.learnable
    every = [*trials, None if best is None else best.mean, probe]
    found = [value for value in every if value is not None and math.isfinite(value)]
    return max(found) if found else None


def misses(e: Evidence) -> float:
    """By how much the job stays below the ceiling, in accuracy; 0 where one of them is unknown, or where the model that
    is sent is no whole one."""
    here, there = reached(e), ceiling(e)
    if here is None or there is None or personal(e):
        return 0.0
    return there if math.isnan(here) else max(0.0, there - here)


def ails(e: Evidence) -> bool:
    """Whether the job stays clearly below: by ten points and more than chance, or its numbers are no numbers."""
    broken = any(not one.finite for one in e.rounds)
    return broken or misses(e) > max(0.1, noise(e))


def on_its_way(e: Evidence) -> bool:
    """Whether the job, at half the pace of its last rounds, gets to the ceiling in the rounds that it has left: then
    that another rate is ahead early says nothing."""
    job, there = outcome(e, "job"), ceiling(e)
    if job is None or there is None or len(job.curve) <= PACE:
        return False
    pace = (job.curve[-1] - job.curve[-1 - PACE]) / PACE
    return job.curve[-1] + 0.5 * pace * (e.facts.rounds - len(job.curve)) > there - NEAR
