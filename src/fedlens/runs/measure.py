"""What a model is worth: on the test set, class by class, for the worst-served clients, on local hold-outs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from fedlens.data import Dataset
from fedlens.local import Batch, evaluate
from fedlens.local.evaluate import Evaluation, has_batch_norm
from fedlens.runs.federation import Federation
from fedlens.seeds import generator
from fedlens.tree import Tree

BATCH = 100  # images per evaluation batch: larger ones leave the caches and take up to twice as long


def measure(federation: Federation, tree: Tree) -> dict[str, Any]:
    """The evaluation part of a round's row; fractions in [0, 1], loss in nats per example."""
    bound = federation.engine.trainer.bound
    dtype, classes, test = tree.vector.dtype, federation.classes, federation.split.test
    seen = test_set(federation, tree)
    counts = federation.counts()
    row: dict[str, Any] = {
        "accuracy": seen.accuracy,
        "loss": _number(seen.loss),
        "recall": [_number(value) for value in seen.recall],
        "predicted_entropy": seen.predicted_entropy,
        "worst_decile": worst_decile(by_label_mix(seen.recall, counts)),
    }
    if has_batch_norm(bound.module):
        shuffled = generator(federation.experiment.seed, "evaluate").permutation(len(test))
        batch = evaluate(bound.module, batches(test, dtype, shuffled), classes, statistics="batch")
        row["accuracy_batch_statistics"] = batch.accuracy
    if federation.held is not None:
        accuracies = _held_out(federation, dtype)
        row["holdout_accuracy"] = float(accuracies.mean())
        row["worst_decile"] = worst_decile(accuracies)
    return row


def test_set(federation: Federation, tree: Tree) -> Evaluation:
    """`tree` on the test set, with running statistics; leaves it loaded in the engine's module."""
    federation.engine.trainer.bound.load(tree)
    return evaluate(federation.module, batches(federation.split.test, tree.vector.dtype), federation.classes)


def batches(data: Dataset, dtype: torch.dtype, order: np.ndarray | None = None) -> Iterator[Batch]:
    """`data` in batches, in `order` (None: as it lies)."""
    order = np.arange(len(data)) if order is None else order
    for start in range(0, len(order), BATCH):
        chosen = torch.from_numpy(order[start : start + BATCH])
        yield data.normalise(data.images[chosen], dtype), data.labels[chosen]


def by_label_mix(recall: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Accuracy that each client can expect: test recall [C] weighted by the client's own label mix, counts [K, C].

    Classes that are not in the test set are left out, and clients that hold no others. Exact where clients differ in
    their labels alone; blind to differences in how their images look.
    """
    tested = ~np.isnan(recall)
    mix = counts[:, tested]
    reached = mix.sum(1) > 0  # a client whose classes are not in the test set has no such number
    return np.asarray(mix[reached] @ recall[tested] / mix[reached].sum(1))


def worst_decile(accuracies: np.ndarray) -> float:
    """Mean accuracy of the worst tenth of clients, at least one."""
    worst = np.sort(accuracies)[: max(1, math.ceil(len(accuracies) / 10))]
    return float(worst.mean())


def _held_out(federation: Federation, dtype: torch.dtype) -> np.ndarray:
    """Accuracy [K'] of the model on each client's own hold-out, over clients that have one."""
    held, train = federation.held, federation.split.train
    assert held is not None
    owners = [client for client in range(len(held)) if len(held.client(client))]
    found: list[Evaluation] = []
    for client in owners:
        part = batches(train, dtype, held.client(client))
        found.append(evaluate(federation.module, part, federation.classes))
    return np.array([one.accuracy for one in found])


def _number(value: float) -> float | None:
    """JSON has no nan."""
    return float(value) if math.isfinite(value) else None
