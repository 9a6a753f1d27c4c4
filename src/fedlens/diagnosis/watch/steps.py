"""The steps that optimisers take, and those that an author takes by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

SWITCHES = ("lr", "initial_lr", "foreach", "capturable", "differentiable", "fused")
FIT = 1e-2  # share of a change by hand that a multiple of the gradient may leave unexplained


class Steps:
    """Steps by optimisers of PyTorch. Two that step after one backward call take one step together."""

    def __init__(self) -> None:
        self.count = 0
        self.rates: list[float] = []
        self.groups: list[float] = []
        self.optimizer: str | None = None
        self.settings: dict[str, float] = {}
        self.carried: bool | None = None
        self._stepped: set[int] = set()
        self._backwards = 0

    def heard(self, optimizer: Optimizer, backwards: int) -> None:
        """A step is about to be taken after so many backward calls in all."""
        group = optimizer.param_groups[0]
        if self.optimizer is None:
            self.optimizer, self.carried = type(optimizer).__name__, _used(optimizer)
            self.settings = _settings(group)
        if backwards > self._backwards or id(optimizer) in self._stepped or not self.count:
            self.count += 1
            self.rates.append(float(group["lr"]) if "lr" in group else float("nan"))
            if backwards > self._backwards:
                self._stepped.clear()
            self._backwards = backwards
        if self.count == 1:
            self.groups += [float(one["lr"]) for one in optimizer.param_groups if "lr" in one]
        self._stepped.add(id(optimizer))


class ByHand:
    """Steps that no optimiser takes, told from how a few small parameters move between backward calls."""

    def __init__(self, leaves: Sequence[Tensor]) -> None:
        small = sorted((leaf for leaf in leaves if leaf.is_floating_point()), key=lambda leaf: leaf.numel())
        self.watched = [leaf for leaf in small if leaf.numel() > 1][:2] or small[:1]
        self.count = 0
        self.rates: list[float] = []
        self.renewed = False
        self._values = [leaf.detach().clone() for leaf in self.watched]
        self._gradients: list[Tensor] = []

    def renew(self, leaves: Sequence[Tensor], first: Sequence[Tensor]) -> None:
        """The second backward call found other tensors in the places of the first: they are made anew at every step."""
        places = [next(place for place, leaf in enumerate(first) if leaf is one) for one in self.watched]
        self.renewed = len(leaves) == len(first)
        if self.renewed:
            self.watched = [leaves[place] for place in places]

    def look(self) -> None:
        """Before a backward call, or at the end: has anything moved since the last look?"""
        now = [leaf.detach() for leaf in self.watched]
        if not all(map(torch.equal, now, self._values)):
            self.count += 1
            if self._gradients:
                self.rates.extend(_rate(self._values, now, self._gradients))
        self._values = [value.clone() for value in now]

    def computed(self, gradients: Sequence[Tensor | None]) -> None:
        """After a backward call: the gradients of what is watched."""
        kept = [one.detach().clone() for one in gradients if one is not None]
        self._gradients = kept if len(kept) == len(self.watched) else []


def _rate(before: Sequence[Tensor], after: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[float]:
    """[rate] if the change is -rate * gradient, entry by entry."""
    change = torch.cat([(b - a).reshape(-1).double() for b, a in zip(before, after, strict=True)])
    gradient = torch.cat([one.reshape(-1).double() for one in gradients])
    if change.shape != gradient.shape or not gradient.any():
        return []
    rate = (change @ gradient / (gradient @ gradient)).item()
    left = (change - rate * gradient).norm().item()
    return [float(f"{rate:.4g}")] if left <= FIT * change.norm().item() else []


def _used(optimizer: Optimizer) -> bool:
    """Whether the optimiser remembers steps; what some of them set up before their first does not count."""
    for state in optimizer.state.values():
        if "step" in state:
            if float(state["step"]) > 0:
                return True
        elif any(isinstance(value, Tensor) and bool(value.any()) for value in state.values()):
            return True
    return False


def _settings(group: dict[str, Any]) -> dict[str, float]:
    told: dict[str, float] = {}
    for name, value in group.items():
        if name == "betas" and isinstance(value, tuple | list):
            told.update({f"beta{place}": float(one) for place, one in enumerate(value, 1)})
        elif isinstance(value, bool | int | float) and name not in SWITCHES:
            told[name] = float(value)
    return told
