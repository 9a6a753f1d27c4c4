"""One client's round: load, step through its batches, return what came out.

Source: McMahan et al. 2017, Algorithm 1, ClientUpdate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fedlens.local import private
from fedlens.local.compute import PLAIN, Compute
from fedlens.local.fused import fused
from fedlens.local.optimizer import Correct, Optimizer, State
from fedlens.local.private import PerExample
from fedlens.local.statistics import freeze_statistics
from fedlens.tree import Bound, Tree

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # outputs [B, C], labels [B], inputs [B, ...] -> scalar
Batch = tuple[Tensor, Tensor]  # inputs [B, ...] ready for the module, labels i64 [B]


class Diverged(Exception):
    """Training left the finite numbers at `step` (from 1) of a visit at `rate`; `loss` is the last one seen."""

    def __init__(self, step: int, loss: float, rate: float, what: str) -> None:
        super().__init__(f"{what} at step {step} (rate {rate:g})")
        self.step, self.loss, self.rate, self.what = step, loss, rate, what


class Broken(Exception):
    """The module, the loss or their gradient raised at `step` (from 1); the cause is chained."""

    def __init__(self, step: int) -> None:
        super().__init__(f"training broke at step {step}")
        self.step = step


class Phase(NamedTuple):
    """`steps` steps that leave the parameters marked in `fixed` bool [T] where they are."""

    steps: int
    fixed: Tensor


class Private(NamedTuple):
    """Each example's gradient is bounded and noised; a batch counts as `expected` examples, however many it has."""

    how: PerExample
    expected: int
    rng: np.random.Generator


