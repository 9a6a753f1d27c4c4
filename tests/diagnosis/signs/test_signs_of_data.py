"""Signs of the examples themselves, on made-up audits of ten clients."""

from dataclasses import replace
from typing import Any

import pytest
from evidence_of import CLIENTS, bare, data, exam, job, labels, outcome, round_of, rounds, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.evidence import Inputs, Paired
from fedlens.diagnosis.signs.data import SIGNS
from fedlens.diagnosis.signs.data.leakage import examples_are_copied
from fedlens.diagnosis.signs.data.mismatch import evaluation_prepares_otherwise
from fedlens.diagnosis.signs.data.order import order_is_kept
from fedlens.diagnosis.signs.data.pipelines import pipelines_differ
from fedlens.diagnosis.signs.data.scale import inputs_are_raw
from fedlens.diagnosis.signs.data.signal import labels_are_independent
from fedlens.diagnosis.signs.data.steps import clients_take_no_step


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


def ailing(**sections: Any) -> Evidence:
    """A job at 0.3 where pooled training reaches 0.86."""
    return job(**{"trials": trials(job=outcome(0.3))} | sections)


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.__name__)
def test_healthy_data_and_none_at_all_are_silent(sign: Any) -> None:
    assert sign(job()) is None and sign(bare()) is None and sign(ailing()) is None


def test_clients_that_one_transform_moved_alike_are_found() -> None:
    finding = pipelines_differ(job(data=data(apart={2: 2.2, 5: 2.3}, clusters=2)))
    assert finding is not None and finding.certainty is Certainty.FOUND
    assert (finding.cause, finding.clients, finding.treatment) == ("D1", (2, 5), "rescale")


def test_a_factor_of_255_is_found_even_at_one_client() -> None:
    seen = data(apart={4: 2.7}, scaled={4: 252.0}, clusters=2)
    finding = pipelines_differ(job(data=seen))
    assert finding is not None and finding.certainty is Certainty.FOUND and "D3" in finding.also


def test_two_transforms_of_several_clients_are_found() -> None:
    seen = data(apart=dict.fromkeys((0, 1, 2), 2.2) | {3: 2.4, 4: 2.4}, clusters=3)
    assert certainty(pipelines_differ(job(data=seen))) is Certainty.FOUND


def test_clients_that_differ_each_in_their_own_way_are_only_noted() -> None:
    """Eleven of thirty clients with offsets of their own: eleven groups, and the rest."""
    apart = {client: 0.52 + 0.015 * client for client in range(8)}
    seen = data(apart=apart, clusters=9)
    assert certainty(pipelines_differ(job(data=seen))) is Certainty.NOTED
    assert certainty(pipelines_differ(ailing(data=seen))) is Certainty.NOTED


def test_clients_that_differ_by_degrees_are_no_fault_of_a_job_that_is_well() -> None:
    seen = data(apart={1: 0.6, 4: 0.8, 7: 1.1}, clusters=2)
    assert certainty(pipelines_differ(job(data=seen))) is Certainty.NOTED
    assert certainty(pipelines_differ(ailing(data=seen))) is Certainty.CONSISTENT


def test_the_last_of_a_row_of_clients_without_a_gap_differ_by_nature() -> None:
    """The darkest two of ten cameras, of which the third stands 0.45 apart; another transform leaves a gap."""
    row, gap = data(apart={0: 0.75, 1: 0.7}, clusters=2, nearest=0.45), data(apart={0: 2.2, 1: 2.3}, nearest=0.45)
    assert certainty(pipelines_differ(job(data=row))) is Certainty.NOTED
    assert certainty(pipelines_differ(ailing(data=row))) is Certainty.NOTED
    assert certainty(pipelines_differ(job(data=gap))) is Certainty.FOUND


