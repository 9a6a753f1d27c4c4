"""Whether a job reaches what its data allow; what only makes sense of a job that does not, asks here."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.signs.reading import noise, outcome, printed


def reached(e: Evidence) -> float | None:
    """The accuracy of the job: of its trial, or of its own log, which goes to the end, where that is of the test data;
    else of the last round that was examined."""
    job, end = outcome(e, "job"), printed(e)
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
    """By how much the job stays below the ceiling, in accuracy; 0 where one of them is unknown."""
    here, there = reached(e), ceiling(e)
    if here is None or there is None:
        return 0.0
    return there if math.isnan(here) else max(0.0, there - here)


def ails(e: Evidence) -> bool:
    """Whether the job stays clearly below: by ten points and more than chance, or its numbers are no numbers."""
    broken = any(not one.finite for one in e.rounds)
    return broken or misses(e) > max(0.1, noise(e))
