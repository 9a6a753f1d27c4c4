"""Signs of the server's sum, on made-up coefficients."""

import pytest
from evidence_of import (
    aggregation,
    effect,
    handling,
    job,
    outcome,
    round_of,
    rounds,
    trials,
    visit,
    watched,
)

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.signs.aggregation.accumulated import sum_is_carried_over
from fedlens.diagnosis.signs.aggregation.crossed import entries_are_crossed
from fedlens.diagnosis.signs.aggregation.divisor import divisor_is_constant
from fedlens.diagnosis.signs.aggregation.dominant import client_dominates
from fedlens.diagnosis.signs.aggregation.inits import clients_begin_apart
from fedlens.diagnosis.signs.aggregation.partial import entries_are_left_out
from fedlens.diagnosis.signs.aggregation.poisoned import not_a_number_is_accepted
from fedlens.diagnosis.signs.aggregation.step import server_steps_wrongly
from fedlens.diagnosis.signs.aggregation.summed import weights_are_no_mean
from fedlens.diagnosis.signs.aggregation.truncated import sum_is_truncated
from fedlens.diagnosis.signs.aggregation.weighting import weighting_is_another
from fedlens.diagnosis.signs.mean import clipped_to, fault

SHARES = (1 / 8, 2 / 8, 5 / 8)  # of 1, 2 and 5 examples


def found(finding: Finding | None) -> Finding:
    """A finding that is exact."""
    assert finding is not None and finding.certainty is Certainty.FOUND
    assert finding.evidence and finding.says and finding.remedy
    return finding


def cause(e: Evidence) -> str | None:
    broken = fault(e)
    return None if broken is None else broken.cause


@pytest.mark.parametrize(
    "weights, current, expected",
    [
        ((1.0, 0.0, 0.0), 1.0, "A1"),  # the first upload alone
        ((0.0, 0.0, 1.0), 1.0, "A1"),  # the last
        ((1 / 3, 2 / 3, 0.0), 1.0, "A1"),  # one is dropped
        ((1.0, 2 / 8, 5 / 8), 15 / 8, "A1"),  # the first whole, the others by shares: 2 - p_0
        ((1.0, 1.0, 1.0), 3.0, "A1"),  # a sum that nobody divided
        ((1.0, 2.0, 5.0), 8.0, "A1"),  # weighted by counts, not divided
        ((1 / 3,) * 3, 1.0, "A3"),
        ((0.00125, 0.0025, 0.00625), 1.0, "A6"),  # a server's rate of 0.01
        ((-1 / 8, -2 / 8, -5 / 8), 1.0, "A6"),  # the wrong sign
        ((2 / 8, 4 / 8, 10 / 8), 1.0, "A6"),  # applied twice
        (SHARES, 0.0, "A6"),  # updates replace the model
        (SHARES, 2.0, "A6"),  # weights added to the model
        ((0.0, 0.0, 0.0), 1.0, "B2"),
        (SHARES, 1.0, None),
        ((0.1251, 0.2499, 0.625), 1.0003, None),  # rounding
    ],
)
def test_coefficients_name_one_fault(weights: tuple[float, ...], current: float, expected: str | None) -> None:
    assert cause(job(aggregation=aggregation(weights=weights, current=current), rounds=())) == expected


def test_a_sum_that_is_wrong_has_exactly_one_sign() -> None:
    for weights in ((1.0, 0.0, 0.0), (1 / 3,) * 3, (-1 / 8, -2 / 8, -5 / 8)):
        e = job(aggregation=aggregation(weights=weights))
        signs = (weights_are_no_mean, weighting_is_another, server_steps_wrongly, divisor_is_constant)
        assert sum(sign(e) is not None for sign in signs) == 1


def test_rounds_show_a_fault_that_made_up_uploads_do_not() -> None:
    seen = rounds(weights=(1.0, 0.0, 0.0, 0.0), residual=1.2, total=1.0)
    assert found(weights_are_no_mean(job(rounds=seen))).cause == "A1"
    assert found(weights_are_no_mean(job(rounds=seen, aggregation=None))).where == "job.py:20"


