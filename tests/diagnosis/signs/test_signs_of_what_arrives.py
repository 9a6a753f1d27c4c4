"""Signs of what arrives of the clients' training: multiples that are sent, undone by the server or not, and counts of
0 beside training. Uploads of clients of 100, 200, 300 and 400 examples are weighted by n_i / 1000."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from evidence_of import aggregation, job, outcome, round_of, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence
from fedlens.diagnosis.evidence.rounds import SentBack
from fedlens.diagnosis.signs import read
from fedlens.diagnosis.signs.aggregation.step import server_steps_wrongly
from fedlens.diagnosis.signs.aggregation.unheard import clients_count_for_too_little
from fedlens.diagnosis.signs.arriving import made_up_for
from fedlens.diagnosis.signs.plumbing.partway import training_is_thrown_away
from fedlens.diagnosis.signs.plumbing.scaled import updates_are_scaled

COUNTS = (100.0, 200.0, 300.0, 400.0)
SHARES = tuple(count / 1000 for count in COUNTS)


def sending(times: Sequence[float], weights: Sequence[float], aside: float = 0.0, **changes: Any) -> Evidence:
    """Two rounds of four clients that send `times` the change they trained, as updates, with coefficients `weights` in
    the model's change; `aside`: what is sent beside it."""
    backs = [SentBack(0.0, 30.0, c, aside) for c in times]
    seen = tuple(
        visit(k, examples=COUNTS[k], norm=abs(c) * (1 + 0.1 * k), watched=watched(sent_back=back))
        for k, (c, back) in enumerate(zip(times, backs, strict=True))
    )
    one = round_of(1, visits=seen, wanted=SHARES, weights=tuple(weights), total=sum(weights), residual=2.0)
    rounds = (one, replace(one, number=2))
    base = job(declared={"payload": "update"}, rounds=rounds, aggregation=None, **changes)
    return replace(base, facts=replace(base.facts, payload="update"))


def causes(e: Evidence) -> set[str]:
    return {one.cause for one in read(e)[0] if one.certainty is not Certainty.NOTED}


def test_updates_that_are_divided_once_more_are_found_and_are_the_clients_matter() -> None:
    e = sending([0.01] * 4, SHARES, trials=trials(job=outcome(0.3)))
    finding = updates_are_scaled(e)
    assert finding is not None and (finding.cause, finding.certainty) == ("A6", Certainty.FOUND)
    assert (finding.clients, finding.where, finding.treatment) == ((), "job.py:10", "reference-client")
    assert "0.01 times" in finding.says and finding.weight == pytest.approx(0.852 - 0.3)


def test_one_client_that_sends_a_multiple_is_no_matter_of_all() -> None:
    e = sending([30.0, 1.0, 1.0, 1.0], SHARES, trials=trials(job=outcome(0.3)))
    assert updates_are_scaled(e) is None and "A9" in causes(e)


def test_the_reverse_that_is_added_is_found() -> None:
    finding = updates_are_scaled(sending([-1.0] * 4, SHARES))
    assert finding is not None and finding.certainty is Certainty.FOUND and "-1 times" in finding.says


@pytest.mark.parametrize(
    "times, weights",
    [([-1.0] * 4, [-share for share in SHARES]), (COUNTS, [1 / 1000] * 4), ([0.1] * 4, [10 * x for x in SHARES])],
    ids=["the reverse, taken away", "times the examples, by their sum", "by the steps, times the steps"],
)
def test_what_the_server_undoes_is_healthy(times: Sequence[float], weights: Sequence[float]) -> None:
    e = sending(times, weights)
    assert made_up_for(e) and not causes(e)


