"""One forward pass to see what a module gives, leaving the module as it was."""

from __future__ import annotations

import copy

import torch
from torch import nn


def outputs_of(module: nn.Module, shape: tuple[int, ...], images: int = 2) -> object:
    """What `module` gives for zeros [images, *shape] in eval mode, without gradients.

    Two images, because a norm over a single value is refused by PyTorch. The modes of all parts are put back, and the
    random numbers that the module may draw are not taken from the caller's.
    """
    first = next(module.parameters(), None)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return module(torch.zeros(images, *shape, device=first.device if first is not None else "cpu"))
    finally:
        for part, training in modes:
            part.training = training


def weightless(module: nn.Module) -> nn.Module:
    """A copy of `module` on the meta device: it has shapes and no values, so that a forward pass costs nothing."""
    memo: dict[int, object] = {id(b): torch.empty_like(b, device="meta") for b in module.buffers()}
    for p in module.parameters():
        memo[id(p)] = nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
    return copy.deepcopy(module, memo)
