"""One pass of several clients at once: each through weights of its own, on a batch of its own, as one function.

Batches shorter than the longest are filled up, and what fills them counts for nothing. A model that looks at a batch as
a whole (batch norm), remembers anything or draws numbers would give other results so: whether a model can be stacked is
tried, on a few examples in float64, not read off its layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from fedlens.engine.cuda.slot import bound_on
from fedlens.engine.trainer import Trainer
from fedlens.local.compute import PLAIN, Compute
from fedlens.tree import Layout

TRIED = (0, 1, 2), (3, 4, 3)  # the examples of a trial: one batch is short, and filled up by its first
ASIDE = 0.05  # by how much a trial's weights lie beside the model's: none of them is to be zero
CLOSE = 1e-8  # of the gradient's norm; rounding in float64 is far below, an example that is mixed in far above


@dataclass(frozen=True)
class Stack:
    """`module`, laid out as `layout` says, for A clients at once. Parameters that no one trains are the module's."""

    module: nn.Module
    layout: Layout
    compute: Compute

    def slopes(self, weights: Tensor, inputs: Tensor, labels: Tensor, own: Tensor, into: Tensor) -> Tensor:
        """The mean cross-entropy [A] of every client's batch, and its slope at `weights` [A, T], laid `into` [A, T].

        `inputs` [A, B, ...], `labels` i64 [A, B]; `own` bool [A, B]: which of them count.
        """
        slots = [slot for slot in self.layout.slots if slot.start < self.layout.trained]
        parts = {s.name: weights[:, s.start : s.start + s.size].view(-1, *s.shape) for s in slots}
        slopes, losses = vmap(grad_and_value(self._loss))(parts, inputs, labels, own)
        torch.cat([slopes[slot.name].reshape(len(weights), -1) for slot in slots], dim=1, out=into)
        found: Tensor = losses
        return found

    def _loss(self, weights: dict[str, Tensor], inputs: Tensor, labels: Tensor, own: Tensor) -> Tensor:
        outputs = self.compute.forward(partial(functional_call, self.module, weights), inputs)
        each = F.cross_entropy(outputs, labels, reduction="none")
        return each.masked_fill(~own, 0.0).sum() / own.sum()


def can_stack(trainer: Trainer) -> bool:
    """Whether a stack of `trainer`'s model gives every client what it gets alone, in a batch that is filled up, too."""
    bound = trainer.bound
    if trainer.method.loss is not None or any(True for _ in bound.module.buffers()):
        return False
    alone = bound_on(bound.module, torch.device("cpu"), torch.float64)
    alone.module.train()
    start = bound.vector[: bound.layout.trained].double()
    weights = start + ASIDE * torch.randn(2, len(start), generator=torch.Generator().manual_seed(0), dtype=start.dtype)
    images, labels = trainer.data.rows(torch.tensor(TRIED).flatten() % len(trainer.data))
    inputs = trainer.data.normalise(images, torch.float64)
    inputs, labels, found = inputs.view(2, -1, *inputs.shape[1:]), labels.view(2, -1), torch.empty_like(weights)
    sizes = [len(set(batch)) for batch in TRIED]
    own = torch.arange(len(TRIED[0])) < torch.tensor(sizes)[:, None]
    with torch.random.fork_rng(devices=[]):
        try:
            Stack(alone.module, alone.layout, PLAIN).slopes(weights, inputs, labels, own, found)
            for at, size in enumerate(sizes):
                alone.vector[: len(start)] = weights[at]
                loss = F.cross_entropy(alone.module(inputs[at, :size]), labels[at, :size])
                slopes = torch.autograd.grad(loss, alone.parameters, materialize_grads=True)
                slope = torch.cat([slope.reshape(-1) for slope in slopes])
                if not (found[at] - slope).norm() <= CLOSE * slope.norm():
                    return False
        except Exception:  # whatever it raises, it raises it where it is trained alone, too, or needs no telling
            return False
    return True