def whole(times: Sequence[float], weights: Sequence[float], along: float = 1.0) -> Evidence:
    """Two rounds of clients that send `times` the weights w + d that they trained (`along` times as far along d as that
    is, with the same sum), where <d, d> = 1, <w, d> = 3 and <w, w> = 100; the server replaces the model by the sum of
    `weights` times what comes."""
    backs = []
    for c in times:
        update = along * c * (3 + 1)
        change = update - 3
        square, beside = c**2 * (100 + 6 + 1), (c - 1) ** 2 * 100 + 2 * (c - 1) * c * 3 + c**2
        rest = math.sqrt(beside - change**2), math.sqrt(square - update**2)
        backs.append(SentBack(change, rest[0], update, rest[1], c * 7.0, 7.0, 1.0))
    seen = tuple(
        visit(k, examples=COUNTS[k], size=abs(backs[k].weights), watched=watched(sent_back=backs[k])) for k in range(4)
    )
    total = sum(weights)
    one = round_of(1, visits=seen, wanted=SHARES, weights=tuple(weights), total=total, residual=1.0, current=total - 1)
    made_up = aggregation(weights=tuple(weights[:3]), current=sum(weights[:3]))
    return job(rounds=(one, replace(one, number=2)), aggregation=made_up)


def test_weights_that_come_multiplied_and_are_divided_by_their_sum_are_healthy() -> None:
    """n_i w_i by the sum of n_i: the server's sum by itself looks as if it were far too small."""
    assert made_up_for(whole(COUNTS, [1 / 1000] * 4)) and not causes(whole(COUNTS, [1 / 1000] * 4))
    assert "A1" in causes(whole([1.0] * 4, [1 / 1000] * 4))  # nobody multiplied them
    assert "A1" in causes(whole(COUNTS, [1 / 1000] * 4, along=1.2))  # something else was sent
    assert "A1" in causes(whole(COUNTS, [1 / 4000] * 4))  # and they are divided once more


def test_a_server_that_undoes_nothing_is_judged_as_before() -> None:
    e = sending([1.0] * 4, [-share for share in SHARES])
    assert not made_up_for(e) and updates_are_scaled(e) is None
    finding = server_steps_wrongly(e)
    assert finding is not None and finding.cause == "A6" and finding.where == "job.py:20"


def test_shares_that_are_other_than_declared_are_not_undone() -> None:
    even = sending(COUNTS, [0.25 / count for count in COUNTS])  # a uniform mean in the end
    assert not made_up_for(even) and updates_are_scaled(even) is None  # whose step is as large as declared


def test_half_a_step_is_a_fault_only_where_the_job_falls_short() -> None:
    assert updates_are_scaled(sending([0.5] * 4, SHARES)) is None
    finding = updates_are_scaled(sending([0.5] * 4, SHARES, trials=trials(job=outcome(0.5))))
    assert finding is not None and finding.certainty is Certainty.CONSISTENT


def test_what_is_no_multiple_or_is_declared_is_left_to_others() -> None:
    assert updates_are_scaled(sending([0.01] * 4, SHARES, aside=0.001)) is None  # a tenth of it is something else
    e = sending([0.01] * 4, SHARES)
    for said in ({"codec": "q8"}, {"dp": {"clip": 1.0}}, {"reduce": "median"}, {"method": "fednova"}):
        declared = replace(e.facts.declared, **said)
        assert updates_are_scaled(replace(e, facts=replace(e.facts, declared=declared))) is None


def reporting(counts: Sequence[float], weights: Sequence[float], **changes: Any) -> Evidence:
    seen = tuple(visit(k, examples=count) for k, count in enumerate(counts))
    one = round_of(1, visits=seen, wanted=tuple(weights), weights=tuple(weights))
    return job(rounds=(one, replace(one, number=2)), **changes)


def test_clients_that_train_and_report_no_examples_are_named() -> None:
    finding = clients_count_for_too_little(reporting([0, 200, 0, 200], [0, 0.5, 0, 0.5]))
    assert finding is not None and (finding.cause, finding.certainty) == ("A3", Certainty.FOUND)
    assert finding.clients == (0, 2) and finding.where == "job.py:10" and "S5" in finding.also


