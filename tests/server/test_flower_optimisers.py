"""The same updates, round after round, through Flower's server optimisers: another reading of the same papers.

FedAvgM is the same formula: Flower's momentum gathers w - mean, ours mean - w, and both add the rate times it.
The adaptive ones differ in two things, and in nothing else. Flower's second moment starts at 0, ours at tau^2, as in
Algorithm 2 of Reddi et al. 2021. Flower's FedAdam multiplies the rate of round t by sqrt(1 - beta2^(t+1)) /
(1 - beta1^(t+1)), the correction of Kingma and Ba with one round counted too many; Algorithm 2 has none.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fedlens.methods import METHODS, Method, Reduced, Server
from fedlens.server import Sum

pytest.importorskip("flwr", reason="Flower is not installed: pip install flwr")
common = pytest.importorskip("flwr.common", reason="this Flower has no flwr.common")
strategies = pytest.importorskip("flwr.server.strategy", reason="this Flower has no server.strategy")

ROUNDS, CLIENTS, SIZE = 6, 4, 9
EXAMPLES = [10, 3, 25, 7]
DRAW = np.random.default_rng(0)
START = DRAW.normal(size=SIZE)
# What every client's training adds to the model, whatever model it received: [ROUNDS, CLIENTS, SIZE].
UPDATES = DRAW.normal(0.3, 1.0, size=(ROUNDS, CLIENTS, SIZE))


def of_flower(strategy: object) -> np.ndarray:
    """The model after every round, [ROUNDS + 1, SIZE]."""
    models = [START]
    status = common.Status(common.Code.OK, "")
    for number, updates in enumerate(UPDATES, 1):
        sent = [common.ndarrays_to_parameters([models[-1] + update]) for update in updates]
        fits = [common.FitRes(status, weights, n, {}) for weights, n in zip(sent, EXAMPLES, strict=True)]
        found, _ = strategy.aggregate_fit(number, [(None, fit) for fit in fits], [])
        models.append(common.parameters_to_ndarrays(found)[0])
    return np.stack(models)


def of_ours(method: Method) -> np.ndarray:
    weights = torch.from_numpy(START)
    server = Server(weights, {name: torch.full_like(weights, first) for name, first in method.server_memory.items()})
    models = [START]
    for updates in UPDATES:
        total = Sum()
        for update, n in zip(torch.from_numpy(updates), EXAMPLES, strict=True):
            total.add(update, n)
        server = method.aggregate(server, Reduced({"update": total.mean()}, 1.0))
        models.append(server.weights.numpy())
    return np.stack(models)


def first() -> object:
    return common.ndarrays_to_parameters([START])


@pytest.mark.parametrize(("beta", "rate"), [(0.9, 1.0), (0.5, 0.3), (0.0, 1.0), (0.0, 0.3)])
def test_server_momentum_agrees_over_rounds(beta, rate):
    theirs = strategies.FedAvgM(initial_parameters=first(), server_momentum=beta, server_learning_rate=rate)
    ours = of_ours(METHODS["fedavgm"](beta=beta, server_lr=rate))
    np.testing.assert_allclose(ours, of_flower(theirs), rtol=1e-12)
    assert np.abs(np.diff(ours, axis=0)).max() > 0.1


def uncorrected(round: int) -> float:
    """No correction."""
    return 1.0


def by_one_round_too_many(round: int, beta1: float = 0.9, beta2: float = 0.99) -> float:
    """What Flower's FedAdam multiplies the rate of `round` by."""
    return math.sqrt(1 - beta2 ** (round + 1)) / (1 - beta1 ** (round + 1))


@pytest.mark.parametrize(
    ("name", "theirs", "betas", "correction"),
    [
        ("fedadagrad", "FedAdagrad", {}, uncorrected),
        ("fedadam", "FedAdam", {"beta1": 0.9, "beta2": 0.99}, by_one_round_too_many),
        ("fedyogi", "FedYogi", {"beta1": 0.9, "beta2": 0.99}, uncorrected),
    ],
)
def test_adaptive_steps_agree_where_tau_is_small_and_the_correction_is_undone(name, theirs, betas, correction):
    # tau = 1e-7 makes the other start of v, tau^2 = 1e-14, and tau beside sqrt(v) vanish.
    settings = {f"{key[:-1]}_{key[-1]}": value for key, value in betas.items()}
    flower = getattr(strategies, theirs)(initial_parameters=first(), eta=0.1, tau=1e-7, **settings)
    ours = np.diff(of_ours(METHODS[name](server_lr=0.1, tau=1e-7, **betas)), axis=0)
    factors = np.array([correction(number) for number in range(1, ROUNDS + 1)])[:, None]
    np.testing.assert_allclose(np.diff(of_flower(flower), axis=0), factors * ours, rtol=1e-6, atol=1e-9)
    # By hand for round 1 of FedAdam: sqrt(1 - 0.9801) / (1 - 0.81) = 0.14107 / 0.19.
    assert correction(1) == pytest.approx(0.74246 if name == "fedadam" else 1.0, abs=1e-5)


def test_at_a_larger_tau_ours_starts_slower_because_v_starts_at_its_square():
    # One round, update d: ours eta d / (sqrt(d^2 + tau^2) + tau), Flower's eta d / (|d| + tau), for Adagrad.
    tau = 0.5
    flower = strategies.FedAdagrad(initial_parameters=first(), eta=0.1, tau=tau)
    d = np.average(UPDATES[0], axis=0, weights=EXAMPLES)
    theirs, ours = of_flower(flower)[1] - START, of_ours(METHODS["fedadagrad"](server_lr=0.1, tau=tau))[1] - START
    np.testing.assert_allclose(theirs, 0.1 * d / (np.abs(d) + tau), rtol=1e-9)
    np.testing.assert_allclose(ours, 0.1 * d / (np.sqrt(d**2 + tau**2) + tau), rtol=1e-9)
