"""Known defects of SCAFFOLD and FedNova; the table is in test_known_defects.py."""

import dataclasses
import itertools

import numpy as np
import torch
from battery import check_method, federation_of
from defects import refused
from small import experiment
from torch import Tensor

from fedlens import Clients, Engine, Local, initial_model
from fedlens.local import Optimizer
from fedlens.methods import METHODS, Client, Method, Reduced, Server
from fedlens.runs import Federation, prepare
from fedlens.runs.loop import State, advance, untrained
from fedlens.tree import Tree

FLOAT64 = Engine(precision="float64")
START = torch.randn(6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
AWAY = torch.randn(6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def scaffold(finish: object) -> Method:
    """SCAFFOLD with another end of a visit."""
    return dataclasses.replace(METHODS["scaffold"](), finish=finish)


def test_memory_is_written_back():
    def forgotten(weights: Tensor, client: Client) -> object:
        upload, _ = METHODS["scaffold"]().finish(weights, client)
        return upload, {"c_i": client.memory["c_i"]}

    check_method(METHODS["scaffold"])
    refused(lambda: check_method(lambda: scaffold(forgotten)), "c_i of . stays as it was")


def remembers_the_mean_gradient(method: Method, local: Local) -> None:
    """Under one gradient g at every step, c_i+ is g, whatever the number of steps and the momentum."""
    optimizer, weights, zero = Optimizer(local), START.clone(), torch.zeros_like(START)
    client = Client(START, {"c": zero}, {"c_i": zero}, 0.03, optimizer.reach(11))
    state = optimizer.start(weights)
    for _ in range(11):
        optimizer.step(weights, AWAY.clone(), state, 0.03, lambda g, w: method.correct(g, w, client))
    assert torch.allclose(method.finish(weights, client)[1]["c_i"], AWAY, rtol=1e-12)


def test_c_i_is_the_mean_gradient():
    def counting(k: float) -> Method:
        return scaffold(lambda w, client: METHODS["scaffold"]().finish(w, dataclasses.replace(client, reach=k)))

    plain, momentum = Local(), Local(momentum=0.9)
    for local in (plain, momentum):
        remembers_the_mean_gradient(METHODS["scaffold"](), local)
    remembers_the_mean_gradient(counting(11.0), plain)
    refused(lambda: remembers_the_mean_gradient(counting(1.0), plain))  # one epoch
    refused(lambda: remembers_the_mean_gradient(counting(11.0), momentum))


def iid(method: Method) -> Federation:
    """20 clients with one image of each class, two a round."""
    clients, local = Clients(count=20, cohort=2), Local(batch=3, lr=0.05, epochs=3)
    job = {"rounds": 20, "evaluate_every": 20, "model": {"name": "mlp"}, "local": local, "clients": clients}
    return prepare(experiment(**job, method=method, server={"weights": "uniform"}, engine=FLOAT64))


def ends_near_fedavg(method: Method, start: State) -> None:
    """From `start` it ends nearer to where FedAvg ends than half of the way that FedAvg goes, and is as good."""
    average = list(advance(iid(METHODS["fedavg"]())))
    last = list(advance(iid(method), start))[-1]
    way = (average[-1].tree.vector - average[0].tree.vector).norm()
    assert (last.tree.vector - average[-1].tree.vector).norm() < 0.5 * way
    assert last.accuracy > average[-1].accuracy - 0.05


def test_scaffold_on_iid_data_is_fedavg():
    plain = METHODS["scaffold"]()
    zero = untrained(iid(plain))
    assert all(bool((value == 0).all()) for value in zero.server.values()) and not zero.memory
    ends_near_fedavg(plain, zero)

    def network(seed: int) -> Tensor:
        job = dataclasses.replace(iid(plain).experiment, seed=seed)
        return Tree.of(initial_model(job), torch.float64).vector

    memory = {client: {"method.c_i": network(client + 2)} for client in range(20)}
    refused(lambda: ends_near_fedavg(plain, dataclasses.replace(zero, server={"c": network(1)}, memory=memory)))
    as_received = dataclasses.replace(plain, client_memory={"c_i": "model"})
    refused(lambda: ends_near_fedavg(as_received, dataclasses.replace(zero, server={"c": zero.tree.vector})))


STEPS = torch.tensor([3, 6, 9, 13, 13, 16, 160])  # K_i of clients whose numbers of examples are in proportion
SHARE = (STEPS.double() / STEPS.sum())[:, None]


def step_of(method: Method, updates: Tensor, reach: Tensor, fraction: float) -> Tensor:
    """The server's step from zero [T], given what clients [m, T] trained, averaged by examples."""
    start = torch.zeros_like(updates)
    upload, _ = method.finish(updates, Client(start, {}, {}, 0.1, reach))
    mean = {name: (SHARE * value).sum(0) for name, value in upload.items()}
    return method.aggregate(Server(start[0]), Reduced(mean, fraction)).weights


def is_no_longer_than_an_update(method: Method) -> None:
    """Where all clients agree on d, Delta_i = ||a_i|| d with momentum 0.9, the step tau_eff d is a mean of them."""
    reach = torch.tensor([[Optimizer(Local(momentum=0.9)).reach(int(k))] for k in STEPS], dtype=torch.float64)
    assert step_of(method, reach * AWAY, reach, 1.0).norm() <= (reach * AWAY).norm(dim=1).max()


def test_fednovas_step_is_bounded():
    def by_plain_steps(weights: Tensor, client: Client) -> object:
        upload, _ = METHODS["fednova"]().finish(weights, client)
        return {**upload, "update": (weights - client.start) / STEPS[:, None]}, {}

    is_no_longer_than_an_update(METHODS["fednova"]())
    refused(lambda: is_no_longer_than_an_update(dataclasses.replace(METHODS["fednova"](), finish=by_plain_steps)))
    # Elsewhere ||tau_eff sum p_i Delta_i / ||a_i|| || <= max ||Delta_i|| sum p_i ||a_i|| sum p_i / ||a_i||.
    skewed = {"count": 4, "cohort": 4, "partition": {"kind": "quantity", "sigma": 1.5}}
    federation = federation_of(METHODS["fednova"](), local=Local(batch=2, momentum=0.9, epochs=2), clients=skewed)
    sizes, trained = federation.deal.sizes, federation.start.layout.trained
    assert sizes.max() > 4 * sizes.min()
    for before, after in itertools.pairwise(advance(federation)):
        reach = np.array([Optimizer(Local(momentum=0.9)).reach(record.steps) for record in after.records])
        longest = (reach * [record.update_norm for record in after.records]).max()
        bound = longest * (sizes * reach).sum() * (sizes / reach).sum() / sizes.sum() ** 2
        assert 0.1 * longest < (after.tree.vector - before.tree.vector)[:trained].norm() <= bound


def is_fedavg_at_equal_k(method: Method) -> None:
    updates, reach = torch.outer(torch.arange(1.0, 8.0), AWAY.float()).double(), torch.full((7, 1), 5.0).double()
    expected = step_of(METHODS["fedavg"](), updates, reach, 0.1)
    assert torch.allclose(step_of(method, updates, reach, 0.1), expected, rtol=1e-12)


def test_fednova_is_fedavg_at_equal_k():
    def too_far(server: Server, reduced: Reduced) -> Server:
        return server.next(METHODS["fednova"]().aggregate(server, reduced).weights / reduced.fraction)

    is_fedavg_at_equal_k(METHODS["fednova"]())
    refused(lambda: is_fedavg_at_equal_k(dataclasses.replace(METHODS["fednova"](), aggregate=too_far)))
