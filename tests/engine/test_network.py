"""Links and devices on simulated time."""

import numpy as np
import pytest

from fedlens import IID, Local, Server
from fedlens.engine import BySize, Federated, Network, Pooled, PowerOfChoice
from fedlens.engine.network import Journey, Load, arrive, duration
from fedlens.errors import ConfigurationError, RunError
from fedlens.partition import Quantity

MB = 10**6
LABELS = np.arange(100) % 5


def journeys(network: Network, clients=range(200), seed=0, round=1, steps=4, mflop=500.0, cohort=10**6):
    """1 MB each way and `steps` steps of `mflop` MFLOP for each of `clients`."""
    loads = [Load(client, MB, MB, np.full(steps, mflop)) for client in clients]
    return arrive(network, loads, cohort, seed, round)


def one(network: Network, client=0, **changes) -> Journey:
    return journeys(network, [client], **changes)[0]


def plan(network=None, partition=IID(), **changes) -> Federated:  # noqa: B008
    deal = partition.deal(LABELS, 10, np.random.default_rng(0))
    costs = {"bytes_down": MB, "bytes_up": MB, "mflop_per_example": 100.0}
    return Federated(deal, 4, 20, Local(epochs=2, batch=4), Server(), 0, network=network, **{**costs, **changes})


def test_the_default_is_a_perfect_world():
    journey = one(Network())
    assert journey.outcome == "arrived" and journey.seconds == 0 and journey.steps == 4
    assert Network().reachable(5, 0, 1).tolist() == [0, 1, 2, 3, 4]
    everybody = Network().reachable(1_000_000, 0, 1)
    assert Network().reachable(1_000_000, 0, 2) is everybody  # no list of a million is made in every round
    with pytest.raises(ValueError, match="read-only"):
        everybody[0] = 1


def test_seconds_follow_from_bytes_rates_latency_and_work():
    journey = one(Network(down_mbit=8, up_mbit=2, latency=0.25, gflops=1))
    assert journey.down == pytest.approx(1.25)  # 8 Mbit at 8 Mbit/s, and 0.25 s on the way
    assert journey.up == pytest.approx(4.25)  # 8 Mbit at 2 Mbit/s
    assert journey.compute == pytest.approx(2.0)  # 4 steps of 500 MFLOP at 1000 MFLOP/s
    assert journey.seconds == pytest.approx(7.5)


def test_without_spread_all_clients_are_equal_and_with_it_they_differ_but_stay_who_they_are():
    equal = Network(down_mbit=8, up_mbit=8, gflops=1)
    assert len({journey.seconds for journey in journeys(equal)}) == 1
    spread = Network(down_mbit=8, up_mbit=8, gflops=1, spread=0.5)
    first, later = journeys(spread, round=1), journeys(spread, round=9)
    assert [j.seconds for j in first] == [j.seconds for j in later]
    assert len({j.down for j in first}) == len({j.compute for j in first}) == 200
    assert all(j.down == pytest.approx(j.up) for j in first)  # both directions share a factor
    assert [j.seconds for j in journeys(spread, seed=1)] != [j.seconds for j in first]


def test_spread_is_log_normal_about_the_median_and_independent_for_link_and_device():
    logs = np.log([Network(spread=0.5).profile(client, 3) for client in range(2000)])
    # 2000 draws: the mean's standard deviation is 0.5 / sqrt(2000) = 0.011, that of the standard deviation 0.008, that
    # of the correlation 0.022; the bounds are four of each.
    assert abs(logs.mean(axis=0)).max() < 0.045
    assert abs(logs.std(axis=0) - 0.5).max() < 0.032
    assert abs(np.corrcoef(logs.T)[0, 1]) < 0.09


def test_jitter_changes_from_visit_to_visit():
    network = Network(down_mbit=8, jitter=0.5)
    down = [one(network, round=round).down for round in range(1, 1001)]
    assert len(set(down)) == 1000
    # log(down) = -0.5 z about log(1 s); the mean of 1000 has a standard deviation of 0.016.
    assert abs(np.log(down).mean()) < 0.064


def test_availability_and_dropout_have_the_rates_that_are_set():
    network = Network(available=0.7, dropout=0.2)
    reached = [len(network.reachable(1000, 0, round)) for round in range(1, 11)]
    # 10 000 draws: standard deviations sqrt(10000 * 0.7 * 0.3) = 46 and, for 4000 at 0.2, 25; the bounds are four.
    assert abs(sum(reached) - 7000) < 184
    assert network.reachable(1000, 0, 1).tolist() != network.reachable(1000, 0, 2).tolist()
    dropped = sum(j.outcome == "dropped" for round in range(1, 21) for j in journeys(network, round=round))
    assert abs(dropped - 800) < 100


