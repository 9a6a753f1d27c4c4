"""Signs of what a few clients do, and the others do not: who is named, and that nobody is where all do it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from evidence_of import data, job, outcome, round_of, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.evidence import Inputs, Round, Visit
from fedlens.diagnosis.evidence.rounds import SentBack
from fedlens.diagnosis.signs import read
from fedlens.diagnosis.signs.aggregation.dominant import client_dominates
from fedlens.diagnosis.signs.aggregation.poisoned import not_a_number_is_accepted
from fedlens.diagnosis.signs.data.leakage import examples_are_copied
from fedlens.diagnosis.signs.few import named, odd_ones, rarely_seen, some_of
from fedlens.diagnosis.signs.labels.outside import labels_leave_the_head
from fedlens.diagnosis.signs.labels.trained import labels_are_changed_in_training
from fedlens.diagnosis.signs.optimisation.drifts import rate_drifts
from fedlens.diagnosis.signs.optimisation.frozen import parameters_stand_still
from fedlens.diagnosis.signs.optimisation.ways import few_train_otherwise
from fedlens.diagnosis.signs.partition.overlap import examples_are_dealt_twice
from fedlens.diagnosis.signs.plumbing.altered import upload_is_altered
from fedlens.diagnosis.signs.plumbing.returned import trained_model_is_not_returned

SEEN = 8  # clients, each visited in both rounds
HONEST = SentBack(1.0, 0.0, 1.4, 20.0)


def found(finding: Finding | None) -> Finding:
    assert finding is not None and finding.certainty is Certainty.FOUND and finding.evidence
    return finding


def both(make: Callable[[int, int], Visit], **sections: object) -> Evidence:
    """Two rounds that ask all of the eight clients; `make(client, round)` is a visit."""
    rounds: tuple[Round, ...] = tuple(round_of(n, visits=tuple(make(c, n) for c in range(SEEN))) for n in (1, 2))
    return job(rounds=rounds, **sections)


def sending(odd: dict[int, SentBack], rest: SentBack = HONEST, norm: float = 0.5) -> Evidence:
    return both(
        lambda c, n: visit(c, norm=norm if c in odd else 0.5, watched=watched(sent_back=odd.get(c, rest))),
    )


@pytest.mark.parametrize(
    ("sent", "norm", "cause", "also"),
    [
        (SentBack(-1.0, 0.0, 0.4, 20.0), 0.5, "A9", "A6"),
        (SentBack(20.0, 0.0, 20.4, 20.0), 10.0, "A9", ""),
        (SentBack(1.0, 60.0, 1.4, 60.0), 30.0, "A9", "V1"),
        (SentBack(-0.1, 70.0, 0.1, 70.0), 35.0, "A9", "B7"),
        (SentBack(0.05, 0.6, 0.1, 20.0), 0.3, "B7", "B4"),
        (SentBack(0.0, 0.01, 0.1, 20.0), 0.005, "B4", "D7"),
    ],
)
def test_a_few_that_send_something_else_are_named(sent: SentBack, norm: float, cause: str, also: str) -> None:
    said = found(upload_is_altered(sending({2: sent, 5: sent}, norm=norm)))
    assert (said.cause, said.clients) == (cause, (2, 5)) and set(filter(None, (also,))) <= set(said.also)


def test_what_all_do_to_their_updates_or_bounds_and_earlier_epochs_do_is_no_fault_of_a_few() -> None:
    noise = SentBack(1.0, 3.0, 1.4, 20.0)
    assert upload_is_altered(sending(dict.fromkeys(range(SEEN), noise))) is None
    assert upload_is_altered(sending(dict.fromkeys(range(4), noise))) is None  # half of them are no exception
    part = SentBack(0.5, 0.5, 0.8, 20.0)
    assert upload_is_altered(sending({1: noise} | dict.fromkeys(range(3, SEEN), part))) is None  # nor are few honest
    assert upload_is_altered(sending({1: SentBack(0.3, 0.0, 0.5, 20.0), 2: SentBack(0.6, 0.5, 0.8, 20.0)})) is None
    assert upload_is_altered(sending({1: SentBack(2.0, 0.0, 2.4, 20.0)})) is None  # more, and no larger than others'
    reverse = sending({1: SentBack(-1.0, 0.0, 0.4, 20.0)})
    coded = replace(reverse, facts=replace(reverse.facts, declared=replace(reverse.facts.declared, codec="top-k")))
    assert upload_is_altered(reverse) is not None and upload_is_altered(coded) is None


@pytest.mark.parametrize("said", [{"reduce": "median"}, {"unknown": ("attackers",)}])
def test_hostile_clients_that_are_declared_and_withstood_are_only_noted(said: dict[str, Any]) -> None:
    reverse = sending({1: SentBack(-1.0, 0.0, 0.4, 20.0)})
    e = replace(reverse, facts=replace(reverse.facts, declared=replace(reverse.facts.declared, **said)))
    noted = upload_is_altered(e)
    assert noted is not None and noted.certainty is Certainty.NOTED and noted.clients == (1,)
    lost = replace(e, trials=trials(job=outcome(0.4)))
    assert found(upload_is_altered(lost)).clients == (1,)


def test_updates_are_read_as_updates() -> None:
    e = sending({4: SentBack(7.0, 9.0, -1.0, 0.0)}, rest=SentBack(7.0, 9.0, 1.0, 0.0))
    assert found(upload_is_altered(replace(e, facts=replace(e.facts, payload="update")))).clients == (4,)


def test_a_client_that_sends_what_it_trained_before_is_known_by_the_sum_of_its_numbers() -> None:
    def make(client: int, number: int) -> Visit:
        end = 10.0 * client + number
        sent = end - 1 if client == 3 and number > 1 else end
        return visit(
            client,
            watched=watched(
                sent_back=HONEST._replace(weights=0.6, weights_aside=0.5, sum=sent, sum_end=end)
                if sent != end
                else HONEST._replace(sum=sent, sum_end=end)
            ),
        )

    said = found(upload_is_altered(both(make)))
    assert (said.cause, said.clients) == ("B7", (3,)) and "earlier" in said.says


def test_a_few_that_return_what_they_received_are_named_where_later_visits_are_heard_less_of() -> None:
    def make(client: int, number: int) -> Visit:
        gradient = 1.0 if number == 1 else None
        heard = watched(sent_back=SentBack(0.0, 0.0, 5.0, 20.0), gradient_norm=gradient)
        return visit(client, norm=0.0 if client in (1, 6) else 0.5, watched=heard)

    assert found(trained_model_is_not_returned(both(make))).clients == (1, 6)


def test_a_few_that_use_another_optimiser_or_more_epochs_than_declared_are_named() -> None:
    adam = both(lambda c, n: visit(c, watched=watched(optimizer="Adam" if c == 4 else "SGD")))
    assert few_train_otherwise(adam).certainty is Certainty.NOTED  # nobody said which
    said = replace(adam, facts=replace(adam.facts, declared=replace(adam.facts.declared, optimizer="sgd")))
    assert (found(few_train_otherwise(said)).cause, few_train_otherwise(said).clients) == ("O3", (4,))
    more = both(lambda c, n: visit(c, watched=watched(samples=1000 if c == 2 else 200)))
    more = replace(more, facts=replace(more.facts, declared=replace(more.facts.declared, epochs=1)))
    assert (found(few_train_otherwise(more)).cause, few_train_otherwise(more).clients) == ("O9", (2,))
    less = both(lambda c, n: visit(c, watched=watched(samples=20 if c == 2 else 200)))
    assert found(few_train_otherwise(replace(less, facts=more.facts))).clients == (2,)
    cut = watched(samples=102, batches=(102,))  # a second batch of 98 is dropped
    dropped = both(lambda c, n: visit(c, watched=cut if c == 2 else watched()))
    assert few_train_otherwise(replace(dropped, facts=more.facts)) is None


def test_epochs_that_are_drawn_anew_at_every_visit_or_follow_fixed_steps_are_nobodys_fault() -> None:
    drawn = both(lambda c, n: visit(c, watched=watched(samples=200 * (1 + (3 * n + c) % 5))))
    assert few_train_otherwise(drawn) is None
    sizes = {c: 100 + 40 * c for c in range(10)}
    steps = both(lambda c, n: visit(c, examples=sizes[c], watched=watched(samples=200)), data=data(sizes=sizes))
    assert few_train_otherwise(steps) is None
    small = data(sizes={c: 100 if c == 3 else 400 for c in range(10)})
    assert few_train_otherwise(both(lambda c, n: visit(c), data=small)) is None
    degrees = both(lambda c, n: visit(c, watched=watched(samples=int(200 * 1.4**c))))
    assert few_train_otherwise(degrees) is None


def test_parameters_that_a_few_never_move_are_told_with_these_clients() -> None:
    e = both(lambda c, n: visit(c, still=("0.weight",) if c in (0, 7) else (), zero=0.95 if c in (0, 7) else 0.0))
    said = found(parameters_stand_still(e))
    assert said.cause == "O8" and said.clients == (0, 7) and "0.weight" in said.says
    once = both(lambda c, n: visit(c, still=("0.weight",) if c in (0, 7) and n == 1 else ()))
    assert parameters_stand_still(once) is None
    others = both(lambda c, n: visit(c, still=("0.weight",) if c == 0 or (c < 3 and n == 1) else ()))
    assert parameters_stand_still(others) is None


def test_labels_that_a_few_change_between_data_and_loss() -> None:
    held = dict.fromkeys(range(10), (30, 10, *((20,) * 8)))
    turned = (20,) * 8 + (10, 30)

    def make(client: int, number: int) -> Visit:
        seen = held[client] if number == 1 else ()  # later visits are heard less of
        return visit(client, watched=watched(label_counts=turned if client == 5 and seen else seen))

    e = both(make, data=data(counts=held))
    said = found(labels_are_changed_in_training(e))
    assert said.clients == (5,) and said.where == "job.py:10"
    assert [one.where for one in read(e)[0] if one.cause == "L1"] == ["job.py:10"]  # not where data are made
    drawn = {c: tuple(count + (1 if (k + c) % 2 else -1) for k, count in enumerate(held[c])) for c in held}
    loose = both(lambda c, n: visit(c, watched=watched(label_counts=drawn[c])), data=data(counts=held))
    assert labels_are_changed_in_training(loose) is None


def test_forged_counts_are_seen_at_every_visit() -> None:
    e = both(lambda c, n: visit(c, examples=20_000.0 if c == 6 else 200.0))
    assert found(client_dominates(e)).clients == (6,)
    batches = both(lambda c, n: visit(c, examples=1000.0))  # all report what they went through
    assert client_dominates(batches) is None


def test_labels_that_are_none_name_who_holds_them() -> None:
    counts = {c: (20,) * 10 if c < 7 else (10,) * 10 for c in range(10)}
    assert found(labels_leave_the_head(job(data=data(counts=counts, malformed=0.15)))).clients == (7, 8, 9)
    everyone = dict.fromkeys(range(10), (10,) * 10)
    assert found(labels_leave_the_head(job(data=data(counts=everyone, malformed=0.5)))).clients == ()


def test_clients_that_hold_test_examples_or_others_examples_are_named_unless_nearly_all_do() -> None:
    assert found(examples_are_copied(job(data=data(overlap=0.1, leaked={3: 0.5, 4: 0.6, 5: 0.001})))).clients == (3, 4)
    assert found(examples_are_copied(job(data=data(overlap=0.1, leaked=dict.fromkeys(range(10), 0.1))))).clients == ()
    assert found(examples_are_dealt_twice(job(data=data(shared=0.2, dealt_twice={1: 0.9, 2: 0.9})))).clients == (1, 2)


def test_uploads_without_numbers_come_from_inputs_that_are_none() -> None:
    bad = {8: False, 9: False}
    inputs = {c: Inputs((0.3,), (0.3,), 0.0, 1.0, 0.0, bad.get(c, True)) for c in range(10)}
    lost = round_of(1, finite=False, visits=tuple(visit(c, finite=c != 8) for c in (0, 1, 2, 3, 8)))
    said = found(not_a_number_is_accepted(job(rounds=(lost,), data=data(inputs=inputs))))
    assert said.clients == (8, 9) and "D1" in said.also  # the second was not asked yet
    beside = (visit(7, finite=False), visit(6))
    assert found(not_a_number_is_accepted(job(rounds=(lost,), beside=beside))).clients == (7, 8)


def test_rates_of_clients_that_were_visited_beside_the_rounds_count() -> None:
    e = both(lambda c, n: visit(c, watched=watched(rates=(1.0 if c == 1 else 0.1,) * 10)))
    e = replace(e, beside=(visit(8, watched=watched(rates=(1.0,) * 10)), visit(9)))
    said = replace(e, facts=replace(e.facts, declared=replace(e.facts.declared, lr=0.1)))
    assert found(rate_drifts(said)).clients == (1, 8)


def test_who_is_rarely_seen_is_asked_for_only_where_some_are_blamed() -> None:
    e = both(lambda c, n: visit(c))
    blames = Finding("B1", Certainty.FOUND, "", (), "", clients=(3,))
    assert rarely_seen(e, []) == () and rarely_seen(e, [replace(blames, clients=())]) == ()
    assert rarely_seen(e, [blames]) == (8, 9)  # of ten clients no round asked these
    assert rarely_seen(e, [replace(blames, cause="L1")]) == ()  # the data of all are known
    once = job(rounds=(round_of(1, visits=tuple(visit(c, gain=-0.5 if c == 2 else 0.3) for c in range(SEEN))),))
    assert rarely_seen(once, []) == (2,)


def test_causes_that_visits_show_name_those_who_show_them() -> None:
    e = both(lambda c, n: visit(c, watched=watched(probabilities=c in (0, 1))))
    blank = Finding("H1", Certainty.FOUND, "", (), "")
    assert named(e, blank).clients == (0, 1) and named(e, replace(blank, clients=(5,))).clients == (5,)
    all_do = both(lambda c, n: visit(c, watched=watched(probabilities=True)))
    assert named(all_do, blank).clients == () and some_of(all_do, lambda v: True) == ()


def test_odd_ones_are_few_beside_a_value_that_most_have() -> None:
    assert odd_ones({0: 1.0, 1: 1.1, 2: 1.0, 3: 5.0}, 1.5) == {3: 5.0}
    assert odd_ones({0: 1.0, 1: 2.0, 2: 4.0, 3: 8.0}, 1.5) == {}
    assert (
        odd_ones(dict(enumerate((0.8, 0.8, 1.0, 1.0, 1.0, 1.45, 2.0))), 1.5) == {}
    )  # by degrees and odd_ones({0: 1.0, 1: 5.0}, 1.5) == {}
