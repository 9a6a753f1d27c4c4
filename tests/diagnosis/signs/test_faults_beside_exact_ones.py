"""Faults of settings beside one that is exactly known: the reference, which has nothing of that, fails by them too."""

import math

import pytest
from evidence_of import ENTRIES, aggregation, job, outcome, trials

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.evidence import Outcome
from fedlens.diagnosis.signs import read
from fedlens.diagnosis.signs.beside import LEARNT, SHARED, fails_beside, unhidden
from fedlens.diagnosis.verdict.judgement import judged

CHANCE, ALLOWED = 0.1, 0.9
KEPT = dict.fromkeys(("2.running_mean", "2.running_var"), "kept")  # N1
BROKEN = aggregation(fates=dict.fromkeys(ENTRIES, "mean") | KEPT)


def finding(cause: str, certainty: Certainty = Certainty.FOUND) -> Finding:
    return Finding(cause, certainty, "", (), "", hides=frozenset({"O1", "P1"}))


def failing(here: float = CHANCE, theirs: float = CHANCE) -> Evidence:
    """Job and reference; a better rate lets the latter reach 0.8."""
    searched = {"best_rate": 0.1, "rate": 1e-4, "best_rate_outcome": outcome(0.8)}
    known = trials(job=outcome(here), reference=outcome(theirs), knobs={}, effects={}, best=ALLOWED, **searched)
    return job(aggregation=BROKEN, log=None, trials=known)


def test_a_reference_that_learns_no_more_than_the_job_fails_by_something_else() -> None:
    exact = [finding("A3")]
    assert fails_beside(failing(), exact)
    little = CHANCE + 1.5 * LEARNT * (ALLOWED - CHANCE)
    assert not fails_beside(failing(little, little), exact)  # it learns, if slowly
    assert not fails_beside(failing(CHANCE, 0.8), exact)  # what is exactly broken explains it
    assert not fails_beside(job(aggregation=BROKEN), exact)
    assert not fails_beside(failing(), [])


def test_a_reference_that_diverges_as_the_job_does_fails_by_something_else() -> None:
    lost = Outcome((math.nan,), 6, 0.3, False)
    e = job(trials=trials(job=lost, reference=lost, best=ALLOWED, knobs={}, effects={}))
    assert fails_beside(e, [finding("S1")])


@pytest.mark.parametrize("cause", ["H1", "L3", "D3", "K3", "O3"])
def test_what_the_reference_takes_from_the_job_explains_that_it_fails(cause: str) -> None:
    assert not fails_beside(failing(), [finding("A3"), finding(cause)])
    assert fails_beside(failing(), [finding("A3"), finding(cause, Certainty.CONSISTENT), finding("E2")])


def test_nothing_that_the_reference_fails_by_is_hidden() -> None:
    (open_now,) = unhidden(failing(), [finding("N1")])
    assert open_now.hides == {"P1"} and "O1" in SHARED
    assert unhidden(failing(CHANCE, 0.8), [finding("N1")])[0].hides == {"P1", "O1"}


def test_a_small_rate_is_named_beside_statistics_that_are_kept_where_these_explain_nothing() -> None:
    suspects, _ = judged(read(failing())[0])
    assert [one.cause for one in suspects] == ["N1", "O1"]
    explained, _ = judged(read(failing(CHANCE, 0.4))[0])
    assert [one.cause for one in explained] == ["N1"]
