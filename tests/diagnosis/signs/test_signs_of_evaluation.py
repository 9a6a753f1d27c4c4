"""Signs of what is reported, on made-up reports and logs."""

from dataclasses import replace
from typing import Any

import pytest
from evidence_of import bare, data, evaluating, exam, job, log, round_of, rounds

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.signs.evaluation import SIGNS
from fedlens.diagnosis.signs.evaluation.constant import one_class_is_answered
from fedlens.diagnosis.signs.evaluation.digits import digits_are_made_up
from fedlens.diagnosis.signs.evaluation.flat import the_same_is_reported
from fedlens.diagnosis.signs.evaluation.loss import loss_is_divided_wrongly
from fedlens.diagnosis.signs.evaluation.other import another_metric_is_reported
from fedlens.diagnosis.signs.evaluation.scale import a_count_is_reported
from fedlens.diagnosis.signs.evaluation.single import one_round_is_quoted
from fedlens.diagnosis.signs.evaluation.size import logged_of_fewer_examples, reported_of_training_data
from fedlens.diagnosis.signs.evaluation.unsteady import evaluation_is_random


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.__name__)
def test_honest_reports_and_none_at_all_are_silent(sign: Any) -> None:
    assert sign(job()) is None and sign(bare()) is None
    assert sign(job(evaluating=None)) is None and sign(job(log=None)) is None


OFF = {"reported": (0.1, 0.3, 0.55), "measured": (0.1, 0.5, 0.85)}


@pytest.mark.parametrize(
    "matches, cause",
    [
        ("train", "E1"),
        ("hold-outs", "E1"),
        ("clients' mean", "E4"),
        ("client 7", "E2"),
        ("part of the test set", "E11"),
        ("train mode", "N4"),
    ],
)
def test_what_is_reported_instead_is_named(matches: str, cause: str) -> None:
    finding = another_metric_is_reported(job(evaluating=evaluating(matches=matches, **OFF)))
    assert finding is not None and (finding.cause, finding.certainty) == (cause, Certainty.FOUND)
    assert finding.silent and finding.weight == pytest.approx(0.3)  # 0.85 - 0.55
    assert "55.0 %" in finding.says and "85.0 %" in finding.says and finding.where == "job.py:30"


def test_values_of_few_examples_are_one_clients_and_fine_ones_some_others() -> None:
    few = evaluating(matches="none", quantum=50, **OFF)
    assert another_metric_is_reported(job(evaluating=few, log=None)).cause == "E2"  # type: ignore[union-attr]
    fine = evaluating(matches="none", quantum=None, **OFF)
    assert another_metric_is_reported(job(evaluating=fine, log=None)).cause == "E1"  # type: ignore[union-attr]


def test_values_near_the_models_are_others_where_fewer_labels_are_compared() -> None:
    near = {"reported": (0.12, 0.52, 0.84), "measured": (0.1, 0.5, 0.85)}
    chance = evaluating(matches="none", quantum=50, **near)
    assert another_metric_is_reported(job(evaluating=chance, log=None)) is None
    heard = replace(chance, label_sets=((50, 10), (50, 10)))
    finding = another_metric_is_reported(job(evaluating=heard, log=None))
    assert finding is not None and (finding.cause, finding.certainty) == ("E2", Certainty.FOUND)
    for honest in (
        replace(heard, metric="val_accuracy"),
        replace(heard, steady=0.04),
        replace(heard, label_sets=((500, 10), (500, 10))),
    ):
        assert another_metric_is_reported(job(evaluating=honest, log=None)) is None
    assert another_metric_is_reported(job({"test_size": 50}, evaluating=heard, log=None)) is None


@pytest.mark.parametrize("matches", ["test", "percent", "count", "another model", "undetermined"])
def test_what_other_signs_say_or_nobody_can_is_not_said_here(matches: str) -> None:
    assert another_metric_is_reported(job(evaluating=evaluating(matches=matches, **OFF))) is None


@pytest.mark.parametrize(
    "matches, said",
    [("train", "training accuracy"), ("clients' mean", "mean of clients"), ("none", "validation accuracy")],
)
def test_a_metric_that_says_what_it_is_is_honest(matches: str, said: str) -> None:
    seen = evaluating(matches=matches, quantum=50, **OFF)
    assert another_metric_is_reported(job({"metric": said}, evaluating=seen)) is None
    assert another_metric_is_reported(job({"metric": "test accuracy"}, evaluating=seen)) is not None


def test_a_declared_part_of_the_test_set_is_honest() -> None:
    seen = evaluating(matches="part of the test set", quantum=500, **OFF)
    assert another_metric_is_reported(job({"test_size": 500}, evaluating=seen)) is None
    assert another_metric_is_reported(job({"test_size": 1000}, evaluating=seen)) is not None


def test_other_examples_within_chance_are_healthy() -> None:
    """1,000 test examples: standard error 0.011, and 0.02 off on another set."""
    near = evaluating(matches="none", quantum=None, reported=(0.1, 0.5, 0.83))
    assert another_metric_is_reported(job(evaluating=near, log=None)) is None


