"""Signs of faults that wear another's clothes, and of sound jobs that look like a fault."""

from dataclasses import replace

from evidence_of import data, evaluating, facts, job, labels, learning, outcome, round_of, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.evidence import Inputs, Unexamined, Watched
from fedlens.diagnosis.signs.capacity.weak import model_is_too_weak
from fedlens.diagnosis.signs.data.order import order_is_kept
from fedlens.diagnosis.signs.data.scale import inputs_are_raw
from fedlens.diagnosis.signs.data.signal import labels_are_independent
from fedlens.diagnosis.signs.evaluation.other import another_metric_is_reported
from fedlens.diagnosis.signs.evaluation.unsteady import evaluation_is_random
from fedlens.diagnosis.signs.labels.maps import label_maps_differ
from fedlens.diagnosis.signs.labels.noise import labels_are_noisy
from fedlens.diagnosis.signs.labels.outside import labels_leave_the_head
from fedlens.diagnosis.signs.loss.twice import softmax_comes_twice
from fedlens.diagnosis.signs.optimisation.clipped import gradients_are_clipped
from fedlens.diagnosis.signs.optimisation.frozen import parameters_stand_still
from fedlens.diagnosis.signs.optimisation.large import rate_is_too_large
from fedlens.diagnosis.signs.partition.tiny import clients_are_empty
from fedlens.diagnosis.verdict.judgement import judged

CLIENTS = range(10)
RISING = (0.1, 0.2, 0.3, 0.45, 0.55, 0.65)
FLAT = (0.1, 0.4, 0.5, 0.51, 0.5, 0.5)


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


def ailing(**sections: object) -> Evidence:
    """A job 40 points short."""
    return job(**{"trials": trials(job=outcome(0.45)), **sections})


def all_visits(count: int = 4, **changes: object) -> Evidence:
    """An ailing job all of whose visits have `changes`."""
    found = tuple(round_of(n, visits=tuple(visit(c, **changes) for c in range(4))) for n in range(1, count + 1))
    return ailing(rounds=found)


def weak(curve: tuple[float, ...], **sections: object) -> Evidence:
    """Pooled training ends as `curve` does, at the best rate too; a simple probe reaches 85 %."""
    pooled = outcome(curve[-1], curve=curve)
    tried = trials(knobs={"pooled-samples": pooled}, best=curve[-1], best_rate=0.1, best_rate_outcome=pooled)
    return ailing(trials=replace(tried, job=outcome(0.45)), **sections)


def test_sorted_data_in_large_batches_are_found() -> None:
    """Two classes of eight in order and batches of a quarter: the run of equal labels can hardly be twice as long."""
    assert certainty(order_is_kept(all_visits(watched=watched(run=1.8)))) is Certainty.FOUND
    assert order_is_kept(all_visits(watched=watched(run=1.2))) is None


def test_a_visit_without_examples_says_nothing_of_labels_or_losses() -> None:
    nothing = watched(samples=0, batches=(0,), ignored=1.0, probabilities=True, label_low=None, label_high=None)
    found = tuple(round_of(n, visits=(visit(0, watched=nothing), visit(1), visit(2))) for n in (1, 2))
    assert softmax_comes_twice(ailing(rounds=found)) is None


def test_one_output_tells_two_classes() -> None:
    binary = watched(outputs=1, labels=2, label_low=0, label_high=1, loss="binary_cross_entropy_with_logits")
    found = tuple(round_of(n, visits=tuple(visit(c, watched=binary) for c in range(4))) for n in (1, 2))
    sections = {"rounds": found, "learning": learning(outputs=1), "data": data(low=0, high=1)}
    assert labels_leave_the_head(job(**sections)) is None


def test_a_failure_at_a_client_with_a_single_example_is_named() -> None:
    few = data(single=(2,), sizes={**dict.fromkeys(CLIENTS, 200), 2: 1})
    why = "fit, round 1, client {}: the job's own code failed. seen: ValueError: Expected more than 1 value"
    assert certainty(clients_are_empty(job(data=few))) is Certainty.NOTED
    for client, said in ((2, Certainty.CONSISTENT), (22, Certainty.NOTED)):
        stopped = job(data=few, rounds=(), unexamined=(Unexamined("rounds after 0", why.format(client)),))
        assert certainty(clients_are_empty(stopped)) is said


def test_augmented_evaluation_is_no_other_data() -> None:
    """Values of all examples, apart from one call to the next and from the model's: not a client's hold-out."""
    random = evaluating(reported=(0.1, 0.3, 0.5), matches="none", steady=0.01, quantum=1000)
    assert another_metric_is_reported(job(evaluating=random)) is None
    assert certainty(evaluation_is_random(job(evaluating=random))) is Certainty.FOUND
    fixed = replace(random, steady=0.0)
    assert certainty(another_metric_is_reported(job(evaluating=fixed))) is Certainty.FOUND
    assert (
        certainty(another_metric_is_reported(job(evaluating=replace(random, quantum=50), log=None))) is Certainty.FOUND
    )
    slightly = evaluating(steady=0.01)
    assert certainty(evaluation_is_random(job(evaluating=slightly))) is Certainty.CONSISTENT


