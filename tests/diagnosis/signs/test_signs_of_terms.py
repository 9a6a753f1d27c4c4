"""Signs of terms beside the loss, and of teachers."""

from typing import Any

import pytest
from evidence_of import job, round_of, visit, watched

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.evidence.rounds import Pull, Tie
from fedlens.diagnosis.signs.loss.proximal import proximal_term_is_wrong
from fedlens.diagnosis.signs.loss.unused import declared_term_is_unused
from fedlens.diagnosis.signs.plumbing.teachers import teacher_falls_silent, teacher_speaks_of_others

MU = 0.1
PROX = {"method": "fedprox", "mu": MU}
FAR = (0.0, 0.1, 0.2, 0.3, 0.4)


def found(finding: Finding | None) -> Finding:
    assert finding is not None and finding.certainty is Certainty.FOUND and finding.evidence
    return finding


def seeing(declared: dict[str, Any], **said: Any) -> Evidence:
    """Two rounds of the same two clients, all of whose visits say the same."""
    visits = tuple(visit(client, watched=watched(**said)) for client in (0, 1))
    return job(declared, rounds=tuple(round_of(number, visits=visits) for number in (1, 2)))


def pulling(low: Any, high: Any = None, off: float = 1e-6, added: bool = True, **changes: Any) -> Evidence:
    """Steps whose coefficients are `low` and `high` at each distance, in two tensors that went equally far."""
    pulls = []
    for distance in FAR[1:]:
        part = distance / 2**0.5
        bottom, top = low(distance), (high or low)(distance)
        sizes = sorted((bottom * part, top * part))
        pulls.append(Pull(distance, bottom, top, sizes[0], sizes[1], off, changes.get("aside"), added))
    said = {key: value for key, value in changes.items() if key != "aside"}
    extra = tuple((distance, MU / 2 * distance**2) for distance in FAR)
    return seeing(said.pop("declared", PROX), beside=True, extra=extra, pulls=tuple(pulls), **said)


def test_a_term_without_any_gradient_compares_weights_with_themselves() -> None:
    def still(count: int, pulls: bool = False) -> Evidence:
        nan = float("nan")
        some = tuple(Pull(d, nan, nan, 0.0, 0.0, nan, None, True) for d in FAR[1 : 1 + count])
        return seeing(PROX, beside=True, pulls=(*some, *([Pull(0.4, 0.1, 0.1, 0.04, 0.04, 1e-7, None, True)] * pulls)))

    itself = found(proximal_term_is_wrong(still(3)))
    assert itself.cause == "H6" and "themselves" in itself.says and "H5" in itself.also
    assert proximal_term_is_wrong(still(3, True)) is None  # at times it pulls
    assert proximal_term_is_wrong(still(0)) is None


def test_a_declared_term_that_nothing_leads_to_is_unused() -> None:
    alone = tuple((distance, 0.0) for distance in FAR)
    absent = found(declared_term_is_unused(seeing(PROX, beside=False, extra=alone)))
    assert absent.cause == "H5" and "not in the objective" in absent.says
    valued = found(declared_term_is_unused(seeing(PROX, beside=False, extra=tuple((d, d**2) for d in FAR))))
    assert "no gradient" in valued.says
    assert declared_term_is_unused(seeing({"method": "MOON"}, beside=False, extra=alone)) is not None


@pytest.mark.parametrize("beside", [True, None])
def test_a_term_that_is_there_or_cannot_be_seen_is_not_unused(beside: bool | None) -> None:
    assert declared_term_is_unused(seeing(PROX, beside=beside)) is None


@pytest.mark.parametrize(
    "said", [{}, {"method": "fedavg"}, {"mu": 0.0, "method": "scaffold"}, {"method": "distillation"}]
)
def test_a_job_that_declares_no_term_needs_none(said: dict[str, Any]) -> None:
    assert declared_term_is_unused(seeing(said, beside=False)) is None


def test_one_visit_with_the_term_is_enough() -> None:
    visits = tuple(visit(client, watched=watched(beside=client == 1)) for client in (0, 1))
    assert declared_term_is_unused(job(PROX, rounds=(round_of(1, visits=visits),))) is None


def test_mu_times_the_distance_is_healthy() -> None:
    assert proximal_term_is_wrong(pulling(lambda d: MU)) is None
    assert proximal_term_is_wrong(pulling(lambda d: 1.005 * MU)) is None


def test_no_half_is_a_convention_and_other_factors_are_not() -> None:
    noted = proximal_term_is_wrong(pulling(lambda d: 2 * MU))
    assert noted is not None and noted.certainty is Certainty.NOTED
    for factor in (0.5, -1.0, 10.0):
        assert found(proximal_term_is_wrong(pulling(lambda d, f=factor: f * MU))).cause == "H6"


def test_the_factor_of_a_scaled_objective_or_of_an_unknown_mu_is_not_judged() -> None:
    assert proximal_term_is_wrong(pulling(lambda d: MU / 4, added=False)) is None
    assert proximal_term_is_wrong(pulling(lambda d: 7.0, declared={"method": "fedprox"})) is None


