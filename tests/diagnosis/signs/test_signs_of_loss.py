"""Signs of the loss and the head; those of declared terms are in test_signs_of_terms."""

from dataclasses import replace
from typing import Any

import pytest
from evidence_of import bare, job, labels, learning, outcome, rounds, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.signs.loss.constant import weights_start_alike
from fedlens.diagnosis.signs.loss.detached import loss_has_no_gradient
from fedlens.diagnosis.signs.loss.likelihood import likelihood_of_logits
from fedlens.diagnosis.signs.loss.misfit import one_batch_is_not_learned
from fedlens.diagnosis.signs.loss.spread import outputs_are_spread
from fedlens.diagnosis.signs.loss.summed import loss_is_a_sum
from fedlens.diagnosis.signs.loss.twice import softmax_comes_twice
from fedlens.diagnosis.signs.optimisation.small import rate_is_too_small

BINARY = "binary_cross_entropy_with_logits"
SIGNS = (
    outputs_are_spread,
    softmax_comes_twice,
    likelihood_of_logits,
    loss_is_a_sum,
    weights_start_alike,
    loss_has_no_gradient,
    one_batch_is_not_learned,
)


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


def given(**changes: Any) -> tuple[Any, ...]:
    """Two rounds in which the loss was given this at every client."""
    return rounds(2, visits=tuple(visit(c, watched=watched(**changes)) for c in range(4)))


def ailing(**sections: Any) -> Evidence:
    """A job at 0.3 where pooled training reaches 0.86."""
    return job(**{"trials": trials(job=outcome(0.3))} | sections)


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.__name__)
def test_healthy_losses_and_none_at_all_are_silent(sign: Any) -> None:
    assert sign(job()) is None and sign(bare()) is None and sign(ailing()) is None


def test_probabilities_in_cross_entropy_are_found_with_their_line() -> None:
    finding = softmax_comes_twice(job(rounds=given(probabilities=True), learning=learning(overfit=0.6)))
    assert finding is not None and finding.certainty is Certainty.FOUND
    assert (finding.cause, finding.where, finding.treatment) == ("H1", "job.py:15", "loss=cross-entropy")
    assert "H3" in finding.also and {line.by for line in finding.evidence} == {"M14", "M13"}


def test_what_the_graph_shows_to_be_squashed_is_found_in_any_loss() -> None:
    binary = softmax_comes_twice(job(rounds=given(loss=BINARY, outputs=10, probabilities=True, squashed="softmax")))
    assert binary is not None and (binary.certainty, binary.cause) == (Certainty.FOUND, "H3")
    own = softmax_comes_twice(job(rounds=given(loss=None, probabilities=None, squashed="softmax")))
    assert own is not None and (own.certainty, own.cause) == (Certainty.FOUND, "H1")
    assert {"O1", "K1"} <= own.hides


def test_a_sigmoid_before_cross_entropy_may_be_meant_where_the_job_is_well() -> None:
    before = given(squashed="sigmoid")
    assert certainty(softmax_comes_twice(job(rounds=before))) is Certainty.NOTED
    assert certainty(softmax_comes_twice(ailing(rounds=before))) is Certainty.FOUND
    assert certainty(softmax_comes_twice(job(rounds=given(squashed="sigmoid", loss=BINARY)))) is Certainty.FOUND


def test_a_softmax_whose_logarithm_is_taken_is_healthy() -> None:
    """Of nll_loss only its log probabilities are seen, and that the network answers probabilities is no fault."""
    proper = given(loss="nll_loss", probabilities=None, logits=False)
    assert softmax_comes_twice(ailing(rounds=proper, learning=learning(sums_to_one=True, overfit=0.5))) is None


def test_a_softmax_before_a_loss_that_was_not_seen_is_consistent_only_where_nothing_is_learned() -> None:
    unseen = given(loss=None, probabilities=None, logits=None)
    slow = learning(sums_to_one=True, overfit=0.5)
    assert certainty(softmax_comes_twice(ailing(rounds=unseen, learning=slow))) is Certainty.CONSISTENT
    assert softmax_comes_twice(job(rounds=unseen, learning=slow)) is None
    assert softmax_comes_twice(ailing(rounds=unseen, learning=learning(sums_to_one=True))) is None


def test_single_logits_between_0_and_1_are_healthy_for_a_while() -> None:
    """A binary head with a bias of 0.2 answers so at its start."""
    sigmoid = {"loss": "binary_cross_entropy_with_logits", "outputs": 1}
    always = given(probabilities=True, **sigmoid)
    assert softmax_comes_twice(job(rounds=always)) is None
    assert certainty(softmax_comes_twice(ailing(rounds=always))) is Certainty.CONSISTENT
    later = (*always[:1], *given(probabilities=False, **sigmoid)[1:])
    assert softmax_comes_twice(ailing(rounds=later)) is None


