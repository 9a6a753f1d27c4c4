"""Signs of the local step, on made-up rates and trials of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from evidence_of import bare, job, learning, log, outcome, round_of, rounds, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.signs.optimisation import SIGNS
from fedlens.diagnosis.signs.optimisation.budget import budget_is_too_small
from fedlens.diagnosis.signs.optimisation.clipped import gradients_are_clipped
from fedlens.diagnosis.signs.optimisation.drifts import rate_drifts
from fedlens.diagnosis.signs.optimisation.frozen import parameters_stand_still
from fedlens.diagnosis.signs.optimisation.large import rate_is_too_large
from fedlens.diagnosis.signs.optimisation.small import rate_is_too_small
from fedlens.diagnosis.signs.optimisation.state import optimizer_state
from fedlens.diagnosis.signs.optimisation.unequal import steps_are_unequal


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


def ailing(declared: Mapping[str, Any] | None = None, **sections: Any) -> Evidence:
    """A job at 0.3 where pooled training reaches 0.86."""
    return job(declared, **{"trials": trials(job=outcome(0.3))} | sections)


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.__name__)
def test_healthy_training_and_none_at_all_are_silent(sign: Any) -> None:
    assert sign(job()) is None and sign(job({"lr": 0.1})) is None and sign(bare()) is None
    assert sign(ailing()) is None


def searched(rate: float, best: float, **changes: Any) -> Evidence:
    """A search over rates found `best`, at which 0.85 is reached; the job is at 0.3."""
    known = {"job": outcome(0.3), "reference": outcome(0.3), "best_rate_outcome": outcome(0.85)}
    return job(trials=trials(rate=rate, best_rate=best, **known | changes))


def test_a_rate_far_below_the_best_is_too_small() -> None:
    finding = rate_is_too_small(searched(1e-5, 0.1))
    assert finding is not None and finding.certainty is Certainty.SUPPORTED
    assert (finding.cause, finding.treatment) == ("O1", "rate=0.1") and finding.weight == pytest.approx(0.55)
    assert rate_is_too_large(searched(1e-5, 0.1)) is None


def test_a_rate_near_the_best_or_as_good_is_not_too_small() -> None:
    assert rate_is_too_small(searched(0.03, 0.1)) is None  # a factor of three
    assert rate_is_too_small(searched(0.01, 0.1, best_rate_outcome=outcome(0.4))) is None  # ten points


def test_a_rate_at_which_the_reference_does_as_well_is_not_what_the_job_suffers_from() -> None:
    assert rate_is_too_small(searched(0.01, 0.1, reference=outcome(0.84))) is None
    assert rate_is_too_large(searched(1.0, 0.1, reference=outcome(0.84))) is None


def test_a_rate_far_above_the_best_is_too_large_also_where_nothing_is_left() -> None:
    finding = rate_is_too_large(searched(3.0, 0.1))
    assert finding is not None and (finding.cause, finding.treatment) == ("O2", "rate=0.1")
    lost = searched(3.0, 0.1, job=outcome(float("nan")), reference=outcome(0.1, finite=False))
    assert rate_is_too_large(lost).weight == pytest.approx(0.85)  # type: ignore[union-attr]
    unrun = searched(3.0, 0.1, job=None)  # then the last round that was examined counts, which reached 0.85
    assert rate_is_too_large(unrun) is None
    unknown = rate_is_too_large(type(unrun)(**vars(unrun) | {"rounds": ()}))
    assert unknown is not None and unknown.weight == pytest.approx(0.85)
    assert rate_is_too_large(searched(0.2, 0.1)) is None
    assert rate_is_too_large(searched(3.0, 0.1, job=outcome(0.8), reference=outcome(0.8))) is None


def training(
    *of_rounds: Mapping[int, float | Sequence[float]], declared: Mapping[str, Any] | None = None, **seen: Any
) -> Evidence:
    """Rounds 1, 2, ... of clients at these rates: one for ten steps, or those of each step."""

    def steps(rate: float | Sequence[float]) -> tuple[float, ...]:
        return (rate,) * 10 if isinstance(rate, float) else tuple(rate)

    return job(
        declared,
        rounds=tuple(
            round_of(number, visits=tuple(visit(c, watched=watched(rates=steps(r), **seen)) for c, r in some.items()))
            for number, some in enumerate(of_rounds, 1)
        ),
    )


SAID = {"lr": 0.1}


def test_a_rate_that_compounds_over_visits_is_found() -> None:
    """Scaled by n / 100 of 200, 50 and 300 examples and written back: times 2, 0.5, 3."""
    compounds = training({0: 0.2, 1: 0.1, 2: 0.3}, {2: 0.9, 0: 1.8, 1: 0.9}, {1: 0.45, 2: 1.35, 0: 2.7})
    finding = rate_drifts(compounds)
    assert finding is not None and finding.certainty is Certainty.FOUND
    assert (finding.cause, finding.clients) == ("O3", ()) and "0.1 to 2.7" in finding.says


def test_a_few_clients_at_another_rate_than_the_declared_are_named() -> None:
    odd = ({0: 0.1, 1: 0.1, 2: 0.1, 3: 10.0}, {0: 0.1, 3: 10.0, 4: 0.1})
    finding = rate_drifts(training(*odd, declared=SAID))
    assert finding is not None and finding.certainty is Certainty.FOUND and finding.clients == (3,)
    assert certainty(rate_drifts(training(*odd))) is Certainty.CONSISTENT  # it may be meant


def test_clients_that_always_have_rates_of_their_own_are_only_noted() -> None:
    own = {0: 0.1, 1: 0.2, 2: 0.05, 3: 0.3}
    assert certainty(rate_drifts(training(own, own))) is Certainty.NOTED
    halved = {client: rate / 2 for client, rate in own.items()}  # and a schedule beside
    assert certainty(rate_drifts(training(own, halved))) is Certainty.NOTED


def test_another_rate_than_the_declared_is_found() -> None:
    finding = rate_drifts(training({0: 0.01, 1: 0.01}, {2: 0.01, 3: 0.01}, declared=SAID))
    assert finding is not None and finding.certainty is Certainty.FOUND
    assert "0.01, declared is 0.1" in finding.says and finding.treatment == "rate=0.1"


@pytest.mark.parametrize(
    "by_round",
    [
        [0.1 * 0.95**number for number in range(1, 7)],  # exponential decay from the first round on
        [0.1 / (1 + number) ** 0.5 for number in range(1, 7)],
        [0.1, 0.1, 0.1, 0.01, 0.01, 0.01],  # by steps
        [0.01, 0.03, 0.05, 0.07],  # a warm-up that has not yet come to its end
        [0.02, 0.06, 0.1, 0.1],
        [0.1, 0.05, 0.02, 0.1, 0.05],  # warm restarts
    ],
    ids=["decay", "root", "steps", "warm-up", "warmed up", "restarts"],
)
def test_schedules_over_rounds_are_healthy(by_round: list[float]) -> None:
    assert rate_drifts(training(*({0: rate, 1: rate} for rate in by_round), declared=SAID)) is None


@pytest.mark.parametrize(
    "steps",
    [
        (0.01, 0.03, 0.06, 0.1, 0.1),  # a warm-up inside every visit
        (0.004, 0.05, 0.1, 0.05, 0.001),  # one cycle
        (0.1, 0.08, 0.05, 0.02),  # cosine
        (0.02, 0.03, 0.04),  # a warm-up longer than the visit
    ],
    ids=["warm-up", "one cycle", "cosine", "long warm-up"],
)
def test_schedules_within_a_visit_are_healthy(steps: tuple[float, ...]) -> None:
    assert rate_drifts(training({0: steps, 1: steps}, {2: steps, 3: steps}, declared=SAID)) is None


def test_a_rate_that_grows_beyond_the_declared_is_found_and_without_a_declaration_noted() -> None:
    grows = [{0: 0.1 * 2**number, 1: 0.1 * 2**number} for number in range(4)]
    assert certainty(rate_drifts(training(*grows, declared=SAID))) is Certainty.FOUND
    assert certainty(rate_drifts(training(*grows))) is Certainty.NOTED


def test_the_declared_rate_may_be_that_of_any_group_of_parameters() -> None:
    """The body at a tenth of the head's rate: the first group is the body."""
    low = {0: 0.01, 1: 0.01}
    assert rate_drifts(training(low, low, declared=SAID, groups=(0.01, 0.1))) is None
    assert rate_drifts(training(low, low, declared=SAID, groups=(0.01, 0.001))) is not None


