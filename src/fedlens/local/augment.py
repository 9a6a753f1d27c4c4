"""Augmentation of a whole batch of uint8 images at once; the draws come in as data.

Sources: crop and flip: He et al. 2016, section 4.2 (four pixels of zeros on every side, a random crop of the old size,
a mirror image for every other one). Cutout: DeVries and Taylor 2017, section 3 (a square put out at a random place,
which may lie partly outside the image). Differs from the paper: the square is black before normalisation, where the
paper's has the mean; its side is a quarter of the image's (8 of 32), the paper's 8 and 16 of 32 on CIFAR-100 and -10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fedlens.data import Augment

PART = 4  # the side of a cut-out square is this part of the image's shorter side


@dataclass(frozen=True)
class Augmentation:
    """Each image moved by up to `pad` pixels with black fill, mirrored or not, a black square put on it or not.

    Draws are i64 [B, k], with the columns that apply, in this order: row and column of the crop in the padded image
    (both `pad`: not moved), mirrored (1) or not (0), row and column of the square's centre.
    """

    pad: int = 0
    flip: bool = False
    cutout: bool = False

    def draw(self, count: int, shape: Sequence[int], rng: np.random.Generator) -> Tensor:
        """What is done to `count` images of `shape` [..., H, W]: i64 [count, k], all values equally likely."""
        ends = [2 * self.pad + 1] * 2 if self.pad else []
        ends += [2] if self.flip else []
        ends += shape[-2:] if self.cutout else []
        return torch.from_numpy(rng.integers(0, ends, size=(count, len(ends))))

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Each of `images` [B, C, H, W] changed by its row of `draws` [B, k]; same shape and dtype.

        Black is 0 before normalisation.
        """
        batch, _, height, width = images.shape
        drawn = iter(torch.split(draws, 1, dim=1))  # columns [B, 1]
        down, across = torch.arange(height), torch.arange(width)
        nothing = torch.zeros(batch, 1, dtype=torch.int64)
        row, column = (next(drawn), next(drawn)) if self.pad else (nothing, nothing)
        mirrored = next(drawn) if self.flip else nothing
        # Flipping the column index instead of the image makes crop and flip one gather.
        rows, columns = row + down, column + torch.where(mirrored == 1, width - 1 - across, across)
        which = torch.arange(batch)[:, None, None]
        # Advanced indices around a slice put the sliced axis last: [B, H, W, C].
        moved = F.pad(images, (self.pad,) * 4)[which, :, rows[:, :, None], columns[:, None, :]]
        if self.cutout:
            side = max(1, min(height, width) // PART)
            hidden_rows, hidden_columns = (_from(next(drawn) - side // 2, side, axis) for axis in (down, across))
            moved.masked_fill_((hidden_rows[:, :, None] & hidden_columns[:, None, :])[..., None], 0)
        return moved.permute(0, 3, 1, 2)


def _from(first: Tensor, count: int, places: Tensor) -> Tensor:
    """Booleans [B, N]: which of `places` [N] are among the `count` from `first` [B, 1] on."""
    return (places >= first) & (places < first + count)


AUGMENTATIONS: Mapping[Augment, Augmentation] = {
    "flip": Augmentation(flip=True),
    "crop-flip": Augmentation(pad=4, flip=True),
    "shift": Augmentation(pad=2),
    "crop-flip-cutout": Augmentation(pad=4, flip=True, cutout=True),
}