def test_the_likelihood_of_raw_outputs_is_found() -> None:
    raw = given(loss="nll_loss", probabilities=None, logits=True, loss_first=-0.2, loss_last=-11.0)
    finding = likelihood_of_logits(job(rounds=raw))
    assert finding is not None and finding.certainty is Certainty.FOUND
    assert "-11" in finding.says and finding.where == "job.py:15" and {"O2", "A10"} <= finding.hides


def test_an_objective_below_zero_that_has_other_terms_is_healthy() -> None:
    """FedDyn's linear term, or the entropy of predictions, may be more negative than cross-entropy is positive."""
    assert likelihood_of_logits(ailing(rounds=given(loss_first=2.1, loss_last=-0.4))) is None
    proper = given(loss="nll_loss", logits=False, loss_last=-0.4)
    assert likelihood_of_logits(ailing(rounds=proper)) is None
    assert likelihood_of_logits(ailing(learning=learning(negative=True))) is None


def test_an_unseen_loss_below_zero_is_consistent_with_it() -> None:
    unseen = {"rounds": given(loss=None, logits=None), "learning": learning(negative=True, first_loss=-0.3)}
    assert certainty(likelihood_of_logits(ailing(**unseen))) is Certainty.CONSISTENT
    assert likelihood_of_logits(job(**unseen)) is None
    known = {**unseen, "learning": learning(negative=True, log_probabilities=True)}
    assert likelihood_of_logits(ailing(**known)) is None


def test_a_sum_is_noted_and_a_suspect_only_where_the_job_ails() -> None:
    assert certainty(loss_is_a_sum(job(learning=learning(grows=1.0)))) is Certainty.NOTED
    finding = loss_is_a_sum(ailing(learning=learning(grows=1.0)))
    assert finding is not None and finding.certainty is Certainty.CONSISTENT and "2 times" in finding.says
    assert loss_is_a_sum(ailing(learning=learning(grows=0.3))) is None  # a mean beside a term that is none
    assert loss_is_a_sum(ailing(learning=learning(grows=None))) is None


def test_outputs_that_are_compared_with_every_label_are_found() -> None:
    spread = rounds(visits=tuple(visit(c, watched=watched(loss="mse_loss", spread=True)) for c in range(4)))
    finding = outputs_are_spread(job(rounds=spread))
    assert finding is not None and (finding.cause, finding.certainty) == ("H8", Certainty.FOUND)
    assert "K1" in finding.hides and finding.where == "job.py:15"
    fits = rounds(visits=tuple(visit(c, watched=watched(loss="mse_loss", spread=c > 0)) for c in range(4)))
    assert outputs_are_spread(job(rounds=fits)) is None and outputs_are_spread(job()) is None


def summing(value: float, **changes: Any) -> Evidence:
    """Clients whose first batch of 20 gave `value` in sum, at 0.09; the job's own loss, a mean, reaches 0.85."""
    seen = rounds(visits=tuple(visit(c, watched=watched(reduction="sum", loss_first=value)) for c in range(4)))
    stuck = trials(job=outcome(0.09), own_clients=outcome(0.1))
    return job(**{"rounds": seen, "trials": stuck} | changes)


def test_clients_that_train_by_a_sum_are_supported_by_a_reference_at_their_rate() -> None:
    finding = loss_is_a_sum(summing(20 * 2.31))
    assert finding is not None and finding.certainty is Certainty.SUPPORTED and "A9" in finding.hides
    assert "20 times" in finding.says
    assert loss_is_a_sum(summing(2.31)) is None  # the sum is divided before it is trained by
    assert certainty(loss_is_a_sum(summing(20 * 2.31, trials=trials()))) is Certainty.NOTED  # with a rate to suit
    early = trials(job=outcome(0.3), reference=outcome(0.1), own_clients=outcome(0.3))  # far ahead of its reference
    assert certainty(loss_is_a_sum(summing(20 * 2.31, trials=early))) is Certainty.NOTED
    slow = replace(early, rate=0.005, best_rate=0.1, best_rate_outcome=outcome(0.8))
    assert rate_is_too_small(summing(20 * 2.31, trials=slow)) is None  # 0.005 times 20 is what acts
    assert certainty(rate_is_too_small(job(trials=slow))) is Certainty.SUPPORTED
    elsewhere = trials(job=outcome(0.09), own_clients=outcome(0.85))
    assert certainty(loss_is_a_sum(summing(20 * 2.31, trials=elsewhere))) is Certainty.CONSISTENT


