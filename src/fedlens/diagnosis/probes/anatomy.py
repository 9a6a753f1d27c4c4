"""A network looked into: units that never answer, weights that all start equal, the sizes of its feature maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

RECTIFIERS = {functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu6}
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def resting(network: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Rectifier -> share of its units (channels of maps, features else) that are 0 for all `inputs`.

    A rectifier is named by the part of the network that calls it, numbered where that part calls several.
    """
    watch = _Rectifiers()
    hooks: list[Any] = []
    for name, part in network.named_modules():
        hooks.append(part.register_forward_pre_hook(lambda *_, name=name: watch.inside.append(name)))
        hooks.append(part.register_forward_hook(lambda *_: watch.inside.pop() and None))
    try:
        with watch, torch.no_grad():
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return watch.found


class _Rectifiers(TorchFunctionMode):
    """Watches every rectifier that is called, as a module or as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []
        self.found: dict[str, float] = {}

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in RECTIFIERS and isinstance(result, Tensor) and result.dim() > 1:
            name = self.inside[-1] if self.inside else ""
            known = sum(one.partition("#")[0] == name for one in self.found)
            self.found[f"{name}#{known + 1}" if known else name] = _silent(result)
        return result


def _silent(result: Tensor) -> float:
    """The share of units that are 0 throughout: of the last dimension for [N, F] and [N, T, F], else of channels."""
    units = 1 if result.dim() != 3 else 2
    by_unit = result.movedim(units, 0).flatten(1)
    return (by_unit == 0).all(dim=1).double().mean().item()


def same_weights(network: nn.Module, trained: Sequence[nn.Module]) -> tuple[str, ...]:
    """Weights of two dimensions or more that all start equal, and whose units stay alike in training.

    A head that starts at 0 is healthy: its units part with the first step. Norm layers and biases are no such weights.
    """
    weights = {name: one for name, one in network.named_parameters() if one.dim() > 1 and one.requires_grad}
    constant = [name for name, one in weights.items() if one.numel() > 1 and bool((one == one.flatten()[0]).all())]
    if len(constant) == len(weights) > 1:
        return tuple(constant)
    after = [dict(one.named_parameters()) for one in trained]
    return tuple(n for n in constant if after and len(weights[n]) > 1 and all(_alike(one[n]) for one in after))


def _alike(weight: Tensor) -> bool:
    rows = weight.detach().flatten(1)
    return bool(torch.isfinite(rows).all()) and bool((rows == rows[:1]).all())


def unchanging(outputs: Tensor) -> bool:
    """Whether `outputs` [N, C] are the same for all N inputs."""
    spread = (outputs.amax(dim=0) - outputs.amin(dim=0)).max().item()
    return len(outputs) > 1 and spread <= 1e-6 * max(1e-6, outputs.abs().max().item())


def features(network: nn.Module, inputs: Tensor) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """(height, width) of the map behind half of the convolutions and behind the last; None without convolutions.

    A map counts as the largest of those that follow: small ones in side branches (gates of channels) are no stem.
    """
    sizes: list[tuple[int, int]] = []

    def seen(part: nn.Module, given: Any, result: Tensor) -> None:
        height, width = [*result.shape[2:], 1][:2] if isinstance(part, nn.Conv1d) else result.shape[-2:]
        sizes.append((int(height), int(width)))

    hooks = [part.register_forward_hook(seen) for part in network.modules() if isinstance(part, CONVOLUTIONS)]
    try:
        with torch.no_grad():
            network(inputs[:2])
    finally:
        for hook in hooks:
            hook.remove()
    if not sizes:
        return None, None
    half = (len(sizes) - 1) // 2
    last = sizes[-2:] if len(sizes) > 4 else sizes[-1:]
    return max(sizes[half:], key=_area), max(last, key=_area)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
