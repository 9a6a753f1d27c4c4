"""Attackers in a federation, and what each way of reducing makes of them."""

import numpy as np
import pytest
import torch
from small import experiment

from fedlens import Clients, ConfigurationError, Experiment, Local, Server
from fedlens.local.attack import Gaussian, LabelFlip, Scaled, SignFlip
from fedlens.methods import METHODS
from fedlens.runs import prepare
from fedlens.runs.loop import advance


def last(attack: object, reduce: str = "mean", rounds: int = 12) -> float:
    """Accuracy after training with all ten clients, two of them attacking."""
    job = experiment(
        rounds=rounds,
        clients=Clients(count=10, cohort=10, attackers=0 if attack is None else 2, attack=attack or SignFlip()),
        local=Local(batch=3, lr=0.1, epochs=2),
        server=Server(reduce=reduce),
        evaluate_every=rounds,
    )
    return list(advance(prepare(job)))[-1].accuracy


def test_without_attackers_every_rule_learns():
    assert all(last(None, rule) > 0.8 for rule in ("mean", "median", "trimmed-mean:0.2", "multi-krum:2"))


def test_two_of_ten_that_flip_the_sign_ruin_the_mean_and_not_the_robust_rules():
    attack = SignFlip(factor=5.0)
    ruined = last(attack, "mean")
    for rule in ("median", "trimmed-mean:0.2", "multi-krum:2", "geometric-median"):
        assert last(attack, rule) > ruined + 0.2, rule


def test_attackers_are_drawn_from_the_seed_and_send_what_the_attack_says():
    honest = prepare(experiment(clients=Clients(count=6, cohort=6)))
    job = experiment(clients=Clients(count=6, cohort=6, attackers=2, attack=SignFlip(factor=3.0)))
    attacked = prepare(job)
    assert len(attacked.engine.trainer.sender.attackers) == 2
    assert attacked.engine.trainer.sender.attackers == prepare(job).engine.trainer.sender.attackers
    for visit in honest.plan.visits(1):
        one, other = (f.engine.round(f.start, {}, [visit], {}).reduced()["update"] for f in (honest, attacked))
        factor = -3.0 if visit.client in attacked.engine.trainer.sender.attackers else 1.0
        assert torch.allclose(other, factor * one)


def test_each_attack_by_its_definition():
    rng, update = np.random.default_rng(0), torch.tensor([3.0, -4.0])
    assert SignFlip().update(update, rng).tolist() == [-3.0, 4.0]
    assert Scaled(factor=2.0).update(update, rng).tolist() == [6.0, -8.0]
    assert Gaussian(factor=2.0).update(update, rng).norm().item() == pytest.approx(10.0)
    assert LabelFlip().labels(torch.tensor([0, 1, 9]), 10).tolist() == [9, 8, 0]


def test_impossible_combinations_are_refused():
    with pytest.raises(ConfigurationError, match="leaves no honest client"):
        Clients(count=4, cohort=2, attackers=4)
    with pytest.raises(ConfigurationError, match="krum"):
        Experiment(clients=Clients(count=10, cohort=4), server=Server(reduce="krum:2"))
    with pytest.raises(ConfigurationError, match="scaffold sends more than its update"):
        Experiment(method=METHODS["scaffold"](), server=Server(reduce="median"))
