"""What a model is worth: on the test set, class by class, for the worst-served clients, on local hold-outs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fedlens.engine import Exchange
from fedlens.local import evaluate
from fedlens.local.evaluate import Evaluation, in_batches, pooled
from fedlens.local.statistics import has_batch_norm
from fedlens.methods.method import Vectors
from fedlens.runs.federation import Federation
from fedlens.seeds import generator
from fedlens.tree import Tree


def measure(federation: Federation, tree: Tree, memory: Mapping[int, Vectors], *, last: bool) -> dict[str, Any]:
    """The evaluation part of a round's row; fractions in [0, 1], loss in nats per example.

    "accuracy" is the server's model on the test set, "holdout_accuracy" the same model on every client's hold-out,
    "personal_accuracy" every client's own model on its own hold-out, each a mean over clients. What has no whole model
    on the server has the last one alone, and class by class numbers from all hold-outs together.
    """
    method = federation.engine.trainer.method
    row = _server_model(federation, tree) if method.one_model else {}
    if method.personal and (last or not method.tune):
        models = personal_models(federation, tree, memory)
        seen = on_hold_outs(federation, models)
        row = row or _one_by_one(pooled(seen))
        row["personal_accuracy"] = _mean_accuracy(seen)
        row["personal_worst_decile"] = worst_decile(np.array([one.accuracy for one in seen]))
    return row


def halves(
    federation: Federation, exchange: Exchange, tree: Tree, memory: Mapping[int, Vectors], clients: Sequence[int]
) -> dict[str, Any]:
    """The row of a round of knowledge transfer: "accuracy" is the mean over the cohort `clients` of what the server's
    half makes of the client's own features of the test set."""
    seen = exchange.evaluate(tree, memory, clients, lambda: in_batches(federation.split.test, tree.vector.dtype))
    mixed = worst_decile(by_label_mix(seen.recall, federation.counts()))
    return {"accuracy": seen.accuracy, **_one_by_one(seen), "worst_decile": mixed}


def _server_model(federation: Federation, tree: Tree) -> dict[str, Any]:
    module, seen = federation.module, test_set(federation, tree)
    row = {"accuracy": seen.accuracy, **_one_by_one(seen)}
    row["worst_decile"] = worst_decile(by_label_mix(seen.recall, federation.counts()))
    if has_batch_norm(module):
        shuffled = generator(federation.experiment.seed, "evaluate").permutation(len(federation.split.test))
        row["accuracy_batch_statistics"] = federation.engine.evaluate(tree, shuffled, "batch").accuracy
    if federation.held is not None:
        on_held = on_hold_outs(federation, itertools.repeat(tree))
        row["holdout_accuracy"] = _mean_accuracy(on_held)
        row["worst_decile"] = worst_decile(np.array([one.accuracy for one in on_held]))
    return row


def _one_by_one(seen: Evaluation) -> dict[str, Any]:
    recall = [_number(value) for value in seen.recall]
    return {"loss": _number(seen.loss), "recall": recall, "predicted_entropy": seen.predicted_entropy}


def _mean_accuracy(seen: Sequence[Evaluation]) -> float:
    return float(np.mean([one.accuracy for one in seen]))


def test_set(federation: Federation, tree: Tree) -> Evaluation:
    """`tree` on the test set, with running statistics."""
    return federation.engine.evaluate(tree)


def losses(federation: Federation, tree: Tree, clients: np.ndarray) -> np.ndarray:
    """Mean loss of `tree` on all training examples of each of `clients`, f64 [len(clients)]."""
    federation.engine.trainer.bound.load(tree)
    train, dtype = federation.split.train, tree.vector.dtype
    compute = federation.engine.trainer.compute
    shown = (in_batches(train, dtype, federation.deal.client(int(client))) for client in clients)
    return np.array([evaluate(federation.module, part, federation.classes, compute=compute).loss for part in shown])


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


def owners(federation: Federation) -> list[int]:
    """Clients that have a hold-out."""
    held = federation.held
    assert held is not None
    return [client for client in range(len(held)) if len(held.client(client))]


def on_hold_outs(federation: Federation, models: Iterable[Tree]) -> list[Evaluation]:
    """Each client's hold-out under the model that is its turn, over clients that have one."""
    held, bound, train = federation.held, federation.engine.trainer.bound, federation.split.train
    assert held is not None
    found = []
    for client, tree in zip(owners(federation), models, strict=False):
        bound.load(tree)
        shown = in_batches(train, tree.vector.dtype, held.client(client))
        compute = federation.engine.trainer.compute
        found.append(evaluate(bound.module, shown, federation.classes, compute=compute))
    return found


def personal_models(federation: Federation, tree: Tree, memory: Mapping[int, Vectors]) -> Iterator[Tree]:
    """The own model of every client that has a hold-out; tuned to its training examples where the method says so."""
    trainer = federation.engine.trainer
    for client in owners(federation):
        own = trainer.personal(tree, memory.get(client, {}))
        if trainer.method.tune:
            own = own.with_(trainer.tuned(own, federation.tuning(client, trainer.method.tune)))
        yield own


def _number(value: float) -> float | None:
    """JSON has no nan."""
    return float(value) if math.isfinite(value) else None
