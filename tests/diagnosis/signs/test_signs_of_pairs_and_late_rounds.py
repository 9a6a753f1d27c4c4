"""Signs of labels that leave their inputs, of orders that some clients keep, and of clients that change later on."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from evidence_of import aggregation, data, job, outcome, round_of, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.evidence import Paired, Visit
from fedlens.diagnosis.evidence.rounds import SentBack
from fedlens.diagnosis.signs.aggregation.dominant import client_dominates
from fedlens.diagnosis.signs.aggregation.poisoned import not_a_number_is_accepted
from fedlens.diagnosis.signs.aggregation.turned import clients_turn_late
from fedlens.diagnosis.signs.communication.partial import payload_is_partial
from fedlens.diagnosis.signs.data.order import order_is_kept
from fedlens.diagnosis.signs.data.steps import clients_take_no_step
from fedlens.diagnosis.signs.labels.paired import labels_leave_their_inputs
from fedlens.diagnosis.signs.labels.trained import labels_are_changed_in_training
from fedlens.diagnosis.signs.optimisation.ways import few_train_otherwise
from fedlens.diagnosis.signs.plumbing.altered import upload_is_altered
from fedlens.diagnosis.signs.plumbing.returned import trained_model_is_not_returned

SEEN = 8
SOUND, RENAMED, TORN = Paired(200, 200, 0.0, 0.0), Paired(200, 200, 1.0, 0.0), Paired(200, 200, 0.9, 0.7)
KEPT = Paired(200, 200, 0.0, 0.0, rising=0.95)
HONEST, MULTIPLE = SentBack(1.0, 0.0, 1.4, 20.0), SentBack(30.0, 0.0, 30.4, 20.0)


def found(finding: Finding | None) -> Finding:
    assert finding is not None and finding.certainty is Certainty.FOUND and finding.evidence
    return finding


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


def both(make: Callable[[int], Visit], **sections: object) -> Evidence:
    """Two rounds that ask all of the eight clients."""
    return job(rounds=tuple(round_of(n, visits=tuple(map(make, range(SEEN)))) for n in (1, 2)), **sections)


def pairs(odd: Paired, rest: Paired = SOUND, some: tuple[int, ...] = (2, 5), **sections: object) -> Evidence:
    return both(lambda c: visit(c, paired=odd if c in some else rest), **sections)


@pytest.mark.parametrize(("odd", "cause"), [(RENAMED, "L1"), (TORN, "L2")])
def test_a_few_that_train_on_other_labels_are_named(odd: Paired, cause: str) -> None:
    said = found(labels_leave_their_inputs(pairs(odd)))
    assert (said.cause, said.clients) == (cause, (2, 5))


def test_inputs_that_are_hardly_found_again_say_nothing() -> None:
    assert labels_leave_their_inputs(pairs(RENAMED._replace(rows=90))) is None
    assert labels_leave_their_inputs(pairs(RENAMED._replace(rows=15, heard=15))) is None
    assert labels_leave_their_inputs(pairs(SOUND)) is None


def test_where_all_do_it_the_job_must_fail_by_it() -> None:
    fails = trials(job=outcome(0.1), reference=outcome(0.8), best=0.8)
    well = pairs(RENAMED, RENAMED)
    assert labels_leave_their_inputs(well) is None
    ill = replace(well, trials=fails, rounds=tuple(replace(one, exam=None) for one in well.rounds))
    assert ill.evaluating is not None and ill.evaluating.matches == "test"
    said = found(labels_leave_their_inputs(ill))
    assert (said.cause, said.clients) == ("L1", ())
    assert labels_leave_their_inputs(replace(ill, evaluating=replace(ill.evaluating, matches="train"))) is None


def test_draws_that_favour_rare_classes_are_no_changed_labels() -> None:
    drawn = (191, *(1,) * 9)  # where the data have 20 of each class

    def make(known: Paired | None) -> Evidence:
        return both(
            lambda c: visit(c, paired=known, watched=watched(label_counts=drawn if c in (2, 5) else (20,) * 10)),
            data=data(),
        )

    assert labels_are_changed_in_training(make(None)) is not None
    assert labels_are_changed_in_training(make(SOUND)) is None


# Orders and epochs of some clients


def test_clients_that_keep_the_stored_order_are_named_where_others_shuffle() -> None:
    def ordered(run: float, some: tuple[int, ...] = (2, 5)) -> Evidence:
        odd, rest = watched(run=run), watched(run=1.0)
        return both(
            lambda c: visit(c, paired=KEPT if c in some else SOUND, watched=odd if c in some else rest),
        )

    assert found(order_is_kept(ordered(1.3))).clients == (2, 5)
    assert order_is_kept(ordered(1.05)) is None  # the data lie mixed: their order is of no account
    assert order_is_kept(ordered(1.3, tuple(range(5)))) is None  # most do, and runs are short: batches are mixed


def test_a_last_batch_that_is_dropped_is_no_fault_and_half_of_the_data_is() -> None:
    def seen(samples: int) -> Evidence:
        e = both(
            lambda c: visit(c, watched=watched(samples=samples if c == 2 else 400, batches=(60,) * 4)), data=data()
        )
        return replace(e, facts=replace(e.facts, declared=replace(e.facts.declared, epochs=2)))

    assert few_train_otherwise(seen(2 * 180)) is None
    assert found(few_train_otherwise(seen(2 * 120))).clients == (2,)  # 80 of 200 examples are left out each time


# Late rounds


def later(odd: Visit, usual: Callable[[int], Visit] = visit) -> Evidence:
    """All are sound in the first rounds; client 3 is `odd` later, three others are as `usual`."""
    return replace(both(usual), beside=(odd, *(usual(c) for c in (4, 6, 7))))


def sending(client: int) -> Visit:
    return visit(client, watched=watched(sent_back=HONEST))


def test_who_sends_a_multiple_only_later_is_named() -> None:
    odd = visit(3, norm=15.0, watched=watched(sent_back=MULTIPLE))
    assert found(upload_is_altered(later(odd, sending))).clients == (3,)
    assert upload_is_altered(later(sending(3), sending)) is None


def test_a_far_larger_update_of_late_rounds_is_named_though_nothing_was_lost() -> None:
    said = clients_turn_late(later(visit(3, norm=15.0)))
    assert said is not None and (said.certainty, said.clients) == (Certainty.CONSISTENT, (3,))
    assert clients_turn_late(later(visit(3, norm=1.0))) is None
    always = both(lambda c: visit(c, norm=15.0 if c == 3 else 0.5))
    once = replace(always, beside=later(visit(3, norm=15.0)).beside)
    assert clients_turn_late(once) is None and client_dominates(once) is not None


def test_who_stops_training_later_is_named_unless_all_do() -> None:
    still = visit(3, size=0.0, norm=0.0, watched=watched(steps=0, sent_back=None))
    assert found(clients_take_no_step(later(still))).clients == (3,)
    e = later(still)
    assert clients_take_no_step(replace(e, beside=tuple(replace(still, client=v.client) for v in e.beside))) is None


def test_who_returns_what_it_received_later_is_named_where_there_are_two() -> None:
    e = later(visit(3, size=0.0, norm=0.0))
    assert trained_model_is_not_returned(e) is None
    two = replace(e, beside=(*e.beside, visit(1, size=0.0, norm=0.0), visit(0)))
    assert found(trained_model_is_not_returned(two)).clients == (1, 3)


def test_labels_that_change_later_are_seen() -> None:
    odd = visit(3, paired=RENAMED)
    assert found(labels_leave_their_inputs(later(odd, lambda c: visit(c, paired=SOUND)))).clients == (3,)


def test_no_numbers_of_late_rounds_are_poison_only_where_the_model_is_sound() -> None:
    bad, passed = visit(3, finite=False), aggregation(non_finite="passed on")
    e = replace(later(bad), aggregation=passed)
    assert found(not_a_number_is_accepted(e)).clients == (3,)
    drowned = replace(e, rounds=(*e.rounds, round_of(3, moved=70.0)))
    assert certainty(not_a_number_is_accepted(drowned)) is Certainty.NOTED
    large = replace(e, beside=(bad, *(visit(c, size=float("inf")) for c in (4, 6, 7))))
    assert certainty(not_a_number_is_accepted(large)) is Certainty.NOTED
    most = replace(e, beside=(bad, replace(bad, client=4), replace(bad, client=6), visit(7)))
    assert certainty(not_a_number_is_accepted(most)) is Certainty.NOTED


# Parameters that are trained and not sent


def kept_back(outside: tuple[str, ...], **changes: object) -> Evidence:
    return both(lambda c: visit(c, still=outside, watched=watched(outside=outside, **changes)))


def test_parameters_that_training_moves_and_no_upload_does_are_not_sent() -> None:
    said = found(payload_is_partial(kept_back(("0.weight",))))
    assert said.cause == "X4" and "0.weight" in said.says and "O8" in said.hides
    assert payload_is_partial(kept_back(())) is None
    assert payload_is_partial(kept_back(("0.weight", "1.weight"))) is None  # nothing at all comes back: it is B4
    assert payload_is_partial(kept_back(("0.weight",), loss=None)) is None  # not heard
    e = kept_back(("0.weight",))
    once = replace(e, rounds=(*e.rounds, round_of(3, visits=(visit(0),))))
    assert payload_is_partial(once) is None
