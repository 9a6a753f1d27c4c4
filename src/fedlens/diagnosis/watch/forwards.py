"""Which networks an author's code trains, in which mode, on batches of which size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

STUCK = 0.5  # share of training passes in evaluation mode from which a module counts as stuck


class Passed(NamedTuple):
    """A training pass: examples (None: no tensor went in), whether its input was the one before, and the steps and
    backward calls that came before it."""

    size: int | None
    again: bool
    steps: int
    backwards: int


class Root:
    """An outermost network that was called with gradients on, and what its training passes looked like."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.switches = [(name, part) for name, part in module.named_modules() if _has_modes(part)]
        self.before = [(part, mean.clone()) for _, part in self.switches if (mean := _statistics(part)) is not None]
        self.off = [0] * len(self.switches)
        self.passes: list[Passed] = []
        self.first: Tensor | None = None
        self.last: Tensor | None = None
        self.pending: tuple[Tensor | None, tuple[int, ...]] | None = None
        self.calls = 0

    def heard(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The network is about to be called; only a backward call will tell whether this is training."""
        off = tuple(place for place, (_, part) in enumerate(self.switches) if not part.training)
        self.pending = _first_tensor((*args, *kwargs.values())), off
        self.calls += 1

    def only(self) -> Tensor | None:
        """What went into the network, if it was called once since the last backward call; else None."""
        return self.pending[0] if self.pending is not None and self.calls == 1 else None

    def commit(self, steps: int, backwards: int) -> bool:
        """The pass before this backward call, if there was any, was one of training."""
        self.calls = 0
        if self.pending is None:
            return False
        given, off = self.pending
        self.pending = None
        size = None if given is None else int(given.shape[0]) if given.dim() else 1
        self.passes.append(Passed(size, given is not None and given is self.last, steps, backwards))
        self.last = given
        self.first = given if self.first is None else self.first
        for place in off:
            self.off[place] += 1
        return True

    @property
    def stuck(self) -> tuple[str, ...]:
        """Names of layers that behave otherwise in evaluation, and were in that mode in training passes."""
        enough = max(1.0, STUCK * len(self.passes))
        return tuple(name for (name, _), off in zip(self.switches, self.off, strict=True) if off >= enough)

    @property
    def moved(self) -> bool | None:
        """Whether any running statistic is another than before the first pass; None: there are none."""
        now = [(_statistics(part), before) for part, before in self.before]
        return any(mean is None or not torch.equal(mean, before) for mean, before in now) if now else None


def batches(passes: Iterable[Passed], by_optimizer: bool) -> tuple[int, ...]:
    """Sizes of the training batches; the same input twice within a step (sharpness-aware training) is one batch."""
    kept: list[int] = []
    last: int | None = None
    for one in passes:
        step = one.steps if by_optimizer else one.backwards
        if one.size is not None and not (one.again and step == last):
            kept.append(one.size)
        last = step
    return tuple(kept)


def learns(module: nn.Module) -> bool:
    """Whether the module has any parameter at all (loss functions, for instance, have none)."""
    return next(module.parameters(), None) is not None


def named_parameters(roots: Iterable[Root]) -> dict[int, str]:
    """id -> name of all trainable parameters of networks; a name that stands for two of them is left out."""
    names: dict[int, str] = {}
    owners: dict[str, int] = {}
    for root in roots:
        for name, parameter in root.module.named_parameters():
            if id(parameter) not in names:
                names[id(parameter)] = name
                owners[name] = owners.get(name, 0) + 1
    return {key: name for key, name in names.items() if owners[name] == 1}


def describe(given: Tensor | None) -> dict[str, float]:
    """Smallest, largest, mean and standard deviation of a batch of inputs."""
    if given is None or not given.numel() or given.is_complex():
        return {}
    values = given.detach().double()
    low, high = torch.aminmax(values)
    told = {"input_low": low.item(), "input_high": high.item(), "input_mean": values.mean().item()}
    return {**told, "input_std": values.std(correction=0).item()}


def _has_modes(part: nn.Module) -> bool:
    if isinstance(part, _DropoutNd):
        return part.p > 0
    return isinstance(part, _BatchNorm) and part.running_mean is not None


def _statistics(part: nn.Module) -> Tensor | None:
    return part.running_mean if isinstance(part, _BatchNorm) else None


def _first_tensor(given: Iterable[Any]) -> Tensor | None:
    for one in given:
        if isinstance(one, Tensor):
            return one
        if isinstance(one, Mapping):
            one = tuple(one.values())
        if isinstance(one, tuple | list) and (found := _first_tensor(one[:4])) is not None:
            return found
    return None