def test_one_strength_at_any_distance_is_no_square() -> None:
    whole = found(proximal_term_is_wrong(pulling(lambda d: MU / 2 / d)))
    assert "whole model" in whole.says
    e = seeing(PROX, pulls=tuple(Pull(d, 0.1 / d, 0.9 / d, 0.05, 0.05, 1e-7, None, True) for d in FAR[1:]))
    assert "single tensors" in found(proximal_term_is_wrong(e)).says


def test_a_strength_that_changes_otherwise_is_not_judged() -> None:
    assert proximal_term_is_wrong(pulling(lambda d: MU * (1 + d))) is None


def test_a_mean_instead_of_a_sum_is_too_weak() -> None:
    assert "mean" in found(proximal_term_is_wrong(pulling(lambda d: MU / 800, lambda d: MU / 10))).says
    by_layer = pulling(lambda d: MU / 2, lambda d: MU)
    assert proximal_term_is_wrong(by_layer) is None


def test_another_point_is_named_and_a_pull_to_zero_beside_is_not() -> None:
    assert "another point" in found(proximal_term_is_wrong(pulling(lambda d: MU, off=0.9, aside=0.8))).says
    assert proximal_term_is_wrong(pulling(lambda d: MU, off=0.9, aside=1e-4)) is None
    assert proximal_term_is_wrong(pulling(lambda d: MU, off=0.9, aside=None)) is None


def test_terms_are_judged_where_a_proximal_one_is_declared_and_the_model_was_loaded() -> None:
    for said in ({}, {"method": "feddyn", "mu": MU}, {"method": "moon", "mu": 1.0}):
        assert proximal_term_is_wrong(pulling(lambda d: 5.0, declared=said)) is None
    assert proximal_term_is_wrong(pulling(lambda d: 5.0, start=0.2)) is None


ROWS, FREEDOM = 300, 81
FULL = ROWS * 9.0
NOTHING, GOOD = Tie(80.0, FREEDOM, FULL), Tie(0.8 * FULL, FREEDOM, FULL)


def taught(**said: Any) -> Evidence:
    base = {
        "beside": True,
        "teacher_rows": ROWS,
        "teacher": 0.1,
        "student": 0.8,
        "teacher_chance": 0.1,
        "teacher_tie": NOTHING,
        "student_tie": GOOD,
    }
    return seeing({"method": "distillation"}, **{**base, **said})


def test_a_teacher_whose_answers_say_nothing_of_the_labels_speaks_of_other_examples() -> None:
    finding = found(teacher_speaks_of_others(taught()))
    assert finding.cause == "B5" and "10.0 % of its rows" in finding.says


def test_poor_teachers_and_poor_students_are_healthy() -> None:
    poor = Tie(0.15 * FULL, FREEDOM, FULL)
    assert teacher_speaks_of_others(taught(teacher_tie=poor)) is None
    assert teacher_speaks_of_others(taught(student_tie=NOTHING)) is None
    assert teacher_speaks_of_others(taught(teacher_tie=Tie(0.0, 0, 0.0))) is None


def test_few_rows_and_first_rounds_say_nothing() -> None:
    few = {"teacher_rows": 40, "teacher_tie": Tie(80.0, FREEDOM, 360.0), "student_tie": Tie(290.0, FREEDOM, 360.0)}
    assert teacher_speaks_of_others(taught(**few)) is None
    e = taught()
    assert teacher_speaks_of_others(job({"method": "distillation"}, rounds=e.rounds[:1])) is None


def teaching(*rounds_: tuple[dict[str, Any], ...], declared: dict[str, Any] | None = None) -> Evidence:
    seen = [tuple(visit(c, watched=watched(**said)) for c, said in enumerate(one)) for one in rounds_]
    said = {"method": "distillation"} if declared is None else declared
    return job(said, rounds=tuple(round_of(number, visits=one) for number, one in enumerate(seen, 1)))


WITH, WITHOUT = {"teacher_rows": ROWS, "beside": True}, {"beside": False}


def test_teachers_that_fall_silent_are_named() -> None:
    first = (WITHOUT, WITHOUT, WITHOUT, WITHOUT)
    gone = teacher_falls_silent(teaching(first, (WITH, WITHOUT, WITHOUT, WITHOUT)))
    assert gone is not None and gone.cause == "B6" and gone.certainty is Certainty.CONSISTENT
    assert teacher_falls_silent(teaching(first, (WITH, WITH, WITH, WITH))) is None
    assert teacher_falls_silent(teaching(first, (WITH, WITHOUT, WITHOUT, WITHOUT), declared={"method": "moon"})) is None


def test_rows_that_are_all_equal_say_nothing_where_a_teacher_is_declared() -> None:
    """A target of equal rows alone is a penalty on confidence."""
    blank = ({"teacher_blank": True, "beside": True},) * 2
    said = teacher_falls_silent(teaching(blank, blank))
    assert said is not None and "all equal" in said.says
    assert teacher_falls_silent(teaching(blank, blank, declared={})) is None


def test_no_teacher_at_clients_is_only_noted() -> None:
    none = teacher_falls_silent(teaching((WITHOUT,) * 2, (WITHOUT,) * 2))
    assert none is not None and none.certainty is Certainty.NOTED
    assert teacher_falls_silent(teaching((WITHOUT,) * 2)) is None