def test_clients_that_are_a_row_by_themselves_differ_by_nature() -> None:
    """Brightness that falls evenly from client to client, of which the middle one is as the test set; two ways of
    preparing inputs, each at some clients, are no row."""
    even = dict(enumerate((0.26, 0.30, 0.46, 0.49, 0.71, 0.73, 0.97, 1.18)))
    twice = dict(enumerate((0.9, 0.95, 1.0, 2.0, 2.1, 2.2)))
    assert certainty(pipelines_differ(ailing(data=data(apart=even, clusters=3, nearest=0.09)))) is Certainty.NOTED
    other = pipelines_differ(ailing(data=data(apart=twice, clusters=3, nearest=0.09)))
    assert certainty(other) is Certainty.CONSISTENT


def test_one_client_that_stands_slightly_apart_is_not_sure() -> None:
    assert certainty(pipelines_differ(job(data=data(apart={3: 0.7}, clusters=2)))) is Certainty.NOTED
    assert certainty(pipelines_differ(job(data=data(apart={3: 2.2}, clusters=2)))) is Certainty.FOUND


def test_all_clients_apart_in_one_way_are_the_test_sets_other_preparation() -> None:
    seen = data(apart=dict.fromkeys(range(CLIENTS), 2.0), mismatch=True)
    finding = evaluation_prepares_otherwise(job(data=seen))
    assert finding is not None and finding.certainty is Certainty.FOUND
    assert (finding.cause, finding.where) == ("D2", "job.py:30") and "D1" in finding.hides
    assert pipelines_differ(job(data=seen)) is None


def test_nine_of_ten_clients_apart_in_one_way_are_so_too() -> None:
    seen = data(apart=dict.fromkeys(range(9), 2.0), clusters=2)
    assert certainty(evaluation_prepares_otherwise(job(data=seen))) is Certainty.FOUND
    assert pipelines_differ(job(data=seen)) is None


def test_all_clients_apart_each_in_its_own_way_are_no_mismatch() -> None:
    """As in Synthetic(1, 1): the test set is a mixture of clients that all differ."""
    seen = data(apart={client: 1.0 + client / 10 for client in range(CLIENTS)}, clusters=CLIENTS)
    assert evaluation_prepares_otherwise(job(data=seen)) is None
    assert certainty(pipelines_differ(job(data=seen))) is Certainty.NOTED


def test_two_halves_prepared_in_two_wrong_ways_are_pipelines() -> None:
    seen = data(apart=dict.fromkeys(range(CLIENTS), 2.0), clusters=2)
    assert evaluation_prepares_otherwise(job(data=seen)) is None
    assert certainty(pipelines_differ(job(data=seen))) is Certainty.FOUND


def test_a_classifier_of_clients_data_that_fails_on_the_test_set_speaks_of_the_test_set() -> None:
    said = labels(test_identity=0.5, test_best=0.52)
    assert certainty(evaluation_prepares_otherwise(ailing(labels=said))) is Certainty.CONSISTENT
    assert evaluation_prepares_otherwise(job(labels=said)) is None  # the job does well on that test set
    weak = replace(said, identity=dict.fromkeys(said.identity, 0.55))  # at clients that it has not seen, too
    assert evaluation_prepares_otherwise(ailing(labels=weak)) is None
    renamed = labels(test_identity=0.1, test_best=0.8)
    assert evaluation_prepares_otherwise(ailing(labels=renamed)) is None  # L1


def inputs(high: float, **changes: Any) -> dict[int, Inputs]:
    return dict.fromkeys(range(CLIENTS), Inputs((high / 3,), (high / 3,), 0.0, high, 0.0, True)._replace(**changes))


def test_raw_values_are_named_where_the_job_ails() -> None:
    assert certainty(inputs_are_raw(ailing(data=data(inputs=inputs(255.0))))) is Certainty.CONSISTENT
    assert inputs_are_raw(job(data=data(inputs=inputs(255.0)))) is None
    assert inputs_are_raw(ailing(data=data(inputs=inputs(12.0)))) is None


def test_words_that_an_embedding_looks_up_are_no_raw_values() -> None:
    assert inputs_are_raw(ailing(data=data(inputs=inputs(9999.0, indices=True)))) is None


