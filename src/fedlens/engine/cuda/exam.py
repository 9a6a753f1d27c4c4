"""Evaluation on the device: a pass over a batch is captured, counts stay there until the end."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from fedlens.engine.cuda.device import Lane, Repeated
from fedlens.engine.cuda.examples import Examples
from fedlens.local.compute import Compute
from fedlens.local.evaluate import BATCH, Tally
from fedlens.local.statistics import batch_statistics
from fedlens.tree import Bound, Tree

Statistics = Literal["running", "batch"]
LARGE = 1000  # examples in a batch: a GPU is not filled by fewer
PAUSE = 2e-5  # seconds between two looks at work that is under way


class Exam:
    """A module, the examples it is examined on, and what has been counted of its answers."""

    def __init__(self, bound: Bound, test: Examples, classes: int, compute: Compute, lane: Lane) -> None:
        self.bound, self.test, self.classes, self.compute, self.lane = bound, test, classes, compute, lane
        labels = test.labels
        self.order, self.at = torch.zeros_like(labels), labels.new_zeros(1)
        self.confusion = labels.new_zeros(classes * classes)
        self.loss = torch.zeros((), dtype=torch.float64, device=labels.device)
        self.passes: dict[tuple[int, Statistics], Repeated] = {}

    def tally(self, tree: Tree, order: np.ndarray, statistics: Statistics) -> Tally:
        """What the examples at `order` come to under `tree`. Raises Uncaptured."""
        # What a batch is normalised by depends on its size, which is then the sequential engine's.
        size = min(len(order), BATCH if statistics == "batch" else LARGE)
        self.bound.load(tree)
        self.order[: len(order)].copy_(torch.from_numpy(order))
        for count in (self.at, self.confusion, self.loss):
            count.zero_()
        self.lane.follow()
        module = self.bound.module.eval()
        one = self.passes.setdefault((size, statistics), Repeated(self.lane, lambda: self._pass(size)))
        with batch_statistics(module) if statistics == "batch" else nullcontext(), self.lane.active():
            for _ in range(len(order) // size):
                one()
            if len(order) % size:
                self._pass(len(order) % size)
        done = self.lane.mark()
        while not done():
            time.sleep(PAUSE)
        return self.confusion.view(self.classes, self.classes).cpu().numpy().copy(), [self.loss.item()]

    @torch.no_grad()
    def _pass(self, size: int) -> None:
        """The next `size` examples."""
        places = self.at + torch.arange(size, device=self.at.device)
        chosen = self.order.index_select(0, places)
        labels = self.test.labels.index_select(0, chosen)
        outputs = self.compute.forward(self.bound.module, self.test.inputs(chosen))
        self.loss.add_(F.cross_entropy(outputs.double(), labels, reduction="sum"))
        answers = labels * self.classes + outputs.argmax(1)
        self.confusion.index_add_(0, answers, torch.ones_like(answers))
        self.at.add_(size)