def test_a_network_that_still_learns_is_not_too_weak() -> None:
    assert certainty(model_is_too_weak(weak(FLAT))) is Certainty.SUPPORTED
    assert model_is_too_weak(weak(RISING)) is None


def test_a_network_that_learned_nothing_in_few_steps_is_not_too_weak() -> None:
    still = (0.1,) * 6
    assert model_is_too_weak(weak(still, learning=learning(overfit_best=1.0))) is None
    assert certainty(model_is_too_weak(weak(still, learning=learning(overfit_best=0.6)))) is Certainty.SUPPORTED


def test_raw_inputs_outrank_the_rate_that_they_need() -> None:
    """With inputs up to 255 a rate of 0.1 overshoots, and one of 0.001 does not: the inputs are the cause."""
    wide = data(inputs=dict.fromkeys(CLIENTS, Inputs((90.0,), (80.0,), 0.0, 255.0, 0.0, True)))
    tried = trials(job=outcome(0.1), reference=outcome(0.1), rate=0.1, best_rate=1e-3, best_rate_outcome=outcome(0.8))
    found = [one for sign in (rate_is_too_large, inputs_are_raw) if (one := sign(job(data=wide, trials=tried)))]
    assert [one.cause for one in judged(found)[0]] == ["D3"]
    near = job(data=wide, trials=replace(tried, best_rate=0.05))
    assert certainty(inputs_are_raw(near)) is Certainty.CONSISTENT
    assert inputs_are_raw(job(trials=tried)) is None


def test_labels_that_only_the_test_set_has_clean_are_noise_everywhere() -> None:
    noisy = labels(learnable=0.45, test_identity=0.65, test_best=0.65)
    finding = labels_are_noisy(ailing(labels=noisy))
    assert certainty(finding) is Certainty.CONSISTENT
    assert finding is not None and finding.cause == "L2" and not finding.clients
    assert labels_are_noisy(ailing(labels=labels(learnable=0.8, test_identity=0.85))) is None
    assert labels_are_noisy(job(labels=noisy, trials=trials(job=outcome(0.86)))) is None  # nothing is amiss


def test_labels_that_start_below_zero_are_shifted() -> None:
    moved = labels(test_identity=0.0, test_best=0.9)
    assert label_maps_differ(job(labels=moved, data=data(low=-1, high=8))).also == ("L3",)  # type: ignore[union-attr]
    assert label_maps_differ(job(labels=moved)).also == ()  # type: ignore[union-attr]


def test_a_lucky_probe_does_not_save_random_labels_that_no_trial_learns() -> None:
    """Three standard errors above chance, by the better of two probes."""
    lucky = labels(learnable=0.1 + 3 * 0.008)
    at_chance = trials(
        job=outcome(0.1), knobs={"pooled-samples": outcome(0.1)}, best=0.1, chance=0.1, best_rate_outcome=None
    )
    low = tuple(round_of(n, exam=None) for n in (1, 2))
    assert certainty(labels_are_independent(job(labels=lucky, trials=at_chance, rounds=low))) is Certainty.SUPPORTED
    learned = replace(at_chance, knobs={"pooled-samples": outcome(0.5)}, best=0.5)
    assert labels_are_independent(job(labels=lucky, trials=learned, rounds=low)) is None


def test_an_optimiser_over_a_copy_moves_nothing() -> None:
    unmoved = {"size": 0.0, "norm": 0.0, "still": ("0.weight", "1.weight")}
    assert certainty(parameters_stand_still(all_visits(**unmoved))) is Certainty.FOUND
    later = all_visits(**unmoved, watched=watched(gradient_norm=None))  # nobody saw a gradient
    assert parameters_stand_still(later) is None
    assert parameters_stand_still(all_visits(**unmoved, watched=watched(rates=(0.0,) * 10))) is None


def test_clients_that_change_nothing_are_named_also_where_nothing_is_heard() -> None:
    """A loop of NumPy alone; or, with a network at hand, batches larger than every client."""
    unheard = all_visits(size=0.0, norm=0.0, watched=Watched())
    finding = parameters_stand_still(unheard)
    assert finding is not None and (finding.cause, finding.certainty) == ("D7", Certainty.FOUND)
    no_network = replace(unheard, facts=facts(offers=frozenset()))
    assert parameters_stand_still(no_network).cause == "O8"  # type: ignore[union-attr]
    assert parameters_stand_still(all_visits(size=0.1, norm=0.1, watched=Watched())) is None


def test_a_frozen_part_that_could_be_trained_outranks_the_rate() -> None:
    part = all_visits(still=("0.weight",))
    finding = parameters_stand_still(part)
    assert certainty(finding) is Certainty.FOUND
    assert finding is not None and {"O1", "K1"} <= finding.hides
    held = replace(part, learning=learning(frozen=("0.weight",)))  # as the network was made
    assert certainty(parameters_stand_still(held)) is Certainty.CONSISTENT


def test_a_bound_that_acts_always_is_no_fault_where_a_job_without_it_does_no_better() -> None:
    bound = all_visits(watched=watched(clipped=1.0))
    assert certainty(gradients_are_clipped(bound)) is Certainty.CONSISTENT
    alike = replace(bound, trials=trials(job=outcome(0.45), reference=outcome(0.46)))
    assert certainty(gradients_are_clipped(alike)) is Certainty.NOTED
