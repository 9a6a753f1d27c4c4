"""What stands in the place of "no fault found"."""

import pytest
from evidence_of import job, labels, log, outcome, trials

from fedlens.diagnosis.evidence import Unexamined
from fedlens.diagnosis.verdict.standing import standing

LOST = Unexamined("rounds after 0", "fit raised KeyError")


def test_a_job_that_is_well_gets_a_clean_bill() -> None:
    assert standing(job()) == ""


@pytest.mark.parametrize("learnable, begins", ((0.2, ""), (0.9, "NO CAUSE FOUND  The job stays 80.0 points below")))
def test_a_job_far_below_a_probe_of_its_data_does_not(learnable: float, begins: str) -> None:
    poor = trials(job=outcome(0.1), reference=outcome(0.1), knobs={}, best=None, best_rate_outcome=None)
    told = standing(job(trials=poor, labels=labels(learnable=learnable), log=log()))
    assert told.startswith(begins) and bool(told) == bool(begins)


def test_a_job_that_does_not_run_or_breaks_off_does_not() -> None:
    assert standing(job(rounds=(), unexamined=(LOST,))) == "NO VERDICT  The job does not run: fit raised KeyError"
    assert standing(job(unexamined=(LOST,))).startswith("NO VERDICT  The job breaks off after 4 rounds: fit raised")
