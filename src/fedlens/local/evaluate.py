"""A model's worth on examples, in one pass: everything is read off one confusion matrix and one sum of losses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fedlens.data import Dataset
from fedlens.local.compute import PLAIN, Compute
from fedlens.local.statistics import batch_statistics
from fedlens.local.step import Batch

BATCH = 100  # images per evaluation batch: larger ones leave the caches and take up to twice as long


@dataclass(frozen=True)
class Evaluation:
    """`confusion` [C, C]: how often class row was called class column. `loss`: mean cross-entropy, nats per example."""

    confusion: np.ndarray
    loss: float

    @property
    def examples(self) -> int:
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Correct answers over all examples, in [0, 1]."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def recall(self) -> np.ndarray:
        """Of each class's examples, the part that was recognised [C]; nan for a class without examples."""
        totals = self.confusion.sum(1)
        recall: np.ndarray = np.full(len(totals), np.nan)
        np.divide(np.diag(self.confusion), totals, out=recall, where=totals > 0)
        return recall

    @property
    def predicted_entropy(self) -> float:
        """Entropy of the predicted classes over log C: 1 when all are named equally often, 0 for a constant answer."""
        shares = self.confusion.sum(0) / self.confusion.sum()
        shares = shares[shares > 0]
        return float(-(shares * np.log(shares)).sum() / math.log(len(self.confusion))) + 0.0


def pooled(seen: Sequence[Evaluation]) -> Evaluation:
    """One evaluation over the examples of several."""
    examples = sum(one.examples for one in seen)
    loss = sum(one.loss * one.examples for one in seen) / max(1, examples)
    return Evaluation(np.sum([one.confusion for one in seen], 0), loss)


Tally = tuple[np.ndarray, list[float]]  # a confusion matrix [C, C], and of each batch the summed loss in nats


@torch.inference_mode()
def tally(
    module: nn.Module, batches: Iterable[Batch], classes: int, *, statistics: str = "running", compute: Compute = PLAIN
) -> Tally:
    """What `batches` come to under `module`; see `evaluate`."""
    confusion, losses = torch.zeros(classes * classes, dtype=torch.int64), []
    module.eval()
    with batch_statistics(module) if statistics == "batch" else nullcontext():
        for inputs, labels in batches:
            outputs = compute.forward(module, inputs)
            losses.append(F.cross_entropy(outputs.double(), labels, reduction="sum").item())
            confusion += torch.bincount(labels * classes + outputs.argmax(1), minlength=classes * classes)
    return confusion.view(classes, classes).numpy(), losses


def evaluated(tallies: Iterable[Tally], classes: int) -> Evaluation:
    """The evaluation of batches that were counted in parts; the same for all parts in which they may have been."""
    table, loss = np.zeros((classes, classes), dtype=np.int64), 0.0
    for confusion, losses in tallies:
        table += confusion
        for one in losses:
            loss += one
    return Evaluation(table, loss / max(1, int(table.sum())))


def evaluate(
    module: nn.Module, batches: Iterable[Batch], classes: int, *, statistics: str = "running", compute: Compute = PLAIN
) -> Evaluation:
    """Evaluate `module` on `batches`.

    `statistics`: "running" is the model as it would be deployed; "batch" lets batch norm use the statistics of each
    evaluation batch instead of the averaged running ones, and leaves those untouched (give it shuffled batches). The
    gap between the two is what averaged statistics cost.
    """
    return evaluated([tally(module, batches, classes, statistics=statistics, compute=compute)], classes)


def in_batches(data: Dataset, dtype: torch.dtype, order: np.ndarray | None = None) -> Iterator[Batch]:
    """The examples of `data` at `order` (None: all, as they lie) in batches, normalised."""
    order = np.arange(len(data)) if order is None else order
    for start in range(0, len(order), BATCH):
        chosen = torch.from_numpy(order[start : start + BATCH])
        images, labels = data.rows(chosen)
        yield data.normalise(images, dtype), labels
