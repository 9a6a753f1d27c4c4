"""Plain SGD on large fully connected layers, done where their gradient arises.

At batch 10 a layer of 3136 x 512 spends its time on moving 6 MB of weights: read once forward, written as a gradient,
read again with the weights to update them. Adding the gradient's product to the weights at once saves half of that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlens.tree import Bound

LARGE = 2**16  # weights; smaller layers stay in the caches, where there is nothing to save


class _Step(torch.autograd.Function):
    """A linear layer whose backward pass moves its weights by -rate times their gradient, and gives none."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, rate: float) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.layer, ctx.rate = (weight, bias), rate
        return F.linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, None, None, None]:
        (inputs,), (slope,), (weight, bias) = ctx.saved_tensors, slopes, ctx.layer
        passed = slope @ weight if ctx.needs_input_grad[0] else None
        with torch.no_grad():
            rows = slope.flatten(0, -2)
            weight.addmm_(rows.T, inputs.flatten(0, -2), alpha=-ctx.rate)
            if bias is not None:
                bias.sub_(rows.sum(0), alpha=ctx.rate)
        return passed, None, None, None


@contextmanager
def fused(bound: Bound, rate: float) -> Iterator[None]:
    """Inside, a backward pass also takes the step of plain SGD at `rate` on the module's large linear layers.

    Their gradient is then None. Only layers of which nothing but an nn.Sequential can make use, and that once, are
    taken: code that reads a weight elsewhere would see it change in the middle of a backward pass.
    """
    layers = list(_large(bound.module))
    for layer in layers:
        layer.forward = _forward(layer, rate)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _large(module: nn.Module) -> Iterator[nn.Linear]:
    """The linear layers that can be taken."""
    line = list(_in_line(module))
    owners = Counter(id(parameter) for part in line for parameter in part.parameters())
    for part in line:
        if type(part) is nn.Linear and part.weight.numel() >= LARGE:
            own = [part.weight, *([] if part.bias is None else [part.bias])]
            trained = all(isinstance(one, nn.Parameter) and one.requires_grad and owners[id(one)] == 1 for one in own)
            if trained and not part._forward_pre_hooks and not part._forward_hooks:
                yield part


def _in_line(module: nn.Module) -> Iterator[nn.Module]:
    """The parts that `module` calls one after another, as far as its type says; itself, where that is unknown."""
    if type(module) is nn.Sequential:
        for part in module:
            yield from _in_line(part)
    else:
        yield module


def _forward(layer: nn.Linear, rate: float) -> Callable[[Tensor], Tensor]:
    def forward(inputs: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return F.linear(inputs, layer.weight, layer.bias)
        outputs: Tensor = _Step.apply(inputs, layer.weight, layer.bias, rate)  # type: ignore[no-untyped-call]
        return outputs

    return forward
