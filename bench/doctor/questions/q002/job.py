"""MNIST at ten clients of different sizes, with the training functions of the post's examples 1 to 3."""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from base import lognormal, mnist

CLIENTS, ROUNDS, EPOCHS, BATCH, RATE = 10, 10, 5, 32, 0.1
LOG = Path(__file__).resolve().parent / "run.log"


def network(norm=True):
    """What the post has defined elsewhere: a small network with batch norm and dropout that ends in softmax."""
    first = [nn.Linear(784, 64), *([nn.BatchNorm1d(64)] if norm else []), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(*first, nn.Linear(64, 10), nn.Softmax(dim=1))


def loss(predictions, labels):
    """Sparse categorical cross-entropy of probabilities."""
    return nn.functional.nll_loss(predictions.clamp_min(1e-7).log(), labels)


def get_weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def batches(dataset):
    inputs, labels = dataset
    return list(zip(inputs.split(BATCH), labels.split(BATCH), strict=True))


def client_train(model, client_dataset, optimizer, num_epochs, received):
    total_examples = 0
    for batch in batches(client_dataset):
        total_examples += len(batch[0])
    for group in optimizer.param_groups:
        scaled_lr = group["lr"] * float(total_examples) / 100.0
        group["lr"] = scaled_lr
    for _ in range(num_epochs):
        for inputs, labels in batches(client_dataset):
            optimizer.zero_grad()
            loss(model(inputs), labels).backward()
            optimizer.step()
    return get_weights(model)


def client_train_with_clipping(model, client_dataset, optimizer, num_epochs, received, clip_norm=1.0):
    for _ in range(num_epochs):
        for inputs, labels in batches(client_dataset):
            optimizer.zero_grad()
            loss(model(inputs), labels).backward()
            for one in model.parameters():
                nn.utils.clip_grad_norm_(one, clip_norm)
            optimizer.step()
    return get_weights(model)


def client_train_proximal(model, client_dataset, optimizer, num_epochs, received, mu=0.1):
    global_weights = list(received.values())
    for _ in range(num_epochs):
        for inputs, labels in batches(client_dataset):
            optimizer.zero_grad()
            pairs = zip(model.parameters(), global_weights, strict=False)
            proximal_term = sum((local_w - global_w).square().sum() for local_w, global_w in pairs)
            (loss(model(inputs), labels) + mu * proximal_term).backward()
            optimizer.step()
    return get_weights(model)


def job(seed, train, norm=True):
    torch.manual_seed(seed)
    images, labels, test_images, test_labels = mnist(2000, 1000)
    held = [(pixels(images[rows]), labels[rows]) for rows in lognormal(labels, CLIENTS, 1.0, seed)]
    test = pixels(test_images), test_labels
    model = network(norm).eval()  # called without training=True
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    first = get_weights(model)

    def federated_mean(current, uploads, round):
        return {name: sum(state[name] for state, _ in uploads) / len(uploads) for name in current}

    @torch.no_grad()
    def evaluate(state, round):
        tested = copy.deepcopy(model)
        tested.load_state_dict(state)
        return {"accuracy": (tested(test[0]).argmax(dim=1) == test[1]).float().mean().item()}

    return SimpleNamespace(
        clients=CLIENTS,
        cohort=CLIENTS,
        rounds=ROUNDS,
        classes=10,
        declared={"optimizer": "sgd", "lr": RATE, "batch": BATCH, "epochs": EPOCHS, "metric": "test accuracy"},
        init=lambda: {name: value.clone() for name, value in first.items()},
        sample=lambda round: range(CLIENTS),
        fit=lambda client, received, round: (
            train(model, held[client], optimizer, EPOCHS, received),
            len(held[client][1]),
        ),
        aggregate=federated_mean,
        evaluate=evaluate,
        model=lambda: network(norm),
        loss=loss,
        train_data=lambda client: held[client],
        test_data=lambda: test,
        log=LOG.read_text() if train is client_train and LOG.exists() else None,
    )


def pixels(images):
    return images.flatten(1).float() / 255


def make_job(seed=0):
    """Example 1: a learning rate for each client."""
    return job(seed, client_train)


def make_clipped(seed=0):
    """Example 2: clipping."""
    return job(seed, client_train_with_clipping)


def make_proximal(seed=0):
    """Example 3: the proximal term; without batch norm, with which its pairs of tensors do not fit each other."""
    return job(seed, client_train_proximal, norm=False)
