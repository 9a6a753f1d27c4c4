"""FedGKT's formulas against numbers by hand, and its rounds against what they must equal."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedlens import Local, Schedule
from fedlens.data import Dataset
from fedlens.engine.gkt import Exchange
from fedlens.engine.plan import Federated, Passes
from fedlens.methods.fedgkt import Transfer, distillation, fedgkt
from fedlens.models import Model
from fedlens.models.halves import build_halves
from fedlens.partition import IID
from fedlens.server import Server
from fedlens.tree import Tree, bind


def logits(rows: int, seed: int) -> torch.Tensor:
    return 2 * torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_distillation_is_the_divergence_by_hand():
    # T = 2. Student log 1, log 9 over 2: weights 1 and 3, so 1/4 and 3/4. Teacher 0, 0: 1/2 and 1/2.
    student, teacher = torch.tensor([[0.0, math.log(9.0)]]), torch.zeros(1, 2)
    expected = 4 * (0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))
    assert distillation(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-6)
    # The other way round it is another number: the teacher's probabilities stand in front.
    expected = 4 * (0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5))
    assert distillation(teacher, student, 2.0).item() == pytest.approx(expected, rel=1e-6)


def test_agreement_costs_nothing_and_rows_are_averaged():
    ours, theirs = logits(3, 0), logits(3, 1)
    assert distillation(ours, ours + 5.0, 3.0).item() == pytest.approx(0.0, abs=1e-15)
    each = [distillation(ours[i : i + 1], theirs[i : i + 1], 3.0).item() for i in range(3)]
    assert distillation(ours, theirs, 3.0).item() == pytest.approx(sum(each) / 3, rel=1e-12)
    assert min(each) > 0


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_gradient_of_distillation_is_that_of_finite_differences_and_of_the_formula(temperature):
    student, teacher = logits(3, 0).requires_grad_(), logits(3, 1)
    (gradient,) = torch.autograd.grad(distillation(student, teacher, temperature), student)
    # d/dz of T^2 KL / B is T (softmax(z / T) - softmax(t / T)) / B.
    formula = temperature * ((student / temperature).softmax(1) - (teacher / temperature).softmax(1)) / 3
    assert torch.allclose(gradient, formula, rtol=1e-10, atol=1e-14)
    step, numeric = 1e-6, torch.zeros_like(gradient)
    for place in np.ndindex(3, 4):
        for sign in (1, -1):
            moved = student.detach().clone()
            moved[place] += sign * step
            numeric[place] += sign * distillation(moved, teacher, temperature) / (2 * step)
    assert torch.allclose(gradient, numeric, rtol=1e-6, atol=1e-9)


def test_the_gradient_does_not_fade_at_high_temperature():
    student, teacher = logits(3, 0).requires_grad_(), logits(3, 1)
    (gradient,) = torch.autograd.grad(distillation(student, teacher, 1e4), student)
    # Hinton et al. 2015: for large T the softmax is 1/C + (z - mean z) / (C T), so the gradient goes to the difference
    # of centred logits over C (4) and B (3).
    difference = student.detach() - teacher
    limit = (difference - difference.mean(1, keepdim=True)) / 12
    assert torch.allclose(gradient, limit, rtol=1e-3, atol=1e-4)


def test_the_objective_is_cross_entropy_and_alpha_times_distillation():
    ours, theirs, labels = logits(3, 0), logits(3, 1), torch.tensor([0, 3, 1])
    plain, apart = F.cross_entropy(ours, labels).item(), distillation(ours, theirs, 3.0).item()
    assert fedgkt(alpha=0.5).objective(ours, labels, theirs).item() == pytest.approx(plain + 0.5 * apart, rel=1e-12)
    assert fedgkt(alpha=0.0).objective(ours, labels, theirs).item() == plain
    assert fedgkt(alpha=0.5).objective(ours, labels, None).item() == plain


def test_server_epochs_follow_the_authors_schedule_or_stay():
    method = fedgkt()
    # Their rounds count from 0: "if round < 20: 20", "20 <= round < 30: 15" and so on.
    ends = {1: 20, 20: 20, 21: 15, 30: 15, 31: 10, 40: 10, 41: 5, 100: 5, 101: 3, 150: 3, 151: 2, 201: 2, 202: 1}
    assert {round: method.epochs(round) for round in ends} == ends
    assert {fedgkt(server_epochs=10).epochs(round) for round in ends} == {10}


def test_the_servers_rate_is_its_own_or_the_clients_and_follows_the_schedule():
    local = Local(lr=0.2, schedule=Schedule(kind="step", every=5, gamma=0.5))
    assert fedgkt().rate(local, 1, 20) == 0.2 and fedgkt().rate(local, 6, 20) == 0.1
    assert fedgkt(server_lr=0.01).rate(local, 6, 20) == 0.005


def test_equal_settings_make_equal_methods_and_only_given_ones_are_written():
    assert fedgkt() == fedgkt() != fedgkt(alpha=0.5)
    assert fedgkt().settings == {"alpha": 1.0, "temperature": 3.0, "server_batch": 256}
    method = fedgkt(server_epochs=3, server_lr=0.01)
    assert fedgkt(**method.settings) == method


@pytest.mark.parametrize(
    "settings",
    [{"alpha": -1.0}, {"temperature": 0.0}, {"server_epochs": 0}, {"server_epochs": 1.5}, {"server_batch": 0},
     {"server_lr": 0.0}],
)  # fmt: skip
def test_impossible_settings_are_refused_with_a_way_out(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} = .*; "):
        fedgkt(**settings)


def test_it_cannot_be_mistaken_for_federated_averaging():
    with pytest.raises(TypeError, match="not updates"):
        fedgkt().finish(torch.zeros(1), None)


def ready(method: Transfer, seed: int = 3) -> tuple[Exchange, Federated, Tree]:
    """24 random images in 3 classes at 3 clients, all of them every round, float64."""
    draw = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (24, 1, 4, 4), dtype=torch.uint8, generator=draw)
    data = Dataset(images, torch.arange(24) % 3, ("a", "b", "c"), (0.5,), (0.25,))
    local = Local(epochs=2, batch=4, lr=0.05)
    plan = Federated(IID().deal(data.labels.numpy(), 3, np.random.default_rng(0)), 3, 2, local, Server(), seed)
    torch.manual_seed(0)
    halves = build_halves(Model("resnet4/resnet7", norm="batch"), data.shape, 3)
    first, start = (Tree.of(half, torch.float64) for half in (halves.client, halves.server))
    client, server = (bind(half, torch.float64) for half in (halves.client, halves.server))
    return Exchange(client, server, first, data, local, method, seed, rounds=2), plan, start


def split_training(exchange: Exchange, plan: Federated, start: Tree) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Client 1's and the server's half after two rounds of training in halves without any transfer, written plainly."""
    data, first = exchange.data, copy.deepcopy(exchange.client.module)
    first.load_state_dict(exchange.first.state_dict())
    server = copy.deepcopy(exchange.server.module)
    server.load_state_dict(start.state_dict())
    clients = [copy.deepcopy(first) for _ in range(3)]
    for round in (1, 2):
        sent, labels = [], []
        for visit, module in zip(plan.visits(round), clients, strict=True):
            descend(module, [(inputs(data, batch), data.labels[torch.from_numpy(batch)]) for batch in visit.batches])
            rows = torch.from_numpy(np.sort(visit.indices))
            module.eval()
            with torch.no_grad():
                sent.append(module.extractor(data.normalise(data.images[rows], torch.float64)))
            labels.append(data.labels[rows])
        features, known = torch.cat(sent), torch.cat(labels)
        order = Passes(np.arange(24), 10, 6, exchange.seed, "server-order", (round,))
        descend(server, [(features[b], known[b]) for b in order])
    return clients[1], server