def test_a_dropped_client_vanishes_some_time_in_its_visit():
    lost = [j for j in journeys(Network(down_mbit=8, up_mbit=8, dropout=0.5)) if j.outcome == "dropped"]
    moments = [j.vanished / j.seconds for j in lost]
    assert all(0 <= moment < 1 for moment in moments)
    # About 100 uniform draws: the mean is 0.5 with a standard deviation of 0.29 / 10.
    assert abs(np.mean(moments) - 0.5) < 0.12
    assert all(j.vanished is None for j in journeys(Network()))


def test_a_visit_that_ends_after_the_deadline_is_late_and_one_that_ends_with_it_is_not():
    # 1 s down, 2 s of training, 1 s up.
    assert one(Network(down_mbit=8, up_mbit=8, gflops=1, deadline=3.9)).outcome == "late"
    assert one(Network(down_mbit=8, up_mbit=8, gflops=1, deadline=4)).outcome == "arrived"
    # 3 * 0.1 s of latency and work add up to 0.30000000000000004 s.
    exact = one(Network(latency=0.1, gflops=1, deadline=0.3), steps=1, mflop=100.0)
    assert exact.outcome == "arrived"


@pytest.mark.parametrize(
    ("deadline", "steps", "outcome"),
    # 1 s down, 0.5 s a step, 1 s up: a deadline of d leaves time for (d - 2) / 0.5 of the 4 steps.
    [(4.0, 4, "arrived"), (3.9, 3, "arrived"), (3.5, 3, "arrived"), (2.5, 1, "arrived"), (2.4, 4, "late")],
)
def test_partial_work_is_the_steps_that_fit_before_the_deadline(deadline, steps, outcome):
    journey = one(Network(down_mbit=8, up_mbit=8, gflops=1, deadline=deadline, late="partial"))
    assert (journey.steps, journey.outcome) == (steps, outcome)
    assert journey.compute == pytest.approx(0.5 * steps)


def test_a_round_lasts_as_long_as_its_slowest_arrival():
    done = [Journey(i, "arrived", 1, 0.0, seconds, 0.0) for i, seconds in enumerate((3.0, 5.0, 4.0))]
    assert duration(done, 3, None) == duration(done, 3, 9.0) == 5.0
    assert duration([], 3, None) == duration([], 3, 9.0) == 0.0


def test_a_missing_upload_makes_the_server_wait_for_the_deadline_or_until_it_notices():
    arrived = Journey(0, "arrived", 1, 0.0, 3.0, 0.0)
    late = Journey(1, "late", 1, 0.0, 12.0, 0.0)
    dropped = Journey(2, "dropped", 1, 0.0, 8.0, 0.0, vanished=6.0)
    assert duration([arrived, late], 2, 9.0) == duration([arrived, dropped], 2, 9.0) == 9.0
    assert duration([arrived, dropped], 2, None) == 6.0
    assert duration([dropped], 1, None) == 6.0
    # A cohort that is complete waits for nobody.
    assert duration([arrived, late, dropped], 1, 9.0) == 3.0


def test_with_over_selection_the_fastest_count_and_the_others_are_surplus():
    network = Network(up_mbit=8, spread=1.0, over_selection=1.5)
    assert network.invited(10) == 15
    assert Network(over_selection=1.1).invited(50) == 55  # 1.1 * 50 is 55.00000000000001 in floating point
    made = journeys(network, range(15), cohort=10)
    kept = [j.seconds for j in made if j.outcome == "arrived"]
    assert len(kept) == 10 and [j.outcome for j in made].count("surplus") == 5
    assert max(kept) < min(j.seconds for j in made if j.outcome == "surplus")
    assert duration(made, 10, None) == max(kept)


def test_equally_fast_clients_are_surplus_equally_often():
    counts = np.zeros(6)
    for round in range(1, 601):
        counts += [
            j.outcome == "arrived" for j in journeys(Network(over_selection=1.5), range(6), round=round, cohort=4)
        ]
    # Mean 400, standard deviation sqrt(600 * 2/9) = 11.5; five of them are 58.
    assert abs(counts - 400).max() < 58


def test_what_happens_to_a_client_does_not_depend_on_who_else_is_invited():
    network = Network(down_mbit=8, up_mbit=8, gflops=1, spread=0.5, jitter=0.3, dropout=0.3, deadline=4)
    forward = {j.client: j for j in journeys(network, range(50))}
    backward = {j.client: j for j in journeys(network, range(49, -1, -1))}
    assert forward == backward
    assert one(network, 17) == forward[17]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"late": "partial"}, "needs a deadline"),
        ({"deadline": 1.0, "latency": 0.6}, "before two messages of latency = 0.6 are through"),
        ({"available": 0.0}, "greater than 0"),
        ({"dropout": 1.0}, "less than 1"),
        ({"down_mbit": 0.0}, "greater than 0"),
        ({"spread": -1.0}, "greater than or equal to 0"),
        ({"over_selection": 0.9}, "greater than or equal to 1"),
        ({"late": "wait"}, "One of: drop, partial"),
    ],
)
def test_impossible_worlds_are_refused(wrong, said):
    with pytest.raises(ConfigurationError, match=said):
        Network(**wrong)


