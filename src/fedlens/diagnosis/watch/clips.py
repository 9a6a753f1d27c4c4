"""Gradients that are scaled down before a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

CUT = 0.5  # of its norm that a bound on single numbers leaves of a gradient, at most, to count
EXACT = 1e-6  # relative rounding of a bound


class Clips:
    """Calls of clip_grad_norm_, by the number of steps taken before."""

    def __init__(self) -> None:
        self._clipped: set[int] = set()
        self._single: dict[int, set[int]] = {}

    def heard(self, parameters: Any, bound: float, norm: Tensor, steps: int) -> None:
        """Gradients are about to be scaled by min(1, bound / norm); `steps` were taken before."""
        if float(norm) > bound:
            self._clipped.add(steps)
        alone = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        if len(alone) == 1:
            self._single.setdefault(steps, set()).add(id(alone[0]))

    def told(self, steps: int | None) -> dict[str, Any]:
        """The share of clipped steps, and whether several tensors were clipped one by one before a step."""
        separately = any(len(tensors) > 1 for tensors in self._single.values())
        return {"clipped": len(self._clipped) / steps if steps else None, "separately": separately}


def bounded(gradients: Sequence[tuple[Tensor, Tensor]]) -> bool:
    """Whether gradients were cut, number by number, at one bound, and lost most of their norm; `gradients`: of each
    tensor as it was computed, and as the step takes it."""
    computed, taken = (torch.cat([pair[at].reshape(-1).double() for pair in gradients]) for at in (0, 1))
    bound = taken.abs().max().item() if len(taken) else 0.0
    if not bound > 0 or not bool(computed.isfinite().all()) or taken.norm() > CUT * computed.norm():
        return False
    return bool(((computed.clamp(-bound, bound) - taken).abs() <= EXACT * bound).all())