def test_rounds_that_conserve_the_mean_are_not_judged_by_their_coefficients() -> None:
    """Updates that nearly coincide have coefficients without a meaning, while M02 holds."""
    assert cause(job(rounds=rounds(weights=(0.9, 0.1, -0.3, 0.3), residual=2e-6))) is None


def test_rounding_of_tiny_updates_is_no_leak() -> None:
    """A rate of 1e-5 leaves r = 0.023 from float32 alone."""
    assert cause(job(rounds=rounds(residual=0.023, rounding=0.02, weights=(0.27, 0.23, 0.26, 0.24)))) is None


def test_truncation_is_named_before_the_sum_and_with_the_first_upload_after_it() -> None:
    cut = aggregation(truncated=True, grid=1.0, weights=(0.1, 0.2, 0.6))
    assert found(sum_is_truncated(job(aggregation=cut))).also == ("A1",)
    assert weights_are_no_mean(job(aggregation=cut)) is None
    alone = aggregation(truncated=True, grid=1.0, weights=(1.0, 0.0, 0.0))
    assert found(weights_are_no_mean(job(aggregation=alone))).also == ("A2",)
    assert sum_is_truncated(job(aggregation=alone)) is None


def test_a_fine_grid_or_a_declared_codec_is_no_truncation() -> None:
    assert sum_is_truncated(job(aggregation=aggregation(truncated=True, grid=0.01))) is None
    assert sum_is_truncated(job({"codec": "int8"}, aggregation=aggregation(truncated=True, grid=1.0))) is None


def test_weights_by_examples_where_uniform_is_declared_are_another_weighting() -> None:
    sizes = rounds(visits=tuple(visit(c, examples=100.0 * (1 + c)) for c in range(4)))
    assert found(weighting_is_another(job({"weighting": "uniform"}, rounds=sizes))).cause == "A3"


def test_another_weighting_of_clients_of_one_size_is_noted() -> None:
    finding = weighting_is_another(job({"weighting": "uniform"}))
    assert finding is not None and finding.certainty is Certainty.NOTED


def test_shares_that_are_off_and_add_up_to_another_sum_are_the_sum() -> None:
    seen = aggregation(weights=(1 / 6,) * 3, by_cohort=((3, 0.5), (6, 1.0)))
    assert cause(job(aggregation=seen)) == "A12"
    assert cause(job(aggregation=aggregation(weights=(0.1,) * 3))) == "A6"


def test_weights_that_add_up_by_other_shares_may_be_called_another_weighting() -> None:
    inverse = tuple((1 / n) / (1 + 1 / 2 + 1 / 5) for n in (1, 2, 5))
    assert "A3" in found(weights_are_no_mean(job(aggregation=aggregation(weights=inverse)))).also
    assert "A3" not in found(weights_are_no_mean(job(aggregation=aggregation(weights=(1.0, 0.0, 0.0))))).also


def test_one_number_reported_for_clients_of_different_sizes_says_nothing() -> None:
    wrong = {0: (1.0, 200), 1: (1.0, 400), 2: (1.0, 90)}
    assert found(weighting_is_another(job(handling=handling(examples_wrong=wrong)))).where == "job.py:10"
    assert weighting_is_another(job({"steps": 10}, handling=handling(examples_wrong=wrong))) is None


def test_parameters_that_stay_while_others_are_averaged_are_left_out() -> None:
    fates = {"0.weight": "mean", "1.weight": "kept"}
    e = job(aggregation=aggregation(fates=fates))
    assert found(entries_are_left_out(e)).cause == "A4"
    assert entries_are_left_out(job({"frozen": ("1.",)}, aggregation=aggregation(fates=fates))) is None
    assert found(entries_are_left_out(job(rounds=rounds(dropped=("1.weight",))))).cause == "A4"
    buffers = {"0.weight": "mean", "1.weight": "mean", "2.running_mean": "kept"}
    assert entries_are_left_out(job(aggregation=aggregation(fates=buffers))) is None


