"""Whether a job that is behind early is on its way: then no rate is searched."""

from evidence_of import effect, job, outcome, trials

from fedlens.diagnosis import Evidence
from fedlens.diagnosis.counterfactuals import _declared_knobs
from fedlens.diagnosis.signs.symptom import on_its_way


def rising(*curve: float, best: float = 0.9) -> Evidence:
    """A job of 20 rounds whose accuracy went like `curve`; `best` is the highest that anything reached."""
    known = outcome(curve[-1])._replace(curve=curve)
    return job(trials=trials(job=known, reference=known, best=best, knobs={}, effects={"iid": effect(0.0)}))


def test_a_job_that_rises_fast_enough_for_what_is_left_is_on_its_way() -> None:
    """Six rounds are done; half of ten points a round for the fourteen that are left is 70 points."""
    assert on_its_way(rising(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))


def test_a_job_that_crawls_stands_or_falls_is_not() -> None:
    assert not on_its_way(rising(0.10, 0.11, 0.12, 0.13, 0.14, 0.15))
    assert not on_its_way(rising(*[0.1] * 6))
    assert not on_its_way(rising(0.6, 0.5, 0.4, 0.3, 0.2, 0.1))
    assert not on_its_way(rising(0.1, 0.5))  # too short to tell


def test_a_declared_mu_is_tried_without() -> None:
    assert "mu=0" in _declared_knobs(job({"method": "fedprox", "mu": 1.0}))
    assert "mu=0" not in _declared_knobs(job())