@dataclass(frozen=True)
class Work:
    """What one client is to do: step through `batches` (made one at a time) at `rate`.

    `seed` starts the random numbers that the module itself draws (dropout). `correct` is the method's gradient hook,
    `loss` its loss (None: cross-entropy), `perturb` (gradient, weights) -> offset at which the gradient is taken anew.
    `compute` says how passes are computed, except those of examples that are kept apart (`private`).
    `phases` follow one another, each with a fresh optimiser; () is one in which all parameters move. With
    `frozen_statistics` batch norm normalises by the running statistics as received and leaves them alone.
    """

    batches: Iterable[Batch]
    rate: float
    seed: int
    correct: Correct | None = None
    loss: Loss | None = None
    perturb: Correct | None = None
    phases: tuple[Phase, ...] = ()
    frozen_statistics: bool = False
    private: Private | None = None
    compute: Compute = PLAIN

    @property
    def plain(self) -> bool:
        """Whether a step needs no more than the gradient of the loss."""
        return self.correct is None and self.perturb is None and self.private is None

    def error(self, bound: Bound, inputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch."""
        outputs = self.compute.forward(bound.module, inputs)
        return F.cross_entropy(outputs, labels) if self.loss is None else self.loss(outputs, labels, inputs)

    def value(self, bound: Bound, inputs: Tensor, labels: Tensor) -> float:
        """The loss of a batch, and its gradient in `bound.gradient`."""
        if self.private is not None:
            how, expected, rng = self.private
            value, noised = private.gradient(bound, inputs, labels, self.loss, how, expected, rng)
            bound.gradient.copy_(noised)
            return value
        loss = self.error(bound, inputs, labels)
        found = torch.autograd.grad(loss, bound.parameters, allow_unused=True)  # None: the loss does not reach there
        for place, gradient in zip(bound.gradients, found, strict=True):
            place.zero_() if gradient is None else place.copy_(gradient)
        return loss.item()


@dataclass(frozen=True)
class Trained:
    """What came out: `vector` [P] (parameters, buffers), integer buffers, the loss of every step, optimiser state."""

    vector: Tensor
    integers: dict[str, Tensor]
    losses: list[float]
    optimizer: State


def train(
    bound: Bound, start: Tree, work: Work, optimizer: Optimizer, state: State | None = None, *, copy: bool = True
) -> Trained:
    """Train from `start` through `work`; `state` continues an optimiser, None starts one.

    The result's vector is a copy; without `copy` it is the module's own, good until the next client is trained. Raises
    Diverged where a loss or a weight is not finite, Broken where the module or the loss raises.
    """
    bound.load(start)
    bound.module.train()
    if work.frozen_statistics:
        freeze_statistics(bound.module)
    losses: list[float] = []
    batches = enumerate(work.batches, 1)
    plain = work.plain and optimizer.plain and not work.phases and work.loss is None and not work.compute.bfloat16
    # Dropout draws from PyTorch's one CPU generator: seed it for this visit alone and give the user's state back.
    with torch.random.fork_rng(devices=[]), fused(bound, work.rate) if plain else nullcontext():
        torch.default_generator.manual_seed(work.seed)
        if not work.phases:
            state = optimizer.start(bound.vector[: bound.layout.trained]) if state is None else state
            losses += [_step(bound, work, number, batch, optimizer, state) for number, batch in batches]
        for phase in work.phases:
            state = optimizer.start(bound.vector[: bound.layout.trained])
            for number, batch in islice(batches, phase.steps):
                losses.append(_step(bound, work, number, batch, optimizer, state, phase.fixed))
    if not math.isfinite(bound.vector.norm().item()):  # one pass; isfinite().all() takes ten times as long
        raise Diverged(len(losses), losses[-1], work.rate, "a weight is not finite")
    vector = bound.vector.clone() if copy else bound.vector
    return Trained(vector, bound.copied_integers(), losses, state or {})


def _step(
    bound: Bound,
    work: Work,
    number: int,
    batch: Batch,
    optimizer: Optimizer,
    state: State,
    fixed: Tensor | None = None,
) -> float:
    """One step on `batch`; its loss."""
    inputs, labels = batch
    if fixed is None and work.plain and optimizer.plain:
        return _plain_step(bound, work, number, batch)
    try:
        loss = work.value(bound, inputs, labels)
        if work.perturb is not None and math.isfinite(loss):
            _again_beside(bound, work, inputs, labels, work.perturb)
    except Exception as error:
        raise Broken(number) from error
    if not math.isfinite(loss):
        raise Diverged(number, loss, work.rate, f"loss is {loss}")
    with torch.no_grad():
        weights = bound.vector[: bound.layout.trained]
        if fixed is None:
            optimizer.step(weights, bound.gradient, state, work.rate, work.correct)
        else:
            bound.gradient[fixed] = 0  # it must not count in the norm that is clipped
            held = weights[fixed]
            optimizer.step(weights, bound.gradient, state, work.rate, work.correct)
            weights[fixed] = held  # nor do weight decay and corrections reach it
    return loss


def _plain_step(bound: Bound, work: Work, number: int, batch: Batch) -> float:
    """One step of w -= rate * g: a gradient goes from where it arises into the weights, and nowhere between."""
    try:
        loss = work.error(bound, *batch)
        value = loss.item()
        # A gradient that is not finite must not be asked for: large layers would take it as a step.
        finite = math.isfinite(value)
        found = torch.autograd.grad(loss, bound.parameters, allow_unused=True) if finite else ()
    except Exception as error:
        raise Broken(number) from error
    if not finite:
        raise Diverged(number, value, work.rate, f"loss is {value}")
    weights = [weight for weight, gradient in zip(bound.parameters, found, strict=True) if gradient is not None]
    if weights:
        with torch.no_grad():
            torch._foreach_add_(weights, [gradient for gradient in found if gradient is not None], alpha=-work.rate)
    return value


def _again_beside(bound: Bound, work: Work, inputs: Tensor, labels: Tensor, perturb: Correct) -> None:
    """Take the batch's gradient anew at weights + offset. Weights, running statistics and counts stay as they were."""
    kept, integers = bound.vector.clone(), bound.copied_integers()
    with torch.no_grad():
        weights = bound.vector[: bound.layout.trained]
        weights.add_(perturb(bound.gradient, weights))
    work.value(bound, inputs, labels)
    with torch.no_grad():
        bound.vector.copy_(kept)
        for name, value in integers.items():
            bound.integers[name].copy_(value)
