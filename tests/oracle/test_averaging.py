"""Federated averaging against what it must equal, in float64: float32 gates mislead where ReLU decisions flip."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import experiment

import fedlens as fl
from fedlens import Clients, Engine, Local, Model, Shards
from fedlens.engine import Visit
from fedlens.methods import Reduced, Server
from fedlens.runs import initial_model, prepare
from fedlens.runs.federation import Federation
from fedlens.runs.loop import advance
from fedlens.server import Sum

FLOAT64 = Engine(precision="float64")


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


def last_state(federation: Federation):
    return list(advance(federation))[-1]


@pytest.mark.parametrize("model", [Model("mlp"), Model("resnet8", norm="group", groups=4)])
@pytest.mark.parametrize("clients", [Clients(count=6, cohort=6), Clients(count=6, cohort=6, partition=Shards(1))])
def test_one_full_batch_step_of_all_clients_is_central_sgd_step_for_step(model, clients):
    rounds, rate = 3, 0.1
    job = experiment(
        rounds=rounds, model=model, clients=clients, local=Local(batch="all", lr=rate), engine=FLOAT64, evaluate_every=9
    )
    federation = prepare(job)
    central = initial_model(job).double()
    optimizer = torch.optim.SGD(central.parameters(), lr=rate)
    data = federation.split.train
    inputs = data.normalise(data.images, torch.float64)
    for state in advance(federation):
        expected = torch.cat([p.detach().reshape(-1) for p in _in_layout_order(central, state.tree.layout)])
        assert relative(state.tree.vector, expected) <= 1e-12
        # The mean of client means weighted by n_i is the mean over all examples, whatever the sizes.
        optimizer.zero_grad()
        F.cross_entropy(central(inputs), data.labels).backward()
        optimizer.step()
    assert state.round == rounds
    assert (
        relative(state.tree.vector, federation.start.vector) > 1e-3
    )  # it moved: the comparison is not of two standstills


def _in_layout_order(module, layout):
    named = dict(module.named_parameters())
    return [named[slot.name] for slot in layout.slots]


def test_equal_models_average_to_themselves():
    federation = prepare(experiment(engine=FLOAT64))
    held = [federation.deal.client(client) for client in range(3)]
    visits = [
        Visit(client, 1, own, (own[:4],), 0.0, weight)
        for client, own, weight in zip(range(3), held, (5.0, 17.0, 1.0), strict=True)
    ]
    tree = federation.start
    # With a rate of zero every client returns the parameters that it received.
    outcome = federation.engine.round(tree, {}, visits, {})
    weights = tree.vector[: tree.layout.trained]
    new = federation.engine.trainer.method.aggregate(Server(weights), Reduced(outcome.reduced(), 1.0))
    assert torch.equal(new.weights, weights)


def test_the_order_of_clients_changes_nothing():
    federation = prepare(experiment(engine=FLOAT64))
    visits = federation.plan.visits(1)
    forward = federation.engine.round(federation.start, {}, visits, {})
    backward = federation.engine.round(federation.start, {}, visits[::-1], {})
    assert relative(forward.reduced()["update"], backward.reduced()["update"]) <= 1e-14
    assert {k: v.item() for k, v in forward.integers.items()} == {k: v.item() for k, v in backward.integers.items()}


def test_a_client_listed_twice_counts_twice():
    federation = prepare(experiment(engine=FLOAT64))
    first, second, _ = federation.plan.visits(1)
    twice = federation.engine.round(federation.start, {}, [first, first, second], {}).reduced()["update"]
    doubled = dataclasses.replace(first, weight=2 * first.weight)
    once = federation.engine.round(federation.start, {}, [doubled, second], {}).reduced()["update"]
    single = federation.engine.round(federation.start, {}, [first, second], {}).reduced()["update"]
    assert relative(twice, once) <= 1e-14
    assert relative(twice, single) > 1e-3


def test_the_mean_of_ten_updates_agrees_when_computed_three_ways():
    rng = np.random.default_rng(0)
    updates = torch.from_numpy(rng.normal(size=(10, 1000)))
    weights = rng.integers(1, 100, size=10).astype(float)
    streamed = Sum()
    for update, weight in zip(updates, weights, strict=True):
        streamed.add(update, weight)
    product = torch.from_numpy(weights / weights.sum()) @ updates
    by_hand = sum(w * u for w, u in zip(weights.tolist(), updates, strict=True)) / weights.sum()
    assert relative(streamed.mean(), product) <= 1e-14
    assert relative(by_hand, product) <= 1e-14


def test_uniform_weights_and_weights_by_examples_differ_where_sizes_do():
    job = experiment(engine=FLOAT64, clients=Clients(count=6, cohort=6, partition={"kind": "quantity", "sigma": 1.5}))
    by_examples = last_state(prepare(job)).tree.vector
    uniform = last_state(prepare(dataclasses.replace(job, server=fl.Server(weights="uniform")))).tree.vector
    assert relative(by_examples, uniform) > 1e-4


def test_running_statistics_are_averaged_and_integer_buffers_copied():
    federation = prepare(experiment(engine=FLOAT64, clients=Clients(count=3, cohort=3, partition={"kind": "quantity"})))
    visits = federation.plan.visits(1)
    alone = [federation.engine.round(federation.start, {}, [visit], {}) for visit in visits]
    together = federation.engine.round(federation.start, {}, visits, {})
    weights = np.array([visit.weight for visit in visits])
    expected = sum(w * o.rest.mean() for w, o in zip(weights.tolist(), alone, strict=True)) / weights.sum()
    assert together.rest.mean().numel() == 8 and relative(together.rest.mean(), expected) <= 1e-14
    largest = int(np.argmax([visit.examples for visit in visits]))
    assert together.integers["norm.num_batches_tracked"] == len(visits[largest].batches)
    assert together.integers["norm.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_two_runs_with_one_seed_agree_bit_for_bit_and_another_seed_does_not(precision):
    job = experiment(engine=Engine(precision=precision), data={"source": "small:split", "augment": "crop-flip"})
    one, two = (list(advance(prepare(job))) for _ in range(2))
    assert torch.equal(one[-1].tree.vector, two[-1].tree.vector)
    assert [state.row for state in one] == [state.row for state in two]
    other = last_state(prepare(dataclasses.replace(job, seed=1)))
    assert not torch.equal(one[-1].tree.vector, other.tree.vector)


def test_a_run_leaves_the_users_random_numbers_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    last_state(prepare(experiment()))
    assert torch.equal(torch.rand(3), expected)
