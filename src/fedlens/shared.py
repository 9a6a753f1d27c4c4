"""Numbers in memory that forked processes see alike.

Knows: anonymous shared mappings, named vectors.
Does not know: what the numbers are.
Offers: Shared, Shapes.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Shapes = Sequence[tuple[str, tuple[int, ...]]]  # what lies in a Shared, one after another


class Shared:
    """Room for `numbers` of one type, taken up page by page as they are written, and gone with its last process."""

    def __init__(self, numbers: int, dtype: torch.dtype) -> None:
        width = torch.empty((), dtype=dtype).element_size()
        self.vector = torch.frombuffer(mmap.mmap(-1, max(1, numbers) * width), dtype=dtype)

    def part(self, start: int, numbers: int) -> Shared:
        """`numbers` of these from `start` on."""
        part = Shared.__new__(Shared)
        part.vector = self.vector[start : start + numbers]
        return part

    def after(self, shapes: Shapes) -> Shared:
        """The room behind what lies in it as `shapes` says."""
        used = sum(math.prod(shape) for _, shape in shapes)
        return self.part(used, self.vector.numel() - used)

    def write(self, named: Mapping[str, Tensor]) -> Shapes:
        """Lay `named` one after another; returns what `read` needs to find them."""
        at = 0
        for vector in named.values():
            self.vector[at : at + vector.numel()] = vector.reshape(-1)
            at += vector.numel()
        return [(name, tuple(vector.shape)) for name, vector in named.items()]

    def read(self, shapes: Shapes) -> dict[str, Tensor]:
        """What was written, as views."""
        found, at = {}, 0
        for name, shape in shapes:
            size = math.prod(shape)
            found[name] = self.vector[at : at + size].view(shape)
            at += size
        return found
