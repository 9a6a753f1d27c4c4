"""Signs of what does not get where it should."""

from dataclasses import replace

import pytest
from evidence_of import aggregation, facts, handling, job, outcome, round_of, rounds, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.evidence import Round
from fedlens.diagnosis.signs.aggregation.accumulated import sum_is_carried_over
from fedlens.diagnosis.signs.aggregation.inits import clients_begin_apart
from fedlens.diagnosis.signs.mean import fault
from fedlens.diagnosis.signs.plumbing.alias import one_object_is_shared
from fedlens.diagnosis.signs.plumbing.installed import aggregate_is_not_installed
from fedlens.diagnosis.signs.plumbing.kept import server_keeps_an_older_model
from fedlens.diagnosis.signs.plumbing.loading import clients_do_not_load
from fedlens.diagnosis.signs.plumbing.restored import older_model_is_returned
from fedlens.diagnosis.signs.plumbing.returned import trained_model_is_not_returned


def found(finding: Finding | None) -> Finding:
    assert finding is not None and finding.certainty is Certainty.FOUND and finding.evidence
    return finding


def starting(*by_round: tuple[float | None, ...]) -> Evidence:
    """Clients 0, 1, ... with these starts, in rounds 1, 2, ..."""
    return job(
        rounds=tuple(
            round_of(number, visits=tuple(visit(c, watched=watched(start=x)) for c, x in enumerate(starts)))
            for number, starts in enumerate(by_round, 1)
        )
    )


def test_clients_that_start_elsewhere_at_later_visits_do_not_load() -> None:
    silent = handling(heeds={}, heeds_error={})
    everyone = found(clients_do_not_load(replace(starting((0.0, 0.0), (0.2, 0.3)), handling=silent)))
    assert everyone.cause == "B1" and everyone.clients == ()
    assert found(clients_do_not_load(starting((0.0, 0.0), (0.2, 0.0), (0.2, 0.0)))).clients == (0,)


def test_an_optimiser_of_an_earlier_model_is_no_start_elsewhere() -> None:
    """From their second visit on what clients train is another model than they load and send back as it came."""
    first, (_, later) = starting((0.0, 0.0)), starting((0.0, 0.0), (0.2, 0.3)).rounds
    vain = replace(later, visits=tuple(replace(one, norm=0.0) for one in later.visits))
    heard = handling(heeds={0: 0.9, 1: 0.9}, heeds_error={0: 0.01, 1: 0.01})
    assert clients_do_not_load(job(rounds=(*first.rounds, vain), handling=heard)) is None
    assert clients_do_not_load(job(rounds=(*first.rounds, later), handling=heard)) is not None


def test_entries_that_alone_are_deaf_were_left_out_of_the_load() -> None:
    e = starting((0.0, 0.0), (0.2, 0.3))
    heard = {"heeds": {0: 0.9, 1: 0.9}, "heeds_error": {0: 0.01, 1: 0.01}}
    part = found(clients_do_not_load(job(rounds=e.rounds, handling=handling(**heard, unheeded=("1.weight",)))))
    assert part.cause == "A4" and "1.weight" in part.says and part.also == ("B1",)
    assert found(clients_do_not_load(job(rounds=e.rounds, handling=handling(**heard)))).cause == "A4"
    far = starting((0.0, 0.0), (0.8, 0.9))  # as of clients that load in the first round, where they are asked, alone
    assert found(clients_do_not_load(job(rounds=far.rounds, handling=handling(**heard)))).cause == "B1"
    half = handling(heeds={0: 0.5, 1: 0.5}, heeds_error={0: 0.01, 1: 0.01}, unheeded=("0.weight", "1.weight"))
    assert found(clients_do_not_load(job(rounds=e.rounds, handling=half))).cause == "B1"


def test_an_update_that_what_is_sent_does_not_change_at_all_was_trained_on_another_model() -> None:
    """The server adds an update to what it sent, so that all of a change comes back from clients that load nothing."""
    e = starting((0.0, 0.0), (0.2, 0.3))
    same = handling(heeds={0: 1.0 + 5e-10, 1: 1.0 - 2e-9}, heeds_error={0: 8e-9, 1: 8e-9})
    update = replace(e, facts=facts(payload="update"), handling=same)
    finding = found(clients_do_not_load(update))
    assert finding.cause == "B1" and finding.also == ()
    moves = replace(same, heeds_error={0: 8e-3, 1: 8e-3})
    assert found(clients_do_not_load(replace(update, handling=moves))).cause == "A4"
    assert found(clients_do_not_load(replace(update, facts=facts()))).cause == "A4"


