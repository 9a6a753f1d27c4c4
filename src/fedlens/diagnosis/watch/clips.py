"""Gradients that are scaled down before a step."""

from __future__ import annotations

from typing import Any

from torch import Tensor


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