def test_counts_of_nothing_are_healthy_where_they_are_used_for_nothing() -> None:
    even = (0.25,) * 4
    assert clients_count_for_too_little(reporting([0, 200, 0, 200], even)) is None
    assert clients_count_for_too_little(reporting([0, 200, 0, 200], even, declared={"weighting": "uniform"})) is None
    assert clients_count_for_too_little(reporting([0, 0, 0, 0], even)) is None
    assert clients_count_for_too_little(job()) is None


def test_a_client_without_data_or_one_left_out_as_declared_is_no_fault() -> None:
    e = reporting([0, 200, 0, 200], [0, 0.5, 0, 0.5], declared={"min_clients": 2})
    finding = clients_count_for_too_little(e)
    assert finding is not None and finding.certainty is Certainty.NOTED
    assert e.data is not None
    bare = replace(e, data=replace(e.data, sizes={**e.data.sizes, 0: 0, 2: 0}))
    assert clients_count_for_too_little(bare) is None


def test_clients_that_report_few_of_the_examples_that_they_train_on_are_named() -> None:
    counts, shares = (200.0, 200.0, 10.0, 200.0), (0.328, 0.328, 0.016, 0.328)
    finding = clients_count_for_too_little(reporting(counts, shares))  # 10 of 200: a count of batches, perhaps
    assert finding is not None and (finding.cause, finding.clients) == ("A3", (2,)) and "5.0 %" in finding.says
    assert clients_count_for_too_little(reporting((10.0,) * 4, (0.25,) * 4)) is None  # all alike
    e = reporting(counts, shares)
    part = replace(e.rounds[0].visits[2], watched=watched(samples=10))
    some = tuple(replace(one, visits=(*one.visits[:2], part, one.visits[3])) for one in e.rounds)
    assert clients_count_for_too_little(replace(e, rounds=some)) is None  # a straggler, which says what it did
    assert clients_count_for_too_little(reporting(counts, shares, declared={"weighting": "uniform"})) is None


def returning(*parts: tuple[float, float], **changes: Any) -> Evidence:
    """Two rounds of clients whose weights came back with these parts of what was trained, and as much beside it."""
    seen = tuple(visit(k, watched=watched(sent_back=SentBack(*part, 1.0, 30.0))) for k, part in enumerate(parts))
    one = round_of(1, visits=seen)
    short = trials(job=outcome(0.5), own_clients=outcome(0.5))
    return replace(job(rounds=(one, replace(one, number=2)), trials=short), **changes)


EARLY = ((0.1, 0.07), (0.3, 0.2), (0.12, 0.1), (0.2, 0.1))


def test_the_worst_checkpoint_of_each_visit_is_named_where_the_job_falls_short() -> None:
    finding = training_is_thrown_away(returning(*EARLY))
    assert finding is not None and (finding.cause, finding.certainty) == ("B7", Certainty.SUPPORTED)
    assert "0.16 of the change" in finding.says and finding.where == "job.py:10"  # the median of 0.12 and 0.2
    unsure = training_is_thrown_away(returning(*EARLY, trials=trials(job=outcome(0.5))))
    assert unsure is not None and unsure.certainty is Certainty.CONSISTENT


def test_early_stopping_means_noise_and_codecs_throw_no_training_away() -> None:
    whole, bound = (1.0, 0.0), (0.1, 0.0)
    for parts in ((whole, EARLY[0], whole, whole), (bound,) * 4, ((0.1, 0.9),) * 4, ((0.6, 0.2),) * 4):
        assert training_is_thrown_away(returning(*parts)) is None
    assert training_is_thrown_away(returning(*EARLY, trials=trials())) is None  # it costs nothing
    e = returning(*EARLY)
    sparse = tuple(replace(one, visits=tuple(replace(v, zero=0.9) for v in one.visits)) for one in e.rounds)
    assert training_is_thrown_away(replace(e, rounds=sparse)) is None