def test_loading_in_half_precision_is_loading() -> None:
    assert clients_do_not_load(starting((1e-3, 2e-3), (1e-3, 2e-3))) is None


def test_first_visits_alone_are_inits_and_not_a_model_that_is_never_loaded() -> None:
    e = starting((0.9, 0.8), (0.0, 0.0))
    assert clients_do_not_load(e) is None and clients_begin_apart(e) is not None


def test_nothing_of_what_is_sent_comes_back_from_clients_that_do_not_load() -> None:
    """Training could not be watched: the answers alone tell."""
    unseen = rounds(visits=tuple(visit(c, watched=watched(start=None)) for c in range(4)))
    deaf = handling(heeds={0: 0.004, 3: -0.003}, heeds_error={0: 0.01, 3: 0.01})
    assert found(clients_do_not_load(job(rounds=unseen, handling=deaf))).cause == "B1"
    contracting = handling(heeds={0: 0.2, 3: 0.15}, heeds_error={0: 0.01, 3: 0.01})
    assert clients_do_not_load(job(rounds=unseen, handling=contracting)) is None
    unsure = handling(heeds={0: 0.1, 3: 0.1}, heeds_error={0: 0.3, 3: 0.3})
    assert clients_do_not_load(job(rounds=unseen, handling=unsure)) is None


def test_clients_seen_to_load_that_contract_strongly_are_healthy() -> None:
    strong = handling(heeds={0: 0.001, 3: 0.002}, heeds_error={0: 0.01, 3: 0.01})
    e = job(handling=strong)
    assert clients_do_not_load(e) is None and older_model_is_returned(e) is None


def test_an_answer_that_is_exactly_independent_of_what_was_loaded_is_an_older_model() -> None:
    e = job(handling=handling(heeds={0: 0.0, 3: 0.0}, heeds_error={0: 0.0, 3: 0.0}))
    assert found(older_model_is_returned(e)).cause == "B7" and clients_do_not_load(e) is None


@pytest.mark.parametrize("seen", [{"leaks": 0.97}, {"carries": 0.9}, {"shared": (0, 3), "heeds": {0: 0.0, 3: 0.0}}])
def test_one_model_object_is_found(seen: dict[str, object]) -> None:
    e = job(handling=handling(**seen))
    assert found(one_object_is_shared(e)).silent and clients_do_not_load(e) is None


def test_a_chain_of_starts_is_one_object_and_not_a_model_that_is_never_loaded() -> None:
    e = starting((0.0, 0.1, 0.15), (0.0, 0.12, 0.14))
    assert found(one_object_is_shared(e)).cause == "B3" and clients_do_not_load(e) is None


def test_uploads_in_one_memory_are_one_object() -> None:
    e = job(rounds=rounds(visits=tuple(visit(c, shares=(0, 1, 2, 3)) for c in range(4))))
    assert "A1" in found(one_object_is_shared(e)).hides


def test_one_network_that_loads_what_it_is_sent_is_healthy() -> None:
    assert one_object_is_shared(job(handling=handling(shared=(0, 1, 2), order=0.3, order_noise=0.3))) is None


def test_training_what_was_received_in_place_is_only_noted() -> None:
    finding = one_object_is_shared(job(handling=handling(writes=True)))
    assert finding is not None and finding.certainty is Certainty.NOTED


def test_a_model_that_never_moves_though_clients_do_is_not_installed() -> None:
    never = aggregation(weights=(0.0, 0.0, 0.0))
    assert found(aggregate_is_not_installed(job(aggregation=never, rounds=()))).also == ("E5",)
    still = rounds(moved=0.0, total=0.0, weights=(0.0,) * 4, residual=1.0)
    assert found(aggregate_is_not_installed(job(aggregation=None, rounds=still))).cause == "B2"


def test_a_server_that_is_a_round_late_is_told_from_one_that_installs_nothing() -> None:
    dry = aggregation(weights=(0.0, 0.0, 0.0))
    behind = (round_of(1, moved=0.0), round_of(2, residual=1.4))  # the second takes the first one's mean
    late = found(aggregate_is_not_installed(job(aggregation=dry, rounds=behind)))
    assert "too late" in late.says and late.also == ("A8",)
    never = found(aggregate_is_not_installed(job(aggregation=dry, rounds=rounds(3, moved=0.0))))
    assert "never" in never.says


KEPT = {"moved": 0.0, "total": 0.0, "weights": (0.0,) * 4, "residual": 1.0}