def test_raw_values_at_a_few_clients_are_another_cause() -> None:
    some = inputs(1.0) | {client: Inputs((90.0,), (80.0,), 0.0, 255.0, 0.0, True) for client in range(3)}
    assert inputs_are_raw(ailing(data=data(inputs=some))) is None


def hopeless(**sections: Any) -> Evidence:
    """A probe, the job, and all trials at a chance of 0.1; one class is answered throughout."""
    flat = outcome(0.1)
    seen = exam(0.1)._replace(recall=(1.0, *(0.0,) * 9))
    none = {"iid": flat, "pooled-samples": flat}
    tried = trials(job=flat, reference=flat, knobs=none, best=0.11, best_rate_outcome=flat)
    return job(
        **{"trials": tried, "labels": labels(learnable=0.11, chance=0.1), "rounds": rounds(exam=seen)} | sections
    )


def test_labels_that_nothing_can_tell_are_independent() -> None:
    finding = labels_are_independent(hopeless())
    assert finding is not None and finding.certainty is Certainty.SUPPORTED and finding.cause == "D5"
    untried = hopeless(trials=None)
    assert certainty(labels_are_independent(untried)) is Certainty.CONSISTENT


def test_whatever_gets_above_chance_refutes_that_labels_say_nothing() -> None:
    known = hopeless().trials
    assert known is not None
    for better in (
        replace(known, job=outcome(0.4)),
        replace(known, best_rate_outcome=outcome(0.4)),
        replace(known, best=0.4),
        replace(known, knobs={"lr*3": outcome(0.4)}),
    ):
        assert labels_are_independent(hopeless(trials=better)) is None
    assert (
        labels_are_independent(hopeless(labels=labels(learnable=0.14, chance=0.1, error=0.008))) is None
    )  # 5 standard errors


def test_a_rare_class_does_not_make_labels_independent() -> None:
    """97 % of one class: always answering it is right on 97 %, and a good classifier on 98 %."""
    rare = labels(learnable=0.972, chance=0.97, error=0.004)
    known = trials(job=outcome(0.972), knobs={"pooled-samples": outcome(0.974)}, best=0.974, chance=0.97)
    known = replace(known, reference=outcome(0.972), best_rate_outcome=None)
    learned = exam(0.972)._replace(recall=(0.99, 0.55))
    assert labels_are_independent(job(trials=known, labels=rare, rounds=rounds(exam=learned))) is None
    constant = exam(0.97)._replace(recall=(1.0, 0.0))
    finding = labels_are_independent(job(trials=known, labels=rare, rounds=rounds(exam=constant)))
    assert certainty(finding) is Certainty.NOTED


def test_test_examples_at_clients_and_clients_alike_are_leaks() -> None:
    finding = examples_are_copied(job(data=data(overlap=0.3)))
    assert finding is not None and finding.certainty is Certainty.FOUND and finding.silent
    finding = examples_are_copied(job(data=data(same=(1, 2, 3))))
    assert finding is not None and finding.clients == (1, 2, 3) and "P2" in finding.hides


def test_a_few_natural_repeats_are_no_leak() -> None:
    assert examples_are_copied(job(data=data(overlap=0.015, copies=0.02, expected=0.4))) is None


def idle(client: int, steps: int | None = 0, **changes: Any) -> Any:
    seen = watched(steps=steps, rates=(), batches=(), samples=0, loss=None)
    return visit(client, **{"size": 0.0, "norm": 0.0, "examples": 12.0, "watched": seen} | changes)


@pytest.mark.parametrize("steps", [0, None])
def test_clients_smaller_than_a_batch_that_is_dropped_take_no_step(steps: int | None) -> None:
    """Of a visit without any backward call nothing is seen at all, and steps are unknown."""
    seen = rounds(2, visits=(visit(0), visit(1), idle(2, steps), visit(3)))
    finding = clients_take_no_step(job(rounds=seen))
    assert finding is not None and finding.certainty is Certainty.FOUND
    assert (finding.clients, finding.weight) == ((2,), pytest.approx(1 / 4))