def test_the_same_report_of_different_models_is_found() -> None:
    finding = the_same_is_reported(job(evaluating=evaluating(remembers=True, reported=(0.1, 0.1, 0.1))))
    assert finding is not None and (finding.cause, finding.certainty) == ("E5", Certainty.FOUND)


def test_a_flat_log_is_consistent_with_it_unless_the_models_are_as_flat() -> None:
    flat = log(values=(0.1,) * 10, flat=True)
    unknown = {"log": flat, "evaluating": None}
    assert certainty(the_same_is_reported(job(**unknown))) is None  # no model of four changes: the report is true
    changing = tuple(one for one in rounds(3))
    changing = tuple(type(one)(**vars(one) | {"exam": exam(0.3 * at)}) for at, one in enumerate(changing, 1))
    assert certainty(the_same_is_reported(job(**unknown, rounds=changing))) is Certainty.CONSISTENT
    assert the_same_is_reported(job(log=flat, rounds=changing)) is None  # evaluate reports what is measured
    assert the_same_is_reported(job(log=log(values=(0.1,) * 4, flat=True), evaluating=None, rounds=changing)) is None


@pytest.mark.parametrize("size", [10, 32, 64, 128])
def test_a_loss_off_by_a_batchs_size_or_their_number_is_found(size: int) -> None:
    """1,000 examples make ceil(1000 / B) batches: their means summed, or summed and divided by 1,000."""
    count = -(-1000 // size)
    for ratio in (count, count / 1000):
        finding = loss_is_divided_wrongly(job(evaluating=evaluating(loss_ratio=float(ratio))))
        assert finding is not None and (finding.cause, finding.certainty) == ("E3", Certainty.FOUND) and finding.silent
    assert certainty(loss_is_divided_wrongly(job(evaluating=evaluating(loss_ratio=1000.0)))) is Certainty.FOUND


def test_a_loss_of_something_else_is_only_noted() -> None:
    """A training loss of a job that has learned its data by heart is a twentieth of the test loss."""
    assert certainty(loss_is_divided_wrongly(job(evaluating=evaluating(loss_ratio=0.045)))) is Certainty.NOTED
    for healthy in (1.0, 0.5, 2.5, None):  # with weight decay, of other examples, or not told
        assert loss_is_divided_wrongly(job(evaluating=evaluating(loss_ratio=healthy))) is None


def test_counts_are_found_and_percent_is_noted() -> None:
    counted = log(values=(100.0, 560.0, 843.0), scale="count", scale_max=1000.0)
    finding = a_count_is_reported(job(log=counted))
    assert finding is not None and (finding.cause, finding.certainty) == ("E9", Certainty.FOUND)
    assert "843 of 1000" in finding.says
    percent = evaluating(matches="percent", reported=(10.0, 50.0, 85.0))
    assert certainty(a_count_is_reported(job(evaluating=percent))) is Certainty.NOTED
    told = evaluating(matches="count", reported=(10.0, 50.0, 85.0))
    assert certainty(a_count_is_reported(job(evaluating=told))) is Certainty.FOUND


def test_a_log_whose_values_could_be_percent_is_no_sure_count() -> None:
    low = log(values=(2.0, 3.1, float("nan"), 2.6), scale="count", scale_max=None)
    assert certainty(a_count_is_reported(job(log=low, evaluating=None))) is Certainty.CONSISTENT
    assert a_count_is_reported(job(log=log(scale="percent"))) is None


def test_a_log_at_the_share_of_one_class_is_consistent_with_one_answer() -> None:
    stuck = log(values=(0.1, 0.12, 0.1, 0.1, 0.08, 0.1, 0.1, 0.11, 0.1, 0.1), constant=0.7, priors=(0.1,))
    finding = one_class_is_answered(job(log=stuck))
    assert finding is not None and (finding.cause, finding.certainty) == ("E10", Certainty.CONSISTENT)
    local = log(values=stuck.values, constant=0.7, priors=(0.1,), n=50, claimed=1000)
    assert one_class_is_answered(job(log=local)).cause == "P3"  # type: ignore[union-attr]


def test_a_job_that_begins_at_chance_and_learns_is_slow_to_start() -> None:
    rises = log(values=(0.1, 0.1, 0.1, 0.1, 0.2, 0.4, 0.6, 0.7, 0.75, 0.78), constant=0.4, priors=(0.1,))
    assert certainty(one_class_is_answered(job(log=rises))) is Certainty.NOTED
    percent = log(values=tuple(100 * x for x in rises.values), constant=0.4, priors=(0.1,), scale="percent")
    assert certainty(one_class_is_answered(job(log=percent))) is Certainty.NOTED
    assert one_class_is_answered(job(log=log(constant=0.2, priors=(0.1,)))) is None


def test_logged_values_of_fifty_examples_are_found_and_declared_ones_honest() -> None:
    finding = logged_of_fewer_examples(job(log=log(n=50)))
    assert finding is not None and (finding.cause, finding.certainty) == ("E2", Certainty.FOUND)
    assert "50 examples" in finding.says and "1000" in finding.says
    assert logged_of_fewer_examples(job({"metric": "mean of clients' hold-outs"}, log=log(n=50))) is None
    assert logged_of_fewer_examples(job(log=log(n=600))) is None  # no half: rounding may do that
    assert logged_of_fewer_examples(bare(log=log(n=50, claimed=None))) is None


def test_more_digits_than_floats_have_are_found() -> None:
    finding = digits_are_made_up(job(log=log(digits=19)))
    assert finding is not None and (finding.cause, finding.certainty) == ("E9", Certainty.FOUND)
    assert certainty(digits_are_made_up(job(log=log(digits=16, tails=("266125326",))))) is Certainty.CONSISTENT
    assert digits_are_made_up(job(log=log(digits=17))) is None


def test_an_evaluation_that_chance_moves_is_consistent_and_a_little_noted() -> None:
    finding = evaluation_is_random(job(evaluating=evaluating(steady=0.02)))
    assert finding is not None and (finding.cause, finding.certainty) == ("D9", Certainty.CONSISTENT)
    assert "2.0 points" in finding.says
    assert certainty(evaluation_is_random(job(evaluating=evaluating(steady=0.001)))) is Certainty.NOTED
    assert evaluation_is_random(job(evaluating=evaluating(steady=1e-9))) is None


def test_test_inputs_that_are_changed_before_they_are_evaluated_are_another_cause_than_hold_outs() -> None:
    shown = evaluating(**OFF, matches="none", quantum=1000, altered=0.5)
    finding = evaluation_is_random(job(evaluating=shown))
    assert finding is not None and (finding.cause, finding.certainty) == ("D9", Certainty.FOUND)
    assert "50.0 %" in finding.says and finding.weight == pytest.approx(0.3)  # 0.85 - 0.55
    assert another_metric_is_reported(job(evaluating=shown)) is None
    near = evaluating(reported=(0.1, 0.5, 0.84), matches="none", altered=0.5)
    assert evaluation_is_random(job(evaluating=near)) is None  # a point of 1000 examples is chance


def test_another_number_of_the_same_inputs_is_no_hold_out() -> None:
    finding = another_metric_is_reported(job(evaluating=evaluating(**OFF, matches="none", quantum=1000, altered=0.0)))
    assert finding is not None and finding.cause == "E2" and "best so far" in finding.says
    unheard = another_metric_is_reported(job(evaluating=evaluating(**OFF, matches="none", quantum=1000)))
    assert unheard is not None and unheard.cause == "E1"


def test_augmented_hold_outs_are_both_others_and_random() -> None:
    e = job(evaluating=evaluating(**OFF, matches="none", quantum=300, steady=0.01), log=None)
    finding = another_metric_is_reported(e)
    assert finding is not None and finding.cause == "E2" and "D9" not in finding.hides
    assert certainty(evaluation_is_random(e)) is Certainty.FOUND


def test_one_noisy_round_is_noted_in_either_unit() -> None:
    assert certainty(one_round_is_quoted(job(log=log(noise=0.066)))) is Certainty.NOTED
    finding = one_round_is_quoted(job(log=log(noise=6.6, scale="percent")))
    assert finding is not None and "6.6 points" in finding.says
    assert one_round_is_quoted(job(log=log(noise=0.6, scale="percent"))) is None
    assert one_round_is_quoted(job(log=log(noise=66.0, scale="count"))) is None


RIGHT = (211, 703, 1013, 1327, 1499, 1601, 1699)


def unmeasured(size: int, right: tuple[int, ...] = RIGHT, **declared: Any) -> Evidence:
    """A job of 2,000 training and 1,000 test examples that lends no network; so many of `size` are reported right."""
    seen = tuple(round_of(k, reported={"accuracy": n / size}) for k, n in enumerate(right, 1))
    return job({"test_size": 1000, **declared}, rounds=seen, evaluating=evaluating(measured=(), n=0), log=None)


def test_shares_of_all_training_examples_are_found_without_a_network() -> None:
    found = reported_of_training_data(unmeasured(2000))
    assert found is not None and (found.cause, found.certainty, found.where) == ("E1", Certainty.FOUND, "job.py:30")


def test_shares_of_the_test_set_of_anything_else_and_declared_ones_are_not() -> None:
    assert reported_of_training_data(unmeasured(1000, (211, 503, 703, 901, 951))) is None
    assert reported_of_training_data(unmeasured(2000, (200, 700, 1000, 1300, 1500))) is None  # of 1,000 too
    assert reported_of_training_data(unmeasured(1999)) is None  # of neither: a mean over batches, say
    assert reported_of_training_data(unmeasured(2000, metric="train accuracy")) is None
    assert reported_of_training_data(unmeasured(2000, (211,))) is None  # too few values


def test_shares_of_both_sizes_are_those_of_the_test_set() -> None:
    """2,100 training and 1,050 test examples: what is a share of the fewer is one of the more, too."""
    said = {"test_size": 1050}
    held = data(sizes=dict.fromkeys(range(10), 210))
    halves = replace(unmeasured(1050, tuple(n // 2 for n in RIGHT), **said), data=held)
    assert reported_of_training_data(halves) is None
    assert reported_of_training_data(replace(unmeasured(2100, RIGHT, **said), data=held)) is not None
