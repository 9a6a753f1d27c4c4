"""Three clients, random labels, updates drawn at random: examples 1 to 3 of the post."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

ROUNDS, SIZES, EPSILON = 10, (100, 150, 200), 1.0
LOG = Path(__file__).resolve().parent / "run.log"


def local_training(data, labels):
    return np.random.rand(10)


def add_noise(update, epsilon):
    noise = np.random.laplace(0, 1 / epsilon, size=len(update))
    return update + noise


def accuracy(weights, data, labels):
    """The post prints the ten numbers; here they weigh the ten features."""
    return {"accuracy": float(((data @ weights > 0) == labels).mean())}


class Clients:
    """The post's data, and as much again to be tested on."""

    def __init__(self, seed):
        draw = np.random.RandomState(seed)
        self.client_data = [draw.rand(size, 10) for size in SIZES]
        self.client_labels = [draw.randint(0, 2, size) for size in SIZES]
        self.test = draw.rand(sum(SIZES), 10), draw.randint(0, 2, sum(SIZES))

    def of(self, client):
        return tensors(self.client_data[client], self.client_labels[client])


def tensors(data, labels):
    return torch.from_numpy(data).float(), torch.from_numpy(labels)


def job(seed, noisy=False, weighted=False):
    held = Clients(seed)

    def fit(client, received, round):
        update = local_training(held.client_data[client], held.client_labels[client])
        return add_noise(update, EPSILON) if noisy else update, SIZES[client]

    def aggregate(current, uploads, round):
        client_updates, sizes = zip(*uploads, strict=True)
        return np.average(client_updates, axis=0, weights=sizes if weighted else None)

    return SimpleNamespace(
        clients=len(SIZES),
        cohort=len(SIZES),
        rounds=ROUNDS,
        classes=2,
        declared={"weighting": "examples" if weighted else "uniform"},
        init=lambda: np.zeros(10),
        sample=lambda round: range(len(SIZES)),
        fit=fit,
        aggregate=aggregate,
        evaluate=lambda state, round: accuracy(state, *held.test),
        train_data=held.of,
        test_data=lambda: tensors(*held.test),
        log=LOG.read_text() if noisy and LOG.exists() else None,
    )


def make_plain(seed=0):
    """Example 1: the mean."""
    return job(seed)


def make_weighted(seed=0):
    """Example 2: weighted by examples."""
    return job(seed, weighted=True)


def make_job(seed=0):
    """Example 3: the mean of updates with noise."""
    return job(seed, noisy=True)


def network():
    return nn.Linear(10, 2)


def make_trained(seed=0):
    """Example 2 with its placeholder replaced, as the post asks: each client trains a network on its data."""
    torch.manual_seed(seed)
    held, first = Clients(seed), network().state_dict()

    def fit(client, received, round):
        model = network()
        model.load_state_dict(received)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        data, labels = held.of(client)
        for rows in torch.randperm(len(labels)).split(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data[rows]), labels[rows]).backward()
            optimizer.step()
        return model.state_dict(), len(labels)

    @torch.no_grad()
    def evaluate(state, round):
        model = network()
        model.load_state_dict(state)
        data, labels = tensors(*held.test)
        return {"accuracy": (model(data).argmax(dim=1) == labels).float().mean().item()}

    def aggregate(current, uploads, round):
        return {name: sum(state[name] * n for state, n in uploads) / sum(n for _, n in uploads) for name in current}

    trained = job(seed, weighted=True)
    trained.init = lambda: {name: value.clone() for name, value in first.items()}
    trained.fit, trained.aggregate, trained.evaluate, trained.model = fit, aggregate, evaluate, network
    return trained
