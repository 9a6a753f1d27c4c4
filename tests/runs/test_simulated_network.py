"""A simulated network in a run: seconds by hand, who is late, dropped or out of reach, and who is asked for a loss.

conv_bn moves 179 numbers down, 716 bytes, and 171 + 8 up, 716 bytes. Its forward pass takes 2 * 4 * 64 * 27 operations
in the convolution and 2 * 16 * 3 in the head, 13,920; a training step three times as many per example, 0.04176 MFLOP.
Under "quantity" with sigma 1 six clients hold 4, 12, 7, 10, 13 and 14 examples.
"""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import experiment

import fedlens as fl
from fedlens import Clients, ConfigurationError, Experiment, Network
from fedlens.methods import METHODS
from fedlens.runs import execute, prepare

MESSAGE, WORK = 716, 3 * 13_920e-6  # bytes; MFLOP of one example
SIZES = [4, 12, 7, 10, 13, 14]
# 8 * 716 bits take 5.728 ms at 1 Mbit/s and 11.456 ms at 0.5; with two latencies of 10 ms that is 37.184 ms.
LINKS = 0.02 + 8 * MESSAGE / 1e6 + 8 * MESSAGE / 0.5e6
SLOW = {"down_mbit": 1.0, "up_mbit": 0.5, "latency": 0.01, "gflops": 0.001}  # 41.76 ms an example


def job(cohort: int = 6, **changes: object) -> Experiment:
    choice = {"selection": changes.pop("selection")} if "selection" in changes else {}
    partition = {"kind": "quantity", "sigma": 1.0}
    return experiment(clients=Clients(count=6, cohort=cohort, partition=partition, **choice), **changes)


def rows(job: Experiment) -> list[dict]:
    return [dict(state.row) for state in list(fl.stream(job))[1:]]


def seconds(examples: int, passes: int = 1) -> float:
    """What a visit with `examples` examples takes: MFLOP over GFLOP per second are milliseconds."""
    return LINKS + passes * examples * WORK / (1e3 * 0.001)


def test_a_round_takes_as_long_as_its_slowest_client():
    assert prepare(job()).deal.sizes.tolist() == SIZES
    for row in rows(job(network=Network(**SLOW))):
        assert row["simulated_seconds"] == pytest.approx(seconds(14), rel=1e-12)
        assert (row["late"], row["dropped"], row["surplus"], row["unavailable"]) == ([], [], [], 0)
    for row in rows(job(cohort=2, network=Network(**SLOW))):
        assert row["simulated_seconds"] == pytest.approx(seconds(max(SIZES[c] for c in row["clients"])), rel=1e-12)


@pytest.mark.parametrize("method", ["fedsam", "ditto"])
def test_two_gradients_a_step_take_twice_the_work(method):
    twice = experiment(method=method, clients=Clients(count=6, cohort=6, holdout=0.2), network=Network(**SLOW))
    # 10 examples each, two of which are held out.
    assert rows(twice)[0]["simulated_seconds"] == pytest.approx(seconds(8, passes=2), rel=1e-12)


def test_what_travels_decides_about_the_time():
    # A sign update is 4 + 22 bytes and 32 of statistics; the float16 model 358.
    coded = job(network=Network(**SLOW), communication={"up": "sign", "down": "float16"})
    expected = 0.02 + 8 * 358 / 1e6 + 8 * 58 / 0.5e6 + 14 * WORK
    assert rows(coded)[0]["simulated_seconds"] == pytest.approx(expected, rel=1e-12)


def test_a_perfect_network_leaves_no_trace_in_the_rows():
    plain = rows(job())
    assert "simulated_seconds" not in plain[0]
    named = rows(job(network=Network(gflops=1e9)))
    told = {"simulated_seconds", "unavailable", "late", "dropped", "surplus", "steps_cut"}
    assert [{key: value for key, value in row.items() if key not in told} for row in named] == plain


def test_late_clients_are_named_receive_the_model_and_do_not_count():
    # Time for 12 examples and not for 13: clients 4 and 5 are late in every round.
    deadline = (seconds(12) + seconds(13)) / 2
    states = list(fl.stream(job(network=Network(**SLOW, deadline=deadline))))
    for state in states[1:]:
        assert state.row["late"] == [4, 5] and state.row["clients"] == [0, 1, 2, 3]
        assert state.row["simulated_seconds"] == pytest.approx(deadline)
        assert state.row["bytes_down"] == 6 * MESSAGE and state.row["bytes_up"] == 4 * MESSAGE
        assert [record.client for record in state.records] == [0, 1, 2, 3]