def test_earlier_rounds_in_the_sum_are_an_accumulator() -> None:
    seen = (round_of(1), *rounds(3, residual=0.8, past=1.0)[1:])
    assert found(sum_is_carried_over(job(rounds=seen))).cause == "A5"
    assert found(sum_is_carried_over(job(aggregation=aggregation(again=1.0)))).cause == "A5"
    assert sum_is_carried_over(job(rounds=rounds(3, past=0.0))) is None
    assert sum_is_carried_over(job({"server_momentum": 0.9}, rounds=seen)) is None
    unsure = (round_of(1), *rounds(3, residual=0.8, past=0.3, past_error=0.2)[1:])
    assert sum_is_carried_over(job(rounds=unsure)) is None


def test_sums_that_fall_as_one_over_the_round_are_an_accumulator_with_its_divisor() -> None:
    fading = tuple(round_of(n, residual=1 - 1 / n, total=1 / n) for n in range(1, 6))
    assert "A6" in found(sum_is_carried_over(job(rounds=fading))).also
    constant = tuple(round_of(n, residual=0.5, total=0.5) for n in range(1, 6))
    assert sum_is_carried_over(job(rounds=constant)) is None
    assert sum_is_carried_over(job(rounds=fading[:3])) is None


def test_an_accumulator_hides_the_wrong_sums_that_follow() -> None:
    assert {"A1", "A6"} <= found(sum_is_carried_over(job(aggregation=aggregation(again=1.0)))).hides


def test_crossed_entries_are_found_on_both_sides() -> None:
    landed = job(aggregation=aggregation(landed={"0.weight": "1.weight"}))
    assert found(entries_are_crossed(landed)).treatment == "reference-aggregator"
    crossed = job(handling=handling(crossed={"0.weight": "1.weight"}))
    assert found(entries_are_crossed(crossed)).treatment == "reference-client"
    assert entries_are_crossed(crossed).silent  # type: ignore[union-attr]


def test_forged_counts_are_found_and_name_the_client() -> None:
    wrong = {3: (6000.0, 200)}
    assert found(client_dominates(job(handling=handling(examples_wrong=wrong)))).clients == (3,)
    constant = dict.fromkeys(range(10), (1000.0, 200))  # five epochs counted at every client
    assert client_dominates(job(handling=handling(examples_wrong=constant))) is None


def scaled(ratio: float, steps: int = 10) -> Evidence:
    """A client whose update is `ratio` times the others', in a job that falls short by 40 points."""
    norms = tuple(
        visit(c, norm=0.5 * ratio if c == 2 else 0.5 + c / 100, watched=watched(steps=steps if c == 2 else 10))
        for c in range(4)
    )
    return job(rounds=rounds(visits=norms), trials=trials(job=outcome(0.45), own_clients=outcome(0.47)))


def test_a_client_of_thirty_times_the_others_is_supported_by_a_trial() -> None:
    """The reference gains 40 points and the doctor's aggregator alone 2: the clients are at fault."""
    finding = client_dominates(scaled(30.0))
    assert finding is not None and finding.certainty is Certainty.SUPPORTED and finding.clients == (2,)


def test_a_client_with_many_more_steps_is_no_attack() -> None:
    assert client_dominates(scaled(30.0, steps=300)) is None
    assert client_dominates(scaled(3.0)) is None


def test_clients_that_unlearn_their_own_data_are_consistent_with_an_attack() -> None:
    seen = rounds(visits=tuple(visit(c, gain=-2.0 if c == 1 else 0.3) for c in range(5)), wanted=(), weights=())
    short = trials(job=outcome(0.6), own_clients=None, effects={"drop-clients": effect(0.0)})
    finding = client_dominates(job(rounds=seen, trials=short))
    assert finding is not None and finding.certainty is Certainty.CONSISTENT and finding.clients == (1,)