def test_steps_by_hand_whose_gradients_are_scaled_tell_no_rate() -> None:
    """A step of 0.1 along a clipped gradient looks like a smaller rate, another at each step."""
    clipped = training({0: (0.02, 0.05, 0.1), 1: (0.1, 0.03)}, {2: (0.07, 0.1)}, declared=SAID, optimizer=None)
    assert rate_drifts(clipped) is None
    steady = training({0: 0.001, 1: 0.001}, declared=SAID, optimizer=None)
    assert certainty(rate_drifts(steady)) is Certainty.FOUND


def test_schedules_that_declared_state_carries_from_visit_to_visit_are_healthy() -> None:
    own = training({0: 0.1, 1: 0.1}, {0: 0.05, 2: 0.1}, {0: 0.025, 1: 0.05}, declared={"lr": 0.1, "stateful": True})
    assert rate_drifts(own) is None


def test_rates_that_are_no_numbers_are_passed_over() -> None:
    assert rate_drifts(training({0: (float("nan"),), 1: (0.0,)}, declared=SAID)) is None


def test_moments_of_an_earlier_model_are_named_where_the_job_ails() -> None:
    kept = rounds(2, visits=tuple(visit(c, watched=watched(carried=True)) for c in range(4)))
    assert certainty(optimizer_state(job(rounds=kept))) is Certainty.NOTED
    assert certainty(optimizer_state(ailing(rounds=kept))) is Certainty.CONSISTENT
    assert optimizer_state(ailing({"stateful": True}, rounds=kept)) is None