@pytest.mark.parametrize("method", ["fedprox", "fednova", "fedavg"])
def test_partial_work_is_told_and_sent(method):
    # Client 4 has batches of 4, 4, 4, 1 and client 5 of 4, 4, 4, 2: each loses its last one.
    deadline = (seconds(12) + seconds(13)) / 2
    network = Network(**SLOW, deadline=deadline, late="partial")
    states = list(fl.stream(job(network=network, method=METHODS[method](), rounds=8)))
    for state in states[1:]:
        assert state.row["steps_cut"] == {"4": 1, "5": 1} and state.row["late"] == []
        assert state.row["clients"] == [0, 1, 2, 3, 4, 5]
        assert [(r.examples, r.samples, r.steps) for r in state.records[4:]] == [(13, 12, 3), (14, 12, 3)]
        more = 8 * 4 / 0.5e6 if method == "fednova" else 0.0  # one number beside the update
        assert state.row["simulated_seconds"] == pytest.approx(seconds(12) + more, rel=1e-12)
        assert state.row["samples"] == 4 + 12 + 7 + 10 + 12 + 12
    assert states[-1].accuracy > 0.76  # guessing: 1/3, deviation 0.086 on 30 images


def test_fednova_reckons_with_the_steps_that_were_taken():
    """Cut to one step each, all clients take equal steps, and FedNova is FedAvg."""
    network = Network(**SLOW, deadline=seconds(5), late="partial")
    ends = {}
    for method in ("fednova", "fedavg"):
        last = list(fl.stream(job(network=network, method=method, engine={"precision": "float64"})))[-1]
        assert [record.steps for record in last.records] == [1] * 6
        ends[method] = last.tree.vector
    assert torch.allclose(ends["fednova"], ends["fedavg"], rtol=1e-12, atol=1e-14)


def test_dropped_clients_and_those_out_of_reach_are_told():
    network = Network(**SLOW, available=0.7, dropout=0.3, deadline=10.0)
    found = rows(job(rounds=12, network=network))
    for row in found:
        assert len(row["clients"]) + len(row["dropped"]) + row["unavailable"] == 6
        assert row["bytes_up"] == len(row["clients"]) * MESSAGE
        assert row["bytes_down"] == (6 - row["unavailable"]) * MESSAGE
        # The server cannot know that a client is gone: it waits for the deadline.
        slowest = max(SIZES[client] for client in row["clients"])
        assert row["simulated_seconds"] == pytest.approx(10.0 if row["dropped"] else seconds(slowest), rel=1e-12)
    assert 0 < sum(row["unavailable"] for row in found) < 72 and any(row["dropped"] for row in found)


def test_with_over_selection_the_slowest_are_surplus():
    # ceil(1.5 * 4) = 6 are invited, the four with 4, 7, 10 and 12 examples are first.
    for row in rows(job(cohort=4, network=Network(**SLOW, over_selection=1.5))):
        assert row["clients"] == [0, 1, 2, 3] and row["surplus"] == [4, 5]
        assert row["simulated_seconds"] == pytest.approx(seconds(12), rel=1e-12)
        assert row["bytes_down"] == 6 * MESSAGE and row["bytes_up"] == 4 * MESSAGE


def test_power_of_choice_asks_the_model_takes_the_highest_losses_and_pays_for_asking():
    chosen = job(cohort=2, selection="power-of-choice:6", server={"weights": "uniform"})
    federation, states = prepare(chosen), list(fl.stream(chosen))
    data, module = federation.split.train, fl.initial_model(chosen)
    for before, after in itertools.pairwise(states):
        before.load_into(module).eval()
        owners = [torch.from_numpy(federation.deal.client(client)) for client in range(6)]
        with torch.no_grad():
            losses = [F.cross_entropy(module(data.normalise(data.images[o])), data.labels[o]).item() for o in owners]
        assert after.row["clients"] == sorted(np.argsort(losses)[-2:].tolist())
        assert after.row["bytes_down"] == (2 + 6) * MESSAGE and after.row["bytes_up"] == 2 * MESSAGE
    # Only candidates are asked, and nobody is where all take part.
    assert rows(job(cohort=2, selection="power-of-choice:4"))[0]["bytes_down"] == (2 + 4) * MESSAGE
    assert rows(job(selection="power-of-choice:6"))[0]["bytes_down"] == 6 * MESSAGE


def test_fewer_candidates_than_are_invited_are_refused():
    with pytest.raises(ConfigurationError, match="fewer candidates than clients to choose"):
        job(cohort=4, selection="power-of-choice:5", network=Network(over_selection=1.5))


def test_a_stopped_run_on_a_network_resumes_to_the_same_bytes():
    def stop(title, state, rounds):
        if state.round == 2:
            raise KeyboardInterrupt

    network = Network(**SLOW, spread=0.5, jitter=0.5, dropout=0.2, deadline=seconds(13), late="partial")
    several = job(cohort=4, network=network, selection="power-of-choice:5")
    whole = execute(several, out="whole")
    with pytest.raises(KeyboardInterrupt):
        execute(several, out="stopped", progress=stop)
    done = execute(out="stopped", resume=True)
    assert (done / "rounds.jsonl").read_bytes() == (whole / "rounds.jsonl").read_bytes()
    assert sum(fl.Run(whole).metrics["simulated_seconds"][1:]) > 0
