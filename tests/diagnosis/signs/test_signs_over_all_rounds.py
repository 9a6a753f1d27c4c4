"""What trials of a few rounds say of a job that has more of them: a head start is no cause."""

from dataclasses import replace
from typing import Any

import pytest
from evidence_of import ROUNDS, effect, exam, job, labels, log, outcome, rounds, trials

from fedlens.diagnosis import Evidence
from fedlens.diagnosis.counterfactuals import _rests_on_the_start
from fedlens.diagnosis.evidence import Outcome
from fedlens.diagnosis.finding import Certainty, Sign
from fedlens.diagnosis.signs.capacity.weak import model_is_too_weak
from fedlens.diagnosis.signs.drift.steps import clients_drift
from fedlens.diagnosis.signs.normalisation.skewed import batch_norm_suffers
from fedlens.diagnosis.signs.optimisation.small import rate_is_too_small
from fedlens.diagnosis.signs.participation.noise import cohort_is_too_small
from fedlens.diagnosis.signs.partition.skew import labels_are_skewed
from fedlens.diagnosis.signs.reading import ending, underperforms
from fedlens.diagnosis.signs.symptom import reached
from fedlens.diagnosis.verdict.standing import standing

PLAYED = ROUNDS // 4
# Signs that a trial's gain speaks for, and the trial.
CLAIMS: dict[Sign, str] = {
    cohort_is_too_small: "full-participation",
    clients_drift: "fewer-steps",
    batch_norm_suffers: "norm-group",
    rate_is_too_small: "best-rate",
    labels_are_skewed: "iid",
}
EVERY = pytest.mark.parametrize("sign", CLAIMS, ids=lambda sign: sign.__name__)


def early(accuracy: float, **changes: Any) -> Outcome:
    """The outcome of a trial that stopped after PLAYED rounds."""
    return outcome(accuracy, rounds=PLAYED, **changes)


def behind(sign: Sign, **changes: Any) -> Evidence:
    """A job at 0.5 after a quarter of its rounds, without a log, where the re-deal and what the
    `sign` asks for are at 0.8."""
    knob = CLAIMS[sign]
    known = trials(
        job=early(0.5),
        reference=early(0.5),
        knobs={"iid": early(0.8), knob: early(0.8)},
        effects={knob: effect(0.3)},
        rate=0.01,
        best_rate=0.1 if knob == "best-rate" else 0.01,
        best_rate_outcome=early(0.8) if knob == "best-rate" else None,
        best=0.8,
    )
    seen = rounds(2, coherence=0.2, gain=0.05, exam=exam(0.5), exam_batch=exam(0.6))
    return job(trials=replace(known, **changes), log=None, rounds=seen)


@EVERY
def test_a_head_start_is_no_cause_once_the_job_has_made_up_for_it(sign: Sign) -> None:
    caught_up = behind(sign, late=outcome(0.81))
    if sign is labels_are_skewed:  # which has a measurement of its own over all rounds
        caught_up = behind(sign, late=outcome(0.81), whole=effect(0.0))
    assert sign(caught_up) is None


@EVERY
def test_what_lasts_over_all_rounds_is_supported(sign: Sign) -> None:
    lasting = {"whole": effect(0.2)} if sign is labels_are_skewed else {}
    found = sign(behind(sign, late=outcome(0.6), **lasting))
    assert found is not None and found.certainty is Certainty.SUPPORTED


@EVERY
def test_where_nobody_knows_how_the_job_ends_it_is_only_consistent(sign: Sign) -> None:
    found = sign(behind(sign))
    assert found is not None and found.certainty is Certainty.CONSISTENT


@pytest.mark.parametrize("sign", [cohort_is_too_small, clients_drift], ids=lambda sign: sign.__name__)
def test_remedies_for_skew_are_no_causes_where_skew_costs_nothing_in_the_end(sign: Sign) -> None:
    assert sign(behind(sign, late=outcome(0.6), whole=effect(0.2))) is not None
    assert sign(behind(sign, late=outcome(0.6), whole=effect(0.0))) is None


def test_a_rate_that_all_rounds_cannot_make_up_for_is_supported_without_them() -> None:
    """Four times the rounds are worth about four times the rate; the best is nine hundred times it."""
    found = rate_is_too_small(behind(rate_is_too_small, rate=1e-4))
    assert found is not None and found.certainty is Certainty.SUPPORTED


def test_the_end_is_as_far_below_the_reference_as_the_start_was() -> None:
    """At the quarter the job is at 0.5 and its reference at 0.55, which ends at 0.85."""
    e = behind(cohort_is_too_small, reference=early(0.55), late=outcome(0.85))
    assert ending(e) == pytest.approx(0.8) and reached(e) == pytest.approx(0.8)
    assert ending(behind(cohort_is_too_small)) is None
    assert ending(replace(e, log=log(mean_last=0.7))) == 0.7  # its own log outranks it
    assert ending(behind(cohort_is_too_small, late=outcome(0.85, finite=False))) is None


def test_a_point_below_the_best_trial_is_not_short() -> None:
    assert not underperforms(behind(cohort_is_too_small, late=outcome(0.79)))
    assert underperforms(behind(cohort_is_too_small, late=outcome(0.7)))


def test_a_network_is_not_too_weak_whose_job_comes_to_the_probe() -> None:
    weak = trials(job=early(0.5), reference=early(0.5), best=0.6, best_rate_outcome=early(0.6), knobs={}, effects={})
    unknown = model_is_too_weak(job(trials=weak, log=None, labels=labels(learnable=0.85)))
    assert unknown is not None and unknown.certainty is Certainty.CONSISTENT
    stands = model_is_too_weak(job(trials=replace(weak, late=outcome(0.6)), log=None, labels=labels(learnable=0.85)))
    assert stands is not None and stands.certainty is Certainty.SUPPORTED
    risen = replace(weak, late=outcome(0.84))
    assert model_is_too_weak(job(trials=risen, log=None, labels=labels(learnable=0.85))) is None


def test_the_rounds_that_are_left_are_run_only_where_they_decide() -> None:
    assert _rests_on_the_start(behind(cohort_is_too_small))
    assert not _rests_on_the_start(job(trials=trials(job=early(0.85), reference=early(0.85)), log=None))


def test_a_job_that_still_rises_is_no_riddle() -> None:
    curve = (0.1, 0.2, 0.3, 0.4, 0.5)
    rising = trials(job=early(0.5, curve=curve), reference=early(0.5), knobs={}, effects={}, best=0.8)
    assert standing(job(trials=rising, log=None)).startswith("NO FAULT FOUND")
    standing_still = replace(rising, job=early(0.5, curve=(0.5,) * PLAYED))
    assert standing(job(trials=standing_still, log=None)).startswith("NO CAUSE FOUND")
