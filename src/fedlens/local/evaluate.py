"""A model's worth on examples, in one pass: everything is read off one confusion matrix and one sum of losses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fedlens.local.statistics import batch_statistics
from fedlens.local.step import Batch


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


@torch.inference_mode()
def evaluate(module: nn.Module, batches: Iterator[Batch], classes: int, *, statistics: str = "running") -> Evaluation:
    """Evaluate `module` on `batches`.

    `statistics`: "running" is the model as it would be deployed; "batch" lets batch norm use the statistics of each
    evaluation batch instead of the averaged running ones, and leaves those untouched (give it shuffled batches). The
    gap between the two is what averaged statistics cost.
    """
    confusion, loss = torch.zeros(classes * classes, dtype=torch.int64), 0.0
    module.eval()
    with batch_statistics(module) if statistics == "batch" else nullcontext():
        for inputs, labels in batches:
            outputs = module(inputs)
            loss += F.cross_entropy(outputs.double(), labels, reduction="sum").item()
            confusion += torch.bincount(labels * classes + outputs.argmax(1), minlength=classes * classes)
    table = confusion.view(classes, classes).numpy()
    return Evaluation(table, loss / max(1, int(table.sum())))
