"""What a remedy must leave sound beside accuracy: measured, weighed against its error, and part of the proof."""

import math

import pytest
import softmax_job as jobs
import torch

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.examiner import Examiner
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.repair.health import Health, calibration_error, health, sides
from fedlens.diagnosis.repair.treated import Treated
from fedlens.diagnosis.repair.treatment import treat
from fedlens.diagnosis.subject.patient import Subject

torch.set_num_threads(1)


def answers(confidence: float, count: int) -> torch.Tensor:
    """Logits of two classes that call class 0 with that probability."""
    row = torch.tensor([confidence, 1 - confidence]).log()
    return row.expand(count, 2)


def test_the_calibration_error_is_how_far_confidence_and_accuracy_are_apart_bin_by_bin():
    sure, unsure = answers(0.9, 10), answers(0.6, 30)
    labels = torch.tensor([0] * 6 + [1] * 4 + [0] * 30)  # 6 of 10 are right where 9 should be, 30 of 30 where 18
    wanted = (10 * abs(0.6 - 0.9) + 30 * abs(1.0 - 0.6)) / 40
    assert calibration_error(torch.cat([sure, unsure]), labels) == pytest.approx(wanted)
    assert calibration_error(torch.cat([sure, unsure]).exp(), labels) == pytest.approx(wanted)


def test_errors_of_one_bin_that_cancel_are_none():
    labels = torch.tensor([0] * 9 + [1])
    assert calibration_error(answers(0.9, 10), labels) == pytest.approx(0, abs=1e-6)


def test_answers_that_are_no_numbers_are_never_right():
    assert calibration_error(torch.tensor([[1.0, math.nan], [2.0, 1.0]]), torch.tensor([0, 0])) == 1.0


def examiner() -> Examiner:
    return Examiner(Subject(jobs.Renamed, "").fresh(0))


def trained() -> dict[str, torch.Tensor]:
    patient = Subject(jobs.Softmax, "").fresh(0)
    state = patient.init
    for number in range(1, 11):
        sent = [patient.fit(client, state, number) for client in patient.sample(number)]
        state = patient.aggregate(state, sent, number)
    return state


def test_the_worst_client_is_measured_on_its_own_examples_with_what_was_wrong_put_right():
    state, back = trained(), torch.tensor(jobs.Renamed.back)

    def right(client, inputs, labels):
        return inputs, back[labels] if client in jobs.Renamed.bad else labels

    assert health(examiner(), state).worst < 0.2 and health(examiner(), state, right).worst > 0.7


def test_a_model_that_is_not_finite_serves_nobody():
    state = {name: value * math.nan for name, value in trained().items()}
    assert health(examiner(), state)[::2] == (0.0, 1.0)


def told(worst: float, calibration: float) -> list[Health]:
    """Three seeds of a model, each measured on 400 and on 1000 examples."""
    return [Health(worst + shift, 400, calibration, 1000) for shift in (-0.01, 0.0, 0.01)]


def test_a_measure_is_spoiled_where_it_falls_by_more_than_a_standard_error():
    client, sure = sides(told(0.8, 0.05), told(0.7, 0.05), list)
    counted = math.sqrt(3 * (0.8 * 0.2 + 0.7 * 0.3) / 400) / 3
    assert client.worse and not sure.worse and client.error == pytest.approx(counted, rel=0.01)
    assert (client.before, client.after) == (pytest.approx(0.8), pytest.approx(0.7))
    assert not sides(told(0.8, 0.05), told(0.8 - 0.9 * counted, 0.05), list)[0].worse


def test_what_a_sound_job_has_too_is_not_spoiled():
    before, after = told(0.5, 0.01), told(0.8, 0.06)
    assert sides(before, after, lambda: told(0.8, 0.02))[1].worse
    assert not sides(before, after, lambda: told(0.8, 0.06))[1].worse
    assert not sides(before, after, list)[1].worse


def test_the_reference_is_asked_for_only_where_it_decides():
    def never():
        raise AssertionError

    assert [one.worse for one in sides(told(0.5, 0.08), told(0.8, 0.03), never)] == [False, False]
    assert sides([], [], never) == () and sides(told(0.5, 0.1), [], never) == ()


def test_what_a_job_does_not_lend_is_not_judged():
    lacking = [one._replace(worst=math.nan) for one in told(0.5, 0.1)]
    assert [one.name for one in sides(lacking, lacking, list)] == ["calibration error"]


def tried(job: type, cause: str, treatment: str, length: int, **more: object) -> Treated:
    subject = Subject(job, "")
    evidence = Evidence(facts=subject.fresh().facts())
    found = treat(subject, evidence, Finding(cause, Certainty.FOUND, "", (), "", treatment=treatment), length=length)
    assert found is not None
    return found


def test_a_gain_that_spoils_something_is_not_proven_and_the_page_says_what():
    found = tried(jobs.Sparse, "X1", "feedback", 6)
    assert found.interval[0] > 0 and [one.name for one in found.beside if one.worse] == ["calibration error"]
    assert not found.verified and "Not proven: calibration error worse" in found.says


def test_a_proof_tells_both_measures_before_and_after():
    found = tried(jobs.FirstOnly, "A1", "reference-aggregator", 6)
    client, sure = found.beside
    assert found.verified and client.after > client.before and not sure.worse
    assert f"worst client {100 * client.before:.1f}% -> {100 * client.after:.1f}%" in found.says
    assert "calibration error" in found.says
