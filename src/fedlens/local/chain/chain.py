"""Many clients' steps on a small fully connected model at once: batched products in place of automatic differentiation.

A chain is Linear (ReLU Linear)*, its loss the mean cross-entropy of a batch; logistic regression is the shortest one.
Differs from training with autograd by rounding alone. `dual` trains the same chains without weights for each client.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedlens.local.chain.chunk import Chunk, Step
from fedlens.local.optimizer import Correct, Optimizer, State
from fedlens.tree import Layout

Part = tuple[Tensor, Tensor | None]  # one layer of A clients: weights [A, out, in], bias [A, out] or None


class Stacked(NamedTuple):
    """What C clients came to: weights [C, T], the loss of every step [C, K] (nan after a client's last), and optimiser
    states by name, [C, T], and [C] for a count of steps.

    A client that leaves the finite numbers raises nothing: its losses or weights say so, the others' are untouched.
    """

    weights: Tensor
    losses: Tensor
    states: State


class Layer(NamedTuple):
    """Where one layer lies in the flat vector [T]: weights [outputs, inputs], and a bias [outputs] or none."""

    outputs: int
    inputs: int
    weight: slice
    bias: slice | None


@dataclass(frozen=True)
class Chain:
    """A fully connected model: its layers' places in the flat vector."""

    layers: tuple[Layer, ...]

    def outputs(self, vector: Tensor, inputs: Tensor) -> Tensor:
        """Logits [N, O] of `inputs` [N, ...] under `vector` [T]."""
        return forward(self.parts(vector[None]), inputs.flatten(1)[None])[1][0].T

    def parts(self, vectors: Tensor) -> list[Part]:
        """The layers of `vectors` [C, T]; nothing is copied."""
        return [
            (
                vectors[:, layer.weight].view(-1, layer.outputs, layer.inputs),
                None if layer.bias is None else vectors[:, layer.bias],
            )
            for layer in self.layers
        ]

    @torch.no_grad()
    def train(
        self,
        start: Tensor,
        inputs: Tensor,
        labels: Tensor,
        chunk: Chunk,
        rate: float,
        optimizer: Optimizer,
        correct: Correct | None = None,
        states: State | None = None,
    ) -> Stacked:
        """Train C clients from `start` [T] on `inputs` [N, ...] (normalised) and `labels` i64 [N] of `chunk.chosen`.

        `correct` (gradient [A, T], weights [A, T]) -> gradient is given the first A clients, those that still train.
        `states`, as a Stacked has them, continue optimisers and are changed in place; None starts them. ValueError
        where the clients' optimisers have counted different numbers of steps.
        """
        rows, losses, weights = inputs.flatten(1), chunk.no_losses(start), start.repeat(len(chunk.steps), 1)
        parts = self.parts(weights)
        if correct is None and optimizer.plain:
            for step in chunk.each(labels, start.dtype):
                descend(first(parts, len(step.rows)), _gather(rows, step), step, losses, rate)
            return Stacked(weights, losses, {})
        states, gradient = _counted_once(states or optimizer.start(weights)), torch.zeros_like(weights)
        slopes = self.parts(gradient)
        for step in chunk.each(labels, start.dtype):
            active = len(step.rows)
            given, logits = forward(first(parts, active), _gather(rows, step))
            losses[:active, step.number], slope = slope_of(logits, step)
            backward(first(parts, active), given, slope, first(slopes, active), keep=0.0, times=1.0)
            own = {name: state[:active] if state.dim() else state for name, state in states.items()}
            optimizer.step(weights[:active], gradient[:active], own, rate, correct)
        if "count" in states:
            states["count"] = states["count"] - len(chunk.counts) + torch.from_numpy(chunk.steps)
        return Stacked(weights, losses, states)


def chain_of(module: nn.Module, layout: Layout) -> Chain | None:
    """`module`, laid out so, as a chain: exactly an nn.Sequential of [Flatten] Linear (ReLU Linear)*, all of it
    trained, in float32 or float64, nothing shared, no hooks. None for every other module."""
    if type(module) is not nn.Sequential or any(_is_altered(part) for part in module.modules()):
        return None
    line = list(module)
    if line and type(line[0]) is nn.Flatten and (line[0].start_dim, line[0].end_dim) == (1, -1):
        line = line[1:]
    linear = [one for one in line[::2] if type(one) is nn.Linear]
    if len(line) != 2 * len(linear) - 1 or any(type(one) is not nn.ReLU for one in line[1::2]):
        return None
    if any(below.out_features != above.in_features for below, above in pairwise(linear)):
        return None
    layers, end = [], 0
    for one in linear:
        weight = slice(end, end + one.weight.numel())
        end = weight.stop + (0 if one.bias is None else one.out_features)
        bias = None if one.bias is None else slice(weight.stop, end)
        layers.append(Layer(one.out_features, one.in_features, weight, bias))
    shapes = [tuple(parameter.shape) for parameter in module.parameters()]
    fits = shapes == [slot.shape for slot in layout.slots] and end == layout.trained
    floats = all(parameter.dtype in (torch.float32, torch.float64) for parameter in module.parameters())
    return Chain(tuple(layers)) if fits and floats else None


def copies(parts: Sequence[Part], clients: int) -> list[Part]:
    """The layers of one vector for each of `clients`, contiguous: a batched product into a view of [C, T] would go
    client by client."""
    return [(weight.repeat(clients, 1, 1), None if bias is None else bias.repeat(clients, 1)) for weight, bias in parts]


def flat(parts: Sequence[Part]) -> list[Tensor]:
    """The layers' tensors as [C, entries], in the order of the flat vector."""
    return [part.flatten(1) for pair in parts for part in pair if part is not None]


def forward(parts: Sequence[Part], inputs: Tensor) -> tuple[list[Tensor], Tensor]:
    """What each of A clients' layers is given, [A, B, features], and the logits [A, O, B], from inputs [A, B, D].

    Classes before examples: a softmax over ten neighbouring numbers takes four times as long.
    """
    given = [inputs]
    for weight, bias in parts[:-1]:
        given.append(_product(given[-1], weight.mT, None if bias is None else bias[:, None]).relu_())
    if not parts:
        return given, inputs.mT
    weight, bias = parts[-1]
    return given, _product(weight, given[-1].mT, None if bias is None else bias[..., None])


def slope_of(logits: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy [A] of each batch of `step`, and its slope at the logits [A, O, B]."""
    logs, at, minus = torch.log_softmax(logits, 1), step.labels[:, None], -step.share[:, None]
    losses = (logs.gather(1, at) * minus).sum((1, 2))
    return losses, logs.exp_().mul_(step.share[:, None]).scatter_add_(1, at, minus)


def backward(
    parts: Sequence[Part],
    given: Sequence[Tensor],
    slope: Tensor,
    into: Sequence[Part],
    *,
    keep: float,
    times: float,
    through: bool = False,
) -> Tensor:
    """From the loss's slope at the logits [A, O, B]: into = keep * into + times * gradient, layer by layer.

    `into` may be `parts` itself: a layer has passed the slope on before it changes. With `through`, the result is the
    slope [A, D, B] at what the rectifier was given that made the first layer's inputs; with no layers, `slope` itself.
    """
    for level in reversed(range(len(parts))):
        weight, bias = into[level]
        passed = slope
        if level or through:
            passed = torch.ops.aten.threshold_backward(torch.bmm(slope.mT, parts[level][0]), given[level], 0).mT
        weight.baddbmm_(slope, given[level], beta=keep, alpha=times)
        if bias is not None:
            bias.mul_(keep).add_(slope.sum(2), alpha=times)
        slope = passed
    return slope


def descend(
    parts: Sequence[Part], inputs: Tensor, step: Step, losses: Tensor, rate: float, through: bool = False
) -> Tensor:
    """One step of plain SGD, weights and `losses` [C, K] changed in place; what `backward` returns."""
    given, logits = forward(parts, inputs)
    losses[: len(inputs), step.number], slope = slope_of(logits, step)
    return backward(parts, given, slope, parts, keep=1.0, times=-rate, through=through)


def first(parts: Sequence[Part], active: int) -> list[Part]:
    """The layers of the first `active` clients."""
    if not parts or len(parts[0][0]) == active:
        return list(parts)
    return [(weight[:active], None if bias is None else bias[:active]) for weight, bias in parts]


def _product(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    return torch.bmm(left, right) if bias is None else torch.baddbmm(bias, left, right)


def _gather(rows: Tensor, step: Step) -> Tensor:
    """The inputs of a step's batches, [A, B, D]."""
    return rows.index_select(0, step.rows.reshape(-1)).view(*step.rows.shape, -1)


def _counted_once(states: State) -> State:
    """`states` with one count of steps for all clients."""
    count = states.get("count")
    if count is None or not count.dim():
        return states
    if (count != count[0]).any():
        raise ValueError(f"optimisers have counted {count.tolist()} steps; train clients together that agree")
    return {**states, "count": count[0].clone()}


def _is_altered(module: nn.Module) -> bool:
    """Whether calling `module` does more than its class says."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    watched = (parameter._backward_hooks for parameter in module.parameters(recurse=False))
    return any(hooks) or any(watched) or "forward" in vars(module)