def descend(module: torch.nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    module.train()
    for given, labels in batches:
        module.zero_grad()
        F.cross_entropy(module(given), labels).backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 0.05 * parameter.grad


def inputs(data: Dataset, batch: np.ndarray) -> torch.Tensor:
    return data.normalise(data.images[torch.from_numpy(batch)], torch.float64)


def test_without_transfer_it_is_plain_training_in_two_halves():
    # server_epochs 2 of 24 examples in batches of 10 (10, 10, 4): 6 steps a round.
    exchange, plan, start = ready(fedgkt(alpha=0.0, server_epochs=2, server_batch=10))
    client, server = split_training(exchange, plan, start)
    tree, received, memory = start, {}, {}
    for round in (1, 2):
        done = exchange.round(tree, received, plan.visits(round), memory)
        tree, received, memory = done.tree, done.server, {**memory, **done.memory}
    for expected, vector in ((client, memory[1]["gkt.model"]), (server, tree.vector)):
        assert torch.allclose(vector, Tree.of(expected, torch.float64).vector, rtol=1e-9, atol=1e-12)
    assert (tree.vector - start.vector).norm() > 0.1  # it moved: the comparison is not of two standstills

    taught, plan, start = ready(fedgkt(alpha=1.0, server_epochs=2, server_batch=10))
    other = taught.round(start, {}, plan.visits(1), {})
    assert not torch.allclose(other.tree.vector, exchange.round(start, {}, plan.visits(1), {}).tree.vector)
