"""Signs of who takes part."""

from evidence_of import aggregation, data, effect, facts, job, outcome, participation, round_of, trials, visit

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.signs.participation.biased import participation_is_biased
from fedlens.diagnosis.signs.participation.dropped import answers_are_dropped
from fedlens.diagnosis.signs.participation.noise import cohort_is_too_small
from fedlens.diagnosis.signs.participation.small import cohort_is_smaller
from fedlens.diagnosis.signs.participation.subset import clients_are_the_same


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


def failing(full: float, **sections: object) -> Evidence:
    """A job 40 points short, in which everybody in every round gains `full`."""
    return job(trials=trials(job=outcome(0.45), effects={"full-participation": effect(full)}), **sections)


def test_one_cohort_for_ever_is_found() -> None:
    """By chance: (10 over 4)^-19 = 210^-19."""
    same = participation(distinct=4, repeated=1.0, p=1e-30)
    assert certainty(clients_are_the_same(job(participation=same))) is Certainty.FOUND


def test_the_same_cohort_in_two_rounds_is_chance() -> None:
    same = participation(distinct=9, repeated=1.0, p=0.5, sizes=(9, 9))  # 1 in 10
    assert clients_are_the_same(job(facts=facts(rounds=2, cohort=9), participation=same)) is None


def test_everybody_in_every_round_is_healthy() -> None:
    everyone = participation(distinct=10, expected=10.0, repeated=1.0, sizes=(10, 10), p=1.0)
    assert clients_are_the_same(job(facts=facts(cohort=10), participation=everyone)) is None


def test_a_preferred_half_is_noted_and_supported_by_a_trial() -> None:
    half = participation(distinct=5, p=1e-9, repeated=0.0)
    assert certainty(clients_are_the_same(job(participation=half))) is Certainty.NOTED
    assert certainty(clients_are_the_same(failing(0.3, participation=half))) is Certainty.SUPPORTED
    assert certainty(clients_are_the_same(failing(0.0, participation=half))) is Certainty.CONSISTENT


def test_a_cohort_of_one_is_found_and_one_that_varies_is_not() -> None:
    assert certainty(cohort_is_smaller(job(participation=participation(sizes=(1, 1))))) is Certainty.FOUND
    assert certainty(cohort_is_smaller(job(participation=participation(sizes=(3, 3))))) is Certainty.FOUND
    assert cohort_is_smaller(job(participation=participation(sizes=(2, 7)))) is None
    assert cohort_is_smaller(job(facts=facts(clients=3), participation=participation(sizes=(3, 3)))) is None
    assert certainty(cohort_is_smaller(job(participation=participation(twice=True)))) is Certainty.NOTED


def test_classes_that_nobody_who_is_asked_holds_are_found() -> None:
    assert certainty(participation_is_biased(job(participation=participation(never=(7,))))) is Certainty.FOUND
    assert certainty(participation_is_biased(job(participation=participation(outside=(10,))))) is Certainty.FOUND


def test_preference_without_harm_is_noted() -> None:
    by_size = participation(p=1e-8)
    assert certainty(participation_is_biased(job(participation=by_size))) is Certainty.NOTED
    assert certainty(participation_is_biased(failing(0.2, participation=by_size))) is Certainty.SUPPORTED
    assert participation_is_biased(job(participation=participation(p=1e-3))) is None


def test_a_small_cohort_is_blamed_by_a_trial_alone() -> None:
    assert certainty(cohort_is_too_small(failing(0.2))) is Certainty.SUPPORTED
    assert cohort_is_too_small(failing(0.0)) is None
    assert cohort_is_too_small(failing(0.2, facts=facts(cohort=8))) is None


def test_visits_that_bring_nothing_back_are_found_unless_declared() -> None:
    lost = (round_of(1, visits=(visit(0), visit(1)), asked=(0, 1, 2, 3)),)
    finding = answers_are_dropped(job(rounds=lost))
    assert certainty(finding) is Certainty.FOUND and finding is not None and finding.clients == (2, 3)
    assert answers_are_dropped(job({"min_clients": 2}, rounds=lost)) is None
    assert certainty(answers_are_dropped(job(aggregation=aggregation(empty="passed on")))) is Certainty.NOTED


def test_clients_that_hold_examples_and_bring_nothing_are_dropped_answers() -> None:
    empty = tuple(visit(c, examples=0.0 if c == 2 else 200.0, norm=0.0 if c == 2 else 0.5) for c in range(4))
    seen = (round_of(1, visits=empty),)
    finding = answers_are_dropped(job(rounds=seen))
    assert certainty(finding) is Certainty.FOUND and finding is not None and finding.clients == (2,)
    counts = {c: (0,) * 10 if c == 2 else (20,) * 10 for c in range(10)}
    assert answers_are_dropped(job(rounds=seen, data=data(counts=counts))) is None  # it holds nothing
    assert answers_are_dropped(job({"min_clients": 3}, rounds=seen)) is None
