"""In which mode the author's evaluation calls layers whose answers depend on it (M31)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import register_module_forward_pre_hook


class Modes:
    """Kinds of layers that were called: `training`, `evaluation`."""

    def __init__(self) -> None:
        self.training: set[str] = set()
        self.evaluation: set[str] = set()

    def heard(self, module: nn.Module, args: Any) -> None:
        """`module` is about to be called."""
        drops = isinstance(module, _DropoutNd) and module.p > 0
        if drops or (isinstance(module, _BatchNorm) and module.running_mean is not None):
            (self.training if module.training else self.evaluation).add(type(module).__name__)

    @property
    def left_training(self) -> tuple[str, ...]:
        """Kinds that were called in training mode alone: an evaluation that trains a little calls them in both."""
        return tuple(sorted(self.training - self.evaluation))


@contextmanager
def modes() -> Iterator[Modes]:
    """Hear of all calls of such layers in here; nothing is changed."""
    heard = Modes()
    hook = register_module_forward_pre_hook(heard.heard)
    try:
        yield heard
    finally:
        hook.remove()