def test_adam_that_takes_few_steps_is_noted_and_sgd_or_many_steps_are_not() -> None:
    def of(**seen: Any) -> Evidence:
        return ailing(rounds=rounds(2, visits=tuple(visit(c, watched=watched(**seen)) for c in range(4))))

    assert certainty(optimizer_state(of(optimizer="Adam", steps=5))) is Certainty.NOTED
    assert optimizer_state(of(optimizer="Adam", steps=50)) is None
    assert optimizer_state(of(optimizer="SGD", steps=5)) is None


def test_gradients_that_are_always_scaled_are_named_where_the_job_ails() -> None:
    bound = rounds(2, visits=tuple(visit(c, watched=watched(clipped=1.0)) for c in range(4)))
    assert certainty(gradients_are_clipped(job(rounds=bound))) is Certainty.NOTED
    assert certainty(gradients_are_clipped(ailing(rounds=bound))) is Certainty.CONSISTENT
    seldom = rounds(2, visits=tuple(visit(c, watched=watched(clipped=0.4)) for c in range(4)))
    assert gradients_are_clipped(ailing(rounds=seldom)) is None
    apart = rounds(2, visits=tuple(visit(c, watched=watched(clipped=0.4, separately=True)) for c in range(4)))
    assert certainty(gradients_are_clipped(ailing(rounds=apart))) is Certainty.NOTED


def test_a_run_that_ends_while_it_rises_is_short_of_rounds() -> None:
    """Twenty values, a point a round: four points over the last fifth."""
    rising = log(values=tuple(0.3 + 0.012 * k for k in range(20)), rising=0.012, rising_error=0.001)
    finding = budget_is_too_small(job(log=rising))
    assert finding is not None and (finding.cause, finding.certainty) == ("O7", Certainty.CONSISTENT)
    percent = log(values=tuple(30 + 1.2 * k for k in range(20)), rising=1.2, rising_error=0.1, scale="percent")
    assert budget_is_too_small(job(log=percent)).weight == pytest.approx(finding.weight)  # type: ignore[union-attr]


def test_slow_noisy_and_counted_logs_say_nothing_of_the_budget() -> None:
    values = tuple(0.3 + 0.012 * k for k in range(20))
    assert budget_is_too_small(job(log=log(values=values, rising=0.008, rising_error=0.001))) is None
    assert budget_is_too_small(job(log=log(values=values, rising=0.012, rising_error=0.004))) is None
    assert budget_is_too_small(job(log=log(values=values, rising=12.0, rising_error=0.1, scale="count"))) is None


def still(*names: str, **changes: Any) -> tuple[Any, ...]:
    return rounds(2, visits=tuple(visit(c, still=names, **changes) for c in range(4)))


def test_a_parameter_that_never_moves_is_named_where_the_job_ails() -> None:
    assert certainty(parameters_stand_still(job(rounds=still("1.weight")))) is Certainty.NOTED
    finding = parameters_stand_still(ailing(rounds=still("1.weight")))
    assert finding is not None and (finding.cause, finding.certainty) == ("O8", Certainty.FOUND)  # it could be trained
    assert certainty(parameters_stand_still(ailing(rounds=still("1.weight"), learning=None))) is Certainty.CONSISTENT


def test_a_parameter_without_gradient_in_centralised_training_is_the_networks() -> None:
    seen = learning(zero_gradients=("1.weight",))
    finding = parameters_stand_still(ailing(rounds=still("1.weight"), learning=seen))
    assert finding is not None and finding.cause == "K3"
    asked = learning(zero_gradients=("1.weight",), frozen=("1.weight",))
    assert parameters_stand_still(ailing(rounds=still("1.weight"), learning=asked)).cause == "O8"  # type: ignore[union-attr]


def test_declared_frozen_sparse_and_sometimes_moving_parameters_are_healthy() -> None:
    assert parameters_stand_still(ailing({"frozen": ("1.",)}, rounds=still("1.weight"))) is None
    assert parameters_stand_still(ailing({"local_entries": ("1.",)}, rounds=still("1.weight"))) is None
    assert parameters_stand_still(ailing(rounds=still("1.weight", zero=0.99))) is None  # a codec's zeros
    once = (*still("1.weight"), round_of(3))
    assert parameters_stand_still(ailing(rounds=once)) is None
    assert parameters_stand_still(ailing(rounds=still("0.weight", "1.weight"))) is None  # B4 or D7


def test_unequal_steps_are_only_ever_noted() -> None:
    uneven = rounds(2, visits=tuple(visit(c, watched=watched(steps=10 * (c + 1) ** 2)) for c in range(4)))
    assert certainty(steps_are_unequal(ailing(rounds=uneven))) is Certainty.NOTED
    even = rounds(2, visits=tuple(visit(c, watched=watched(steps=10 + 10 * c)) for c in range(4)))
    assert steps_are_unequal(ailing(rounds=even)) is None


def test_what_a_codec_leaves_out_is_not_frozen() -> None:
    """Zeros are counted in the first round watched; the later ones say 0 of them."""
    first, *others = still("1.weight")
    sparse = tuple(replace(one, zero=0.999) for one in first.visits)
    assert parameters_stand_still(ailing(rounds=(replace(first, visits=sparse), *others))) is None