def test_clients_that_move_without_being_seen_or_hold_nothing_do_not_count() -> None:
    unseen = visit(2, watched=watched(steps=None))
    empty = idle(3, examples=0.0)
    assert clients_take_no_step(job(rounds=rounds(2, visits=(visit(0), visit(1), unseen, empty)))) is None
    unwatched = tuple(visit(client, watched=watched(steps=None)) for client in range(4))
    assert clients_take_no_step(job(rounds=rounds(2, visits=(*unwatched, idle(4, None))))) is None


def test_clients_that_stop_once_the_loss_is_no_number_lack_no_examples() -> None:
    """From round 2 on every client breaks off, also those who come for the first time; all hold 200 examples."""
    stopped = round_of(2, visits=tuple(idle(client, None, examples=200.0) for client in (2, 3, 4, 5)))
    assert clients_take_no_step(job(rounds=(round_of(1), stopped), data=None)) is None
    small = replace(stopped, visits=tuple(idle(client, None) for client in (4, 5)))
    finding = clients_take_no_step(job(rounds=(round_of(1, visits=(visit(0), visit(1))), small), data=None))
    assert finding is not None and finding.clients == (4, 5)  # the only ones of 12


def test_a_job_of_which_no_client_takes_a_step_is_found() -> None:
    """Batches of 32 whose last is dropped, and 12 examples at every client."""
    nobody = rounds(2, visits=tuple(idle(client, None) for client in range(4)))
    finding = clients_take_no_step(job(rounds=nobody))
    assert finding is not None and (finding.cause, finding.clients, finding.weight) == ("D7", (), 1.0)
    assert "B4" in finding.also and {"O1", "B2"} <= finding.hides


def ordered(run: float | None, **changes: Any) -> Evidence:
    return job(rounds=rounds(2, visits=tuple(visit(c, watched=watched(run=run, **changes)) for c in range(4))))


def test_labels_in_long_runs_are_a_stored_order() -> None:
    finding = order_is_kept(ordered(5.5))
    assert finding is not None and finding.certainty is Certainty.FOUND
    assert (finding.cause, finding.treatment) == ("D8", "shuffle")


def test_shuffled_unknown_and_single_class_orders_are_healthy() -> None:
    assert order_is_kept(ordered(1.2)) is None and order_is_kept(ordered(None)) is None
    assert order_is_kept(ordered(1.0, labels=1)) is None


def test_large_batches_of_sorted_data_are_told_by_the_places_of_their_inputs() -> None:
    """Three classes a batch: runs are 1.3 times a shuffled order's, and each input stands behind the one before."""
    kept, shuffled = (Paired(200, 200, 0.0, 0.0, rising=share) for share in (1.0, 0.5))

    def trained(run: float, *pairs: Paired) -> Evidence:
        seen = tuple(visit(c, watched=watched(run=run), paired=pair) for c, pair in enumerate(pairs))
        return job(rounds=rounds(2, visits=seen))

    finding = order_is_kept(trained(1.3, kept, kept, kept, kept))
    assert finding is not None and (finding.cause, finding.clients) == ("D8", ())
    assert order_is_kept(trained(1.0, kept, kept, kept, kept)) is None  # in a stored order that is none
    assert order_is_kept(trained(1.3, kept, kept, shuffled, shuffled)) is None


def test_one_batch_of_everything_has_no_order() -> None:
    assert order_is_kept(ordered(5.0, batches=(200,) * 3)) is None


def test_clients_that_all_report_one_example_are_ordered_all_the_same() -> None:
    """How many examples a client has is read from its data, not from the weight that it asks for."""
    seen = tuple(visit(c, examples=1.0, watched=watched(run=5.0)) for c in range(4))
    assert order_is_kept(job(rounds=rounds(2, visits=seen))) is not None


def test_one_ordered_client_of_four_is_not_the_jobs_order() -> None:
    seen = tuple(visit(c, watched=watched(run=5.0 if c == 0 else 1.0)) for c in range(4))
    assert order_is_kept(job(rounds=rounds(2, visits=seen))) is None
