"""Defects of published code for federated learning, rebuilt in a few lines: the check that ours passes refuses them.

Each defect, where it was read, and the test that refuses it:

updates cast to whole numbers, the first client's never scaled (source 003)
    -> test_known_defects.py::test_a_mean_is_linear_in_each_client
running statistics of the first client (PFLlib), or not averaged (FedScale 57, FLamby 260, FedSAM 8)
    -> test_known_defects.py::test_a_mean_is_linear_in_each_client
clients keep running statistics of their own (PFLlib 38, 260)
    -> test_known_defects.py::test_clients_answer_as_the_server
proximal term without its square (source 003; Flower's docstring and FedNova baseline; PFLlib's FedDyn)
    -> test_known_defects.py::test_a_pull_grows_with_the_distance
FedDyn's penalties detached from the graph (FedML, FedLab)
    -> test_known_defects.py::test_alpha_reaches_local_training
FedDyn without + alpha theta (FL-bench)
    -> test_known_defects.py::test_nothing_pulls_at_the_start
control variates never written back (FL-bench)
    -> test_drift_defects.py::test_memory_is_written_back
epochs that count batches in one method (FL-bench)
    -> test_known_defects.py::test_all_methods_take_equal_steps
K counted as epochs (FL-bench), K in place of the steps' reach under momentum (NIID-Bench)
    -> test_drift_defects.py::test_c_i_is_the_mean_gradient
control variates start as random networks (NIID-Bench), or as the weights (Flower's baseline)
    -> test_drift_defects.py::test_scaffold_on_iid_data_is_fedavg
FedNova's step too long under quantity skew and momentum (NIID-Bench)
    -> test_drift_defects.py::test_fednovas_step_is_bounded
an extra N / m in FedNova (FedLab)
    -> test_drift_defects.py::test_fednova_is_fedavg_at_equal_k
logits kept by the number of a batch under shuffling (FedML, source 003)
    -> test_fedgkt_defects.py::test_an_example_has_its_own_teacher
one client model for all clients (source 003)
    -> test_fedgkt_defects.py::test_clients_share_no_model
a client half without the norm that was asked for (source 003)
    -> test_fedgkt_defects.py::test_the_norm_is_in_both_halves
a server that its clients never teach (source 003)
    -> test_fedgkt_defects.py::test_the_server_hears_the_clients
an accuracy that adds up counts of batches (source 003)
    -> test_fedgkt_defects.py::test_an_accuracy_is_at_most_one
"""

import math
import re
from collections.abc import Callable
from pathlib import Path

import torch
from battery import federation_of
from defects import refused
from torch import Tensor

from fedlens import Local
from fedlens.methods import METHODS, Client, Method, Transfer
from fedlens.runs import Federation
from fedlens.runs.loop import advance
from fedlens.server import Sum


def test_every_test_of_the_table_exists():
    named = re.findall(r"(test_\w+\.py)::(test_\w+)", __doc__)
    assert len(named) == 17
    for file, name in named:
        (path,) = Path(__file__).parents[1].rglob(file)
        assert f"\ndef {name}(" in path.read_text(), f"{file} has no {name}"


# What a server makes of its clients' vectors [m, P] and numbers of examples [m].
Aggregate = Callable[[Tensor, Tensor], Tensor]


def is_a_weighted_mean(aggregate: Aggregate) -> None:
    """Of equal models it is the model, of others none of them, and it moves by p_i when entry of client i moves."""
    draw = torch.Generator().manual_seed(0)
    models, counts = torch.randn(4, 9, generator=draw, dtype=torch.float64), torch.tensor([7, 2, 5, 6])
    assert torch.allclose(aggregate(models[:1].expand(4, 9), counts), models[0], rtol=1e-14)
    mean = aggregate(models, counts)
    assert not any(torch.allclose(mean, model, rtol=1e-3) for model in models)
    for i, count in enumerate(counts):
        moved = models.clone()
        moved[i] += 1.0
        assert torch.allclose(aggregate(moved, counts) - mean, count / counts.sum() * torch.ones_like(mean))


def streamed(models: Tensor, counts: Tensor) -> Tensor:
    total = Sum()
    for model, count in zip(models, counts.tolist(), strict=True):
        total.add(model, count)
    return total.mean()


def cast(models: Tensor, counts: Tensor) -> Tensor:
    total = models[0].clone()
    for model, count in zip(models[1:], counts[1:], strict=True):
        total += (count / counts.sum() * model).long()
    return total


def parameters_alone(models: Tensor, counts: Tensor) -> Tensor:
    return torch.cat([streamed(models[:, :5], counts), models[0, 5:]])


