"""Signs of labels that mean different things."""

from typing import Any

import pytest
from evidence_of import CLASSES, bare, data, job, labels, learning, outcome, rounds, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence
from fedlens.diagnosis.evidence import Unexamined
from fedlens.diagnosis.signs.labels import SIGNS
from fedlens.diagnosis.signs.labels.head import head_is_too_narrow
from fedlens.diagnosis.signs.labels.maps import label_maps_differ
from fedlens.diagnosis.signs.labels.noise import labels_are_noisy
from fedlens.diagnosis.signs.labels.outside import labels_leave_the_head


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.__name__)
def test_healthy_labels_and_none_at_all_are_silent(sign: Any) -> None:
    assert sign(job()) is None and sign(bare()) is None


def test_clients_with_another_map_are_named() -> None:
    gain = dict.fromkeys(range(10), 0.0) | {2: 0.5, 3: 0.6}
    audit = labels(mapped=(2, 3), gain=gain, identity={3: 0.2}, best={3: 0.8})
    finding = label_maps_differ(job(labels=audit, trials=trials(job=outcome(0.6))))
    assert finding is not None and finding.certainty is Certainty.SUPPORTED
    assert (finding.cause, finding.clients, finding.treatment) == ("L1", (2, 3), "relabel")
    assert "client 3" in finding.says and finding.weight == pytest.approx(0.26)  # 0.86 - 0.6


def test_a_test_set_with_other_names_is_another_map_and_small_gains_are_none() -> None:
    assert label_maps_differ(job(labels=labels(test_identity=0.1, test_best=0.8))) is not None
    assert label_maps_differ(job(labels=labels(test_identity=0.4, test_best=0.5))) is None
    assert label_maps_differ(job(labels=labels(test_identity=None, test_best=None))) is None


def test_clients_with_random_labels_are_named_beside_others() -> None:
    noisy = dict.fromkeys(range(10), 0.8) | {4: 0.1}
    finding = labels_are_noisy(job(labels=labels(identity=noisy, noisy=(4,))))
    assert finding is not None and finding.certainty is Certainty.SUPPORTED and finding.clients == (4,)
    assert "10.0 %" in finding.says and "80.0 %" in finding.says


def test_labels_without_any_client_to_compare_are_not_called_noisy() -> None:
    assert labels_are_noisy(job(labels=labels(identity={4: 0.1}, noisy=(4,)))) is None


def given(**changes: Any) -> tuple[Any, ...]:
    return rounds(2, visits=tuple(visit(c, watched=watched(**changes)) for c in range(4)))


def test_labels_beyond_the_head_are_found() -> None:
    finding = labels_leave_the_head(job(data=data(high=10), rounds=given(label_high=10)))
    assert finding is not None and finding.certainty is Certainty.FOUND
    assert "0 to 10" in finding.says and finding.where == "job.py:15" and "L4" in finding.hides
    assert labels_leave_the_head(job(data=data(high=10), rounds=())) is not None  # its fit fails at once
    assert labels_leave_the_head(job(data=data(low=-1), rounds=())) is not None


def test_one_hot_rows_of_zeros_are_found_in_what_the_loss_was_given() -> None:
    finding = labels_leave_the_head(job(rounds=given(ignored=0.2, one_hot=True)))
    assert finding is not None and "20.0 %" in finding.says
    assert labels_leave_the_head(job(data=data(malformed=0.1))) is not None


def test_labels_that_the_loss_is_told_to_ignore_are_healthy() -> None:
    """Padding of sequences, labelled -100 in the data, and ignored by cross_entropy."""
    counts = dict.fromkeys(range(10), (15,) * CLASSES)
    assert labels_leave_the_head(job(rounds=given(ignored=0.4, one_hot=False))) is None
    padded = data(low=-100, counts=counts)
    assert labels_leave_the_head(job(data=padded, rounds=given(ignored=0.25, one_hot=False))) is None