def test_a_server_that_goes_on_with_an_older_model_in_most_rounds_is_found() -> None:
    """The best model is sent again, by a comparison that is turned round: after the first round nothing is better."""
    e = job(aggregation=aggregation(again=1.0), rounds=(round_of(1), *(round_of(n, **KEPT) for n in (2, 3, 4))))
    finding = found(server_keeps_an_older_model(e))
    assert finding.cause == "B7" and "3 of 4" in finding.says and finding.where == "job.py:20"
    assert aggregate_is_not_installed(e) is None and sum_is_carried_over(e) is None and fault(e) is None


def test_a_check_that_refuses_an_aggregate_now_and_then_is_noted_where_it_costs_nothing() -> None:
    seen = (*(round_of(n) for n in (1, 2, 3)), *(round_of(n, **KEPT) for n in (4, 5)))
    refused = aggregation(weights=(0.0,) * 3, by_cohort=((3, 1.0), (5, 1e-15)))  # of made-up uploads too
    finding = server_keeps_an_older_model(job(aggregation=refused, rounds=seen))
    assert finding is not None and finding.certainty is Certainty.NOTED and fault(job(rounds=seen)) is None
    assert fault(job(aggregation=refused, rounds=seen)) is None
    short = trials(job=outcome(0.5))
    finding = server_keeps_an_older_model(job(aggregation=refused, rounds=seen, trials=short))
    assert finding is not None and finding.certainty is Certainty.FOUND
    once = server_keeps_an_older_model(job(rounds=seen[:4], trials=short))
    assert once is not None and once.certainty is Certainty.NOTED
    void = job({"min_clients": 5}, rounds=seen)
    assert server_keeps_an_older_model(void) is None and server_keeps_an_older_model(job()) is None


def test_void_rounds_and_coarse_grids_are_no_missing_install() -> None:
    still = rounds(moved=0.0, total=0.0, weights=(0.0,) * 4, residual=1.0)
    assert aggregate_is_not_installed(job({"min_clients": 5}, aggregation=None, rounds=still)) is None
    assert aggregate_is_not_installed(job(aggregation=aggregation(grid=0.05, truncated=True), rounds=still)) is None
    idle = rounds(moved=0.0, visits=tuple(visit(c, norm=0.0) for c in range(4)), residual=None, weights=())
    assert aggregate_is_not_installed(job(aggregation=None, rounds=idle)) is None


def test_first_visits_that_bring_nothing_and_later_ones_that_do_are_an_older_model() -> None:
    nothing, something = (tuple(visit(c, norm=norm, size=norm) for c in range(4)) for norm in (0.0, 0.5))
    late = job(rounds=(round_of(1, visits=nothing), round_of(2, visits=something)))
    assert found(older_model_is_returned(late)).cause == "B7" and trained_model_is_not_returned(late) is None
    early = job(rounds=(round_of(1, visits=something), round_of(2, visits=nothing)))
    assert older_model_is_returned(early) is None


def test_steps_that_leave_the_answer_as_it_was_trained_something_else() -> None:
    idle = tuple(visit(c, norm=0.0, size=0.0) for c in range(4))
    assert found(trained_model_is_not_returned(job(rounds=rounds(visits=idle)))).clients == ()
    one = tuple(visit(c, norm=0.0 if c == 1 else 0.5) for c in range(4))
    assert found(trained_model_is_not_returned(job(rounds=rounds(visits=one)))).clients == (1,)


@pytest.mark.parametrize("seen", [{"steps": 0}, {"rates": (0.0,)}, {"gradient_norm": 0.0}, {"steps": None}])
def test_visits_without_steps_rate_or_gradient_are_left_to_other_signs(seen: dict[str, object]) -> None:
    idle = tuple(visit(c, norm=0.0, watched=watched(**seen)) for c in range(4))
    assert trained_model_is_not_returned(job(rounds=rounds(visits=idle))) is None


def test_who_is_heard_later_alone_returns_what_it_received_too() -> None:
    """Of late rounds no gradient is heard: clients that were not asked before are no others."""

    def asked(number: int, clients: tuple[int, ...], **changes: object) -> Round:
        idle = watched(**changes)
        return round_of(number, visits=tuple(visit(c, norm=0.0, size=0.0, watched=idle) for c in clients))

    early, light = asked(1, (0, 1)), {"loss_first": None, "gradient_norm": None}
    late = replace(job(), rounds=(early, asked(2, (2, 3), **light)))
    assert found(trained_model_is_not_returned(late)).clients == ()
    rest = replace(job(), rounds=(early, asked(2, (2, 3), rates=(0.0,), **light)))
    assert found(trained_model_is_not_returned(rest)).clients == (0, 1)