def test_a_mean_is_linear_in_each_client():
    is_a_weighted_mean(streamed)
    refused(lambda: is_a_weighted_mean(cast))
    refused(lambda: is_a_weighted_mean(parameters_alone))


def all_answer_as_the_server(federation: Federation) -> None:
    """After every round the model that a client holds answers, in evaluation, exactly as the server's."""
    bound, images = federation.engine.trainer.bound, federation.split.test.normalise(federation.split.test.images)
    for state in advance(federation):
        trees = [federation.engine.trainer.personal(state.tree, state.memory.get(client, {})) for client in range(4)]
        answers = []
        for tree in (state.tree, *trees):
            bound.load(tree)
            with torch.inference_mode():
                answers.append(bound.module.eval()(images.double()))
        assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_clients_answer_as_the_server():
    for name in ("fedavg", "scaffold", "fedavgm"):
        all_answer_as_the_server(federation_of(METHODS[name]()))
    own_statistics = Method(name="fedavg", source="PFLlib 2025", keeps=lambda slot: slot.group == "buffers")
    held = {"count": 4, "cohort": 3, "holdout": 0.2}  # what is personal is measured there
    refused(lambda: all_answer_as_the_server(federation_of(own_statistics, clients=held)))


Correct = Callable[[Tensor, Tensor, Client], Tensor]
START = torch.randn(6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
AWAY = torch.randn(6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
FIRST = Client(START, {}, {"h_i": torch.zeros(6, dtype=torch.float64)}, 0.1, 5.0)


def pull(correct: Correct, weights: Tensor) -> Tensor:
    return correct(torch.zeros_like(weights), weights, FIRST)


def is_twice_as_strong_at_twice_the_distance(correct: Correct) -> None:
    once, twice = pull(correct, START + AWAY), pull(correct, START + 2 * AWAY)
    assert once.norm() > 0 and torch.allclose(twice, 2 * once, rtol=1e-12)


def of_penalty(penalty: Callable[[Tensor], Tensor]) -> Correct:
    """The correction that automatic differentiation makes of a term in the loss."""

    def correct(gradient: Tensor, weights: Tensor, client: Client) -> Tensor:
        moved = weights.clone().requires_grad_()
        (penalty(moved) + 0.0 * moved.sum()).backward()
        return gradient + moved.grad

    return correct


def test_a_pull_grows_with_the_distance():
    for correct in (METHODS["fedprox"](mu=0.3).correct, METHODS["feddyn"](alpha=0.3).correct, METHODS["ditto"]().own):
        is_twice_as_strong_at_twice_the_distance(correct)
    is_twice_as_strong_at_twice_the_distance(of_penalty(lambda w: 0.15 * (w - START).norm() ** 2))
    refused(lambda: is_twice_as_strong_at_twice_the_distance(of_penalty(lambda w: 0.15 * (w - START).norm())))


def alpha_matters(make: Callable[[float], Correct]) -> None:
    """Five steps on 1/2 ||w - AWAY||^2 end elsewhere for another alpha."""
    ends = []
    for alpha in (1e-9, 1.0):
        weights = START.clone()
        for _ in range(5):
            weights = weights - 0.1 * make(alpha)(weights - AWAY, weights, FIRST)
        ends.append(weights)
    assert (ends[1] - START).norm() < 0.9 * (ends[0] - START).norm()


def test_alpha_reaches_local_training():
    alpha_matters(lambda alpha: METHODS["feddyn"](alpha=alpha).correct)
    alpha_matters(lambda alpha: of_penalty(lambda w: alpha / 2 * ((w - START) ** 2).sum()))
    refused(lambda: alpha_matters(lambda alpha: of_penalty(lambda w: alpha / 2 * ((w.data - START) ** 2).sum())))


def vanishes_at_the_start(correct: Correct) -> None:
    assert torch.equal(pull(correct, START), torch.zeros_like(START))


def test_nothing_pulls_at_the_start():
    vanishes_at_the_start(METHODS["feddyn"](alpha=0.3).correct)
    refused(lambda: vanishes_at_the_start(lambda g, w, client: g + 0.3 * (client.memory["h_i"] - client.start)))


def takes_two_epochs(local: Local, method: Method) -> None:
    """Each client takes 2 ceil(n / 4) gradient steps; twice that for two models."""
    for record in list(advance(federation_of(method, local=local, rounds=1)))[1].records:
        assert record.steps == (2 if method.own else 1) * 2 * math.ceil(record.examples / 4)


def test_all_methods_take_equal_steps():
    for make in METHODS.values():
        if not isinstance(make(), Transfer) and make().name != "fedsgd":
            takes_two_epochs(Local(epochs=2, batch=4), make())
    refused(lambda: takes_two_epochs(Local(steps=2, batch=4), METHODS["scaffold"]()))