def test_clients_that_overshoot_among_others_that_nearly_do_are_no_attack() -> None:
    gains = (-0.5, -0.4, 0.6, 0.1, 0.6, 0.05, 0.7, 0.2)
    seen = rounds(visits=tuple(visit(c, gain=gain) for c, gain in enumerate(gains)), wanted=(), weights=())
    assert client_dominates(job(rounds=seen, trials=trials(job=outcome(0.6)))) is None


def test_a_few_uploads_that_are_no_numbers_and_are_averaged_are_found() -> None:
    last = round_of(2, visits=tuple(visit(c, finite=c != 1) for c in range(4)), finite=False)
    assert found(not_a_number_is_accepted(job(rounds=(round_of(1), last)))).clients == (1,)
    all_bad = round_of(2, visits=tuple(visit(c, finite=c == 1) for c in range(4)), finite=False)
    assert not_a_number_is_accepted(job(rounds=(all_bad,))) is None  # a rate too large does this


def test_that_a_nan_would_be_passed_on_is_only_noted() -> None:
    finding = not_a_number_is_accepted(job(aggregation=aggregation(non_finite="passed on")))
    assert finding is not None and finding.certainty is Certainty.NOTED


def starting(*starts: float) -> Evidence:
    """Two clients in rounds 1, 2, ..., all starting `starts` away from what was sent."""
    return job(
        rounds=tuple(
            round_of(number, visits=tuple(visit(c, watched=watched(start=start)) for c in (0, 1)))
            for number, start in enumerate(starts, 1)
        )
    )


def test_first_visits_that_start_elsewhere_are_inits_of_their_own() -> None:
    assert found(clients_begin_apart(starting(0.9, 0.0, 0.0))).cause == "A11"
    assert clients_begin_apart(starting(0.9, 0.3, 0.2)) is None  # they never load: B1
    assert clients_begin_apart(starting(1e-4, 0.0)) is None  # half precision


def test_a_divisor_that_ignores_who_came_is_found_even_where_it_fits() -> None:
    seen = aggregation(by_cohort=((3, 1.0), (2, 0.67)))
    silent = found(divisor_is_constant(job(aggregation=seen)))
    assert silent.silent and silent.weight < 0.1
    halved = aggregation(weights=(1 / 16, 2 / 16, 5 / 16), by_cohort=((3, 0.5), (6, 1.0)))
    assert found(divisor_is_constant(job(aggregation=halved))).cause == "A12"
    assert divisor_is_constant(job(aggregation=aggregation(by_cohort=((3, 1.0), (6, 1.0))))) is None
    assert divisor_is_constant(job({"dp": {"clip": 1.0, "noise": 0.01}}, aggregation=seen)) is None


def test_an_undeclared_rule_is_noted_unless_the_job_falls_short() -> None:
    seen = aggregation(rule="median", residual=0.4)
    finding = weights_are_no_mean(job(aggregation=seen))
    assert finding is not None and finding.certainty is Certainty.NOTED
    finding = weights_are_no_mean(job(aggregation=seen, trials=trials(job=outcome(0.5))))
    assert finding is not None and finding.certainty is Certainty.CONSISTENT


def test_a_bound_shows_in_coefficients_that_fall_with_the_norm_and_a_rate_does_not() -> None:
    norms = (0.5, 0.7, 0.9, 1.1)
    seen = tuple(visit(c, norm=norm) for c, norm in enumerate(norms))
    bound = rounds(visits=seen, weights=tuple(0.25 * 0.1 / norm for norm in norms))
    assert clipped_to(job(rounds=bound)) == pytest.approx(0.1)
    assert clipped_to(job(rounds=rounds(visits=seen, weights=(0.25 * 0.1,) * 4))) is None