def test_a_perfect_network_leaves_a_plan_as_it_is_without_one():
    for round in range(1, 6):
        bare, perfect = plan(partition=Quantity()).draw(round), plan(Network(), Quantity()).draw(round)
        assert [v.client for v in bare.visits] == [v.client for v in perfect.visits] and not bare.journeys
        for one, other in zip(bare.visits, perfect.visits, strict=True):
            assert all((a == b).all() for a, b in zip(one.batches, other.batches, strict=True)) and other.cut == 0
        assert bare.seconds == perfect.seconds == 0 and len(bare.unavailable) == 0


def test_slow_links_cost_time_and_change_no_work():
    fast, slow = plan().draw(3), plan(Network(down_mbit=0.8, up_mbit=0.8, gflops=1)).draw(3)
    assert [v.client for v in fast.visits] == [v.client for v in slow.visits]
    assert [len(v.batches) for v in fast.visits] == [len(v.batches) for v in slow.visits]
    # 10 s each way, and two epochs over 10 examples of 100 MFLOP at 1 GFLOP/s: 2 s.
    assert slow.seconds == pytest.approx(22)


def test_partial_work_drops_the_last_batches_of_a_visit_and_keeps_its_weight():
    # Two epochs in batches of 4, 4, 2: 0.4 s, 0.4 s, 0.2 s, twice; 1.3 s are enough for three steps, not for four.
    cut = plan(Network(gflops=1, deadline=1.3, late="partial")).draw(2)
    for visit, whole in zip(cut.visits, plan().visits(2), strict=True):
        assert [len(batch) for batch in visit.batches] == [4, 4, 2] and visit.cut == 3
        assert all((a == b).all() for a, b in zip(visit.batches, whole.batches, strict=False))
        assert visit.weight == whole.weight
    assert cut.seconds == pytest.approx(1.0)


def test_a_draw_tells_who_was_late_dropped_or_out_of_reach():
    network = Network(up_mbit=8, spread=1.0, available=0.6, dropout=0.3, deadline=1.2)
    seen = set()
    for round in range(1, 21):
        draw = plan(network).draw(round)
        invited = [j.client for j in draw.journeys]
        assert not set(invited) & set(draw.unavailable) and len(invited) <= min(4, 10 - len(draw.unavailable))
        assert sorted(draw.clients("arrived") + draw.clients("late") + draw.clients("dropped")) == invited
        assert [v.client for v in draw.visits] == draw.clients("arrived")
        waits = bool(draw.clients("late") or draw.clients("dropped"))
        assert draw.seconds == 1.2 if waits else draw.seconds <= 1.2
        seen |= {j.outcome for j in draw.journeys}
    assert seen == {"arrived", "late", "dropped"}


def test_a_round_may_come_to_nothing():
    nobody = plan(Network(up_mbit=8, deadline=0.5)).draw(1)  # an upload takes 1 s
    assert nobody.visits == [] and len(nobody.clients("late")) == 4 and nobody.seconds == 0.5
    unreached = plan(Network(available=1e-9)).draw(1)
    assert unreached.visits == unreached.journeys == [] and len(unreached.unavailable) == 10
    assert unreached.seconds == 0


def test_over_selection_invites_more_and_trains_a_cohort():
    draw = plan(Network(up_mbit=8, spread=0.5, over_selection=2.0)).draw(1)
    assert len(draw.journeys) == 8 and len(draw.visits) == 4 and len(draw.clients("surplus")) == 4


def test_a_cohort_that_is_complete_despite_late_clients_does_not_wait_for_the_deadline():
    # 8 are invited; uploads take exp(-0.5 z) s, so that in this draw some are late and four are not.
    draw = plan(Network(up_mbit=8, spread=0.5, over_selection=2.0, deadline=1.2)).draw(1)
    assert len(draw.visits) == 4 and draw.clients("late")
    assert draw.seconds == max(j.seconds for j in draw.journeys if j.outcome == "arrived") < 1.2


def test_a_plan_asks_for_losses_only_where_the_selection_looks_at_them():
    chosen = plan(selection=PowerOfChoice(10)).visits(1, lambda clients: 1.0 * clients)
    assert [visit.client for visit in chosen] == [6, 7, 8, 9]
    with pytest.raises(RunError, match="needs the clients' losses"):
        plan(selection=PowerOfChoice(10)).visits(1)
    assert len(plan(selection=BySize()).visits(1)) == 4


def test_pooled_training_has_no_journeys():
    draw = Pooled(np.arange(10), steps=2, rounds=6, local=Local(batch=4), seed=3).draw(2)
    assert len(draw.visits) == 1 and draw.journeys == [] and draw.seconds == 0
