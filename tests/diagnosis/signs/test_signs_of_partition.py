"""Signs of how data is dealt."""

from typing import Any

import pytest
from evidence_of import bare, data, effect, evaluating, facts, job, outcome, round_of, rounds, trials, visit

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.signs.partition import SIGNS
from fedlens.diagnosis.signs.partition.cut import hold_out_is_cut_from_sorted_examples
from fedlens.diagnosis.signs.partition.overlap import examples_are_dealt_twice
from fedlens.diagnosis.signs.partition.skew import labels_are_skewed
from fedlens.diagnosis.signs.partition.tiny import clients_are_empty


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.__name__)
def test_a_healthy_deal_and_no_data_are_silent(sign: Any) -> None:
    assert sign(job()) is None and sign(bare()) is None and sign(job(data=None, trials=None)) is None


def skewed(gain: float, error: float = 0.01, reached: float = 0.6, **changes: Any) -> Evidence:
    """A job whose samples, dealt again IID, gain `gain`."""
    known = trials(job=outcome(reached), reference=outcome(reached), knobs={"iid": outcome(reached + gain)})
    effects = {"iid": effect(gain, error)}
    return job(data=data(skew=0.77), trials=type(known)(**vars(known) | {"effects": effects} | changes))


def test_a_redeal_that_mends_is_proof_of_skew() -> None:
    finding = labels_are_skewed(skewed(0.2))
    assert finding is not None and finding.certainty is Certainty.SUPPORTED
    assert (finding.cause, finding.weight) == ("P1", pytest.approx(0.2))
    assert {line.by for line in finding.evidence} == {"M19", "M11", "M08"}


def test_skew_that_costs_little_is_no_cause() -> None:
    """97 % of the accuracy of its IID re-deal: 0.85 against 0.876."""
    assert labels_are_skewed(skewed(0.026, 0.003, reached=0.85)) is None
    assert labels_are_skewed(skewed(0.2, error=0.15)) is None  # within two standard errors
    assert labels_are_skewed(job(data=data(skew=0.9))) is None  # skew alone describes, and judges nothing


def test_examples_at_several_clients_are_dealt_twice() -> None:
    finding = examples_are_dealt_twice(job(data=data(shared=0.4)))
    assert finding is not None and finding.certainty is Certainty.FOUND and finding.silent


def test_copies_that_stand_within_clients_too_are_no_partitioners() -> None:
    assert examples_are_dealt_twice(job(data=data(shared=0.1, copies=0.05))) is None
    assert examples_are_dealt_twice(job(data=data(shared=0.015))) is None


@pytest.mark.parametrize("said", [{"method": "FedAvg, data-sharing"}, {"partition": "overlapping:0.2"}])
def test_data_that_is_declared_to_be_shared_is_no_fault(said: dict[str, str]) -> None:
    assert examples_are_dealt_twice(job(said, data=data(shared=0.05))) is None


def test_small_clients_are_noted_and_a_fault_only_where_they_alone_fail() -> None:
    tiny = data(empty=(1,), single=(2,))
    assert clients_are_empty(job(data=tiny)).certainty is Certainty.NOTED  # type: ignore[union-attr]
    failing = rounds(1, visits=tuple(visit(c, finite=c != 2) for c in range(4)))
    finding = clients_are_empty(job(data=tiny, rounds=failing))
    assert finding is not None and finding.certainty is Certainty.FOUND and finding.clients == (1, 2)


def test_small_clients_of_a_job_that_diverges_as_a_whole_are_not_to_blame() -> None:
    lost = (round_of(1), round_of(2, visits=tuple(visit(c, finite=False) for c in range(4)), finite=False))
    finding = clients_are_empty(job(data=data(single=(2,)), rounds=lost))
    assert finding is not None and finding.certainty is Certainty.NOTED


def test_a_hold_out_of_sorted_examples_is_only_consistent_with_one_class() -> None:
    said = facts({"metric": "mean validation accuracy of the clients"})
    other, sorted_by_class = evaluating(matches="none"), data(order_run={0: 8.0, 1: 9.0, 2: 10.0})
    finding = hold_out_is_cut_from_sorted_examples(job(facts=said, evaluating=other, data=sorted_by_class))
    assert finding is not None and (finding.cause, finding.certainty) == ("P3", Certainty.CONSISTENT)
    assert hold_out_is_cut_from_sorted_examples(job(facts=said, evaluating=other)) is None  # shuffled
    assert (
        hold_out_is_cut_from_sorted_examples(job(facts=said, data=sorted_by_class)) is None
    )  # it is the test accuracy
    assert hold_out_is_cut_from_sorted_examples(job(evaluating=other, data=sorted_by_class)) is None  # of no client


def test_hold_outs_of_one_class_are_found_by_the_labels_that_are_asked_for() -> None:
    """Clients have two classes each: of thirty examples drawn at random, all are of one in 2 of 2^30 draws."""
    halves = {client: tuple(100 if c in (client % 5, 5 + client % 5) else 0 for c in range(10)) for client in range(10)}

    def said(
        alone: int, matches: str = "none", size: int = 30, counts: dict[int, tuple[int, ...]] = halves
    ) -> Finding | None:
        sets = ((size, 1),) * alone + ((size, 2),) * (10 - alone)
        seen = evaluating(matches=matches, label_sets=sets)
        return hold_out_is_cut_from_sorted_examples(job(evaluating=seen, data=data(counts=counts)))

    finding = said(9)
    assert finding is not None and (finding.cause, finding.certainty) == ("P3", Certainty.FOUND)
    assert said(3) is None and said(10, matches="test") is None  # a sorted test set, read in batches
    one_each = {client: tuple(200 if c == client else 0 for c in range(10)) for client in range(10)}
    assert said(10, counts=one_each) is None  # clients of one class have no other hold-outs
