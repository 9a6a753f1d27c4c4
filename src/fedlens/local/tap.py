"""What a model's last layer is given: the features that some losses look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class Tap:
    """`features`: what the layer called `head` was last given."""

    features: Tensor | None = None

    def keep(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0]


@contextmanager
def tapped(module: nn.Module, wanted: bool) -> Iterator[Tap]:
    """Inside, what the module's `head` is given can be read, where it is `wanted` and there is such a layer."""
    tap, head = Tap(), getattr(module, "head", None) if wanted else None
    handle = head.register_forward_pre_hook(tap.keep) if isinstance(head, nn.Module) else None
    try:
        yield tap
    finally:
        if handle is not None:
            handle.remove()
