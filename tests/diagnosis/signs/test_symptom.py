"""What a job reaches, and by how much it misses what its data allow."""

import pytest
from evidence_of import evaluating, job, log, outcome, trials

from fedlens.diagnosis.signs.reading import underperforms
from fedlens.diagnosis.signs.symptom import ails, misses, reached


def test_a_short_trial_does_not_stand_for_the_whole_run() -> None:
    """The trial ends at 0.4 after a few rounds; the job's own log, of the test data, at 0.85 after all of them."""
    early = trials(job=outcome(0.4), reference=outcome(0.4), knobs={}, best=0.88)
    assert reached(job(trials=early, log=log(mean_last=0.85))) == 0.85
    assert misses(job(trials=early, log=log(mean_last=0.85))) == pytest.approx(0.03)
    assert not ails(job(trials=early, log=log(mean_last=0.85)))
    assert reached(job(trials=early, log=log(mean_last=85.0, scale="percent"))) == 0.85


def test_a_model_without_the_heads_that_clients_keep_is_measured_by_nothing_that_whole_ones_reach() -> None:
    """Clients keep their last layer; the model that is sent, with the first one in its place, reaches 0.2."""
    sent = trials(job=outcome(0.2))
    kept, scales = {"local_entries": ("1.",), "stateful": True}, {"local_entries": ("2.",), "stateful": True}
    assert ails(job(trials=sent)) and underperforms(job(trials=sent)) and ails(job(scales, trials=sent))
    assert not ails(job(kept, trials=sent)) and not underperforms(job(kept, trials=sent))


def test_a_log_of_something_else_proves_nothing() -> None:
    early = trials(job=outcome(0.4), reference=outcome(0.4), knobs={}, best=0.88)
    assert reached(job(trials=early, log=log(mean_last=0.85), evaluating=evaluating(matches="train"))) == pytest.approx(
        0.4
    )
    assert reached(job(trials=early, log=log(mean_last=85.0, scale="count"))) == pytest.approx(0.4)
    assert ails(job(trials=early, log=log(mean_last=0.85), evaluating=None))


def test_a_job_that_ends_above_what_short_trials_reach_was_only_early() -> None:
    """After ten rounds 0.6, dealt again IID 0.8; its own log ends at 0.85: not short. One that ends at 0.7 is."""
    early = trials(job=outcome(0.6), reference=outcome(0.6), knobs={"iid": outcome(0.8)})
    assert not underperforms(job(trials=early, log=log(mean_last=0.85)))
    assert underperforms(job(trials=early, log=log(mean_last=0.7)))
    assert underperforms(job(trials=early, log=None))