def test_weights_that_stay_alike_are_found_where_nothing_is_learned() -> None:
    alike = learning(constant_init=("0.weight", "1.weight"), zero_gradients=("0.weight",), identical=True)
    finding = weights_start_alike(ailing(learning=alike))
    assert finding is not None and finding.certainty is Certainty.FOUND and finding.cause == "H7"
    assert "0.weight, 1.weight" in finding.says and "O1" in finding.hides
    assert certainty(weights_start_alike(bare(learning=alike))) is Certainty.FOUND  # nothing says that it is well


def test_a_network_that_answers_the_same_to_everything_is_found() -> None:
    finding = weights_start_alike(ailing(learning=learning(identical=True, zero_gradients=("0.weight",))))
    assert finding is not None and "the same to every input" in finding.says


def test_layers_of_zeros_that_learn_are_healthy() -> None:
    """A head of zeros, adapters of low rank and layer scales: constant at first, apart after the first steps."""
    assert weights_start_alike(ailing(learning=learning(constant_init=("1.weight",)))) is None
    assert weights_start_alike(ailing(learning=learning(zero_gradients=("table.weight",)))) is None
    parallel = learning(constant_init=("left.weight", "right.weight"))  # a linear model of two parts
    assert certainty(weights_start_alike(job(learning=parallel))) is Certainty.NOTED


def test_a_batch_that_no_rate_learns_is_consistent_with_a_misfit() -> None:
    poor = learning(overfit=0.2, overfit_best=0.4, parameters=10_000)
    finding = one_batch_is_not_learned(ailing(learning=poor))
    assert finding is not None and (finding.cause, finding.certainty) == ("H8", Certainty.CONSISTENT)
    rectified = learning(overfit_best=0.4, parameters=10_000, nonnegative=True)
    assert one_batch_is_not_learned(ailing(learning=rectified)).cause == "H7"  # type: ignore[union-attr]


def test_small_networks_slow_ones_and_healthy_jobs_need_not_learn_a_batch_by_heart() -> None:
    poor = learning(overfit_best=0.4, parameters=10_000)
    assert one_batch_is_not_learned(job(learning=poor)) is None
    assert one_batch_is_not_learned(ailing(learning=learning(overfit_best=0.4, parameters=1_500))) is None
    assert one_batch_is_not_learned(ailing(learning=learning(overfit_best=None, parameters=10_000))) is None
    hard = {"learning": poor, "labels": labels(learnable=0.35), "trials": None}
    assert one_batch_is_not_learned(job(**hard)) is None


NONE = {"gradient_norm": None, "sent_back": None}


def asked(idle: tuple[int, ...], norm: float = 0.0, **changes: Any) -> Evidence:
    """Two rounds of eight clients, of which `idle` train without a gradient."""
    vain = watched(**(NONE | changes))
    sent = tuple(visit(c, norm=norm, size=norm, watched=vain) if c in idle else visit(c) for c in range(8))
    return ailing(rounds=rounds(2, visits=sent))


def test_backward_that_reaches_no_parameter_is_found() -> None:
    finding = loss_has_no_gradient(asked(tuple(range(8))))
    assert finding is not None and finding.certainty is Certainty.FOUND
    assert (finding.cause, finding.clients) == ("H5", ()) and {"H8", "K1", "O1", "B4"} <= finding.hides
    some = loss_has_no_gradient(asked((1, 4)))
    assert some is not None and some.clients == (1, 4)
    assert loss_has_no_gradient(asked((0, 1, 2, 3))) is None  # neither all nor a few
    assert loss_has_no_gradient(asked((1, 4), rates=(0.0,))) is None
    assert loss_has_no_gradient(asked((1, 4), loss_first=None)) is None  # not heard
    assert loss_has_no_gradient(asked((1, 4), norm=0.5)) is None  # moved by what is not heard
    assert loss_has_no_gradient(asked((1, 4), gradient_norm=0.3)) is None


def test_a_gradient_of_exactly_zero_is_none_where_weight_decay_moves_weights() -> None:
    everyone = tuple(range(8))
    assert certainty(loss_has_no_gradient(asked(everyone, 0.1, gradient_norm=0.0, unused=("0.weight",)))) is not None
    assert loss_has_no_gradient(asked(everyone, 0.1, gradient_norm=0.0)) is None  # a first step alone


def test_a_loss_without_gradient_is_found_apart_from_clients_where_the_job_fails() -> None:
    unheard = rounds(2, visits=tuple(visit(c, watched=watched(steps=None, loss_first=None)) for c in range(4)))
    dead = learning(zero_gradients=("0.weight", "1.weight"), overfit_best=0.1)
    assert certainty(loss_has_no_gradient(ailing(rounds=unheard, learning=dead))) is Certainty.FOUND
    assert loss_has_no_gradient(job(rounds=unheard, learning=dead)) is None
    part = replace(dead, zero_gradients=("0.weight",))
    assert loss_has_no_gradient(ailing(rounds=unheard, learning=part)) is None