def test_labels_that_training_renumbers_are_healthy() -> None:
    """1 to 10 in the data, of which those called 10 lie outside; 0 to 9 in the loss."""
    counts = dict.fromkeys(range(10), (0, *(20,) * 9))
    assert labels_leave_the_head(job(data=data(low=1, high=10, counts=counts))) is None
    assert labels_leave_the_head(job(data=data(low=-1))) is None  # examples without a label, which training skips
    elsewhere = dict.fromkeys(range(9), (20,) * CLASSES) | {9: (0, *(20,) * 9)}  # only client 9, whom nobody watched
    e = job(data=data(low=0, high=10, counts=elsewhere), rounds=given())
    assert labels_leave_the_head(e) is not None


def binary(**sections: Any) -> Evidence:
    base = job(learning=learning(outputs=1), data=data(high=1), rounds=given(label_high=1, outputs=1, labels=2))
    facts = type(base.facts)(**vars(base.facts) | {"classes": 2})
    return type(base)(**vars(base) | {"facts": facts} | sections)


def test_a_head_of_one_output_has_two_classes() -> None:
    assert labels_leave_the_head(binary()) is None and head_is_too_narrow(binary()) is None
    assert labels_leave_the_head(binary(data=data(high=2), rounds=())) is not None


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_rows_of_zeros_under_sigmoids_mean_none_of_the_classes(loss: str) -> None:
    assert labels_leave_the_head(job(rounds=given(ignored=0.3, one_hot=True, loss=loss))) is None


def test_a_head_that_labels_go_beyond_is_too_narrow() -> None:
    finding = head_is_too_narrow(job(learning=learning(outputs=9)))
    assert finding is not None and finding.certainty is Certainty.FOUND and finding.cause == "L4"


@pytest.mark.parametrize("outputs, high", [(20, 9), (8, 7)], ids=["wider", "more classes declared than there are"])
def test_other_heads_are_only_noted(outputs: int, high: int) -> None:
    finding = head_is_too_narrow(job(learning=learning(outputs=outputs), data=data(high=high)))
    assert finding is not None and finding.certainty is Certainty.NOTED


def broken_off(label: int, **sections: Any) -> Evidence:
    """A job whose first round ends in the training of client 4, of which nothing else is known."""
    seen = f"IndexError: Target {label} is out of bounds. (job.py:15)"
    why = f"fit, round 1, client 4: the job's own code failed. seen: {seen} do: Mend it; -v shows the traceback."
    empty: dict[str, Any] = {"rounds": (), "handling": None, "trials": None, "labels": None, "evaluating": None}
    return job(**{**empty, "unexamined": (Unexamined("rounds after 0", why),), **sections})


def test_classes_that_only_the_head_lacks_are_a_matter_of_the_head() -> None:
    held = dict.fromkeys(range(8), (25,) * 8 + (0, 0)) | {8: (20,) * 10, 9: (0,) * 9 + (200,)}
    e = broken_off(8, learning=learning(outputs=8), data=data(counts=held))
    finding = head_is_too_narrow(e)
    assert finding is not None and finding.certainty is Certainty.FOUND and finding.clients == ()
    assert "8 outputs for 10 classes" in finding.says and "2 clients hold (8, 9)" in finding.says
    assert labels_leave_the_head(e) is None  # 8 and 9 are classes
    assert labels_leave_the_head(broken_off(10, learning=learning(outputs=8), data=data(high=10))) is not None


def test_a_loss_that_refuses_a_class_tells_of_the_head_without_any_data() -> None:
    finding = head_is_too_narrow(broken_off(7, data=None, learning=None))
    assert finding is not None and finding.cause == "L4" and "fewer than 8 outputs" in finding.says
    assert head_is_too_narrow(broken_off(10, data=None, learning=None)) is None  # no class
    other = Unexamined("rounds after 0", "fit, round 1, client 4: seen: IndexError: index out of range in self")
    assert head_is_too_narrow(broken_off(7, data=None, learning=None, unexamined=(other,))) is None


def test_a_label_that_only_training_makes_names_the_client_whose_loss_refused_it() -> None:
    finding = labels_leave_the_head(broken_off(10))  # its data run from 0 to 9
    assert finding is not None and (finding.cause, finding.clients, finding.where) == ("L3", (4,), "job.py:15")
    assert "0 to 10" in finding.says and labels_leave_the_head(broken_off(9)) is None
    held = labels_leave_the_head(broken_off(10, data=data(high=10)))  # others hold such labels too
    assert held is not None and held.clients == ()
