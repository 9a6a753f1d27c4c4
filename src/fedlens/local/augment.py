"""Augmentation of a whole batch of uint8 images at once; the draws come in as data.

Source: the crop-and-flip of He et al. 2016, section 4.2: four pixels of zeros on every side, a random crop of the old
size, a mirror image for every other one.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PAD = 4


def draw_crop_flip(count: int, rng: np.random.Generator) -> Tensor:
    """Crop row, crop column and flip of `count` images: i64 [count, 3]."""
    draws = rng.integers(0, [2 * PAD + 1, 2 * PAD + 1, 2], size=(count, 3))
    return torch.from_numpy(draws)


def crop_flip(images: Tensor, draws: Tensor) -> Tensor:
    """Each of `images` [B, C, H, W] cropped and mirrored by its row of `draws` [B, 3]; same shape and dtype.

    Padding is 0 before normalisation, i.e. black, as in the source.
    """
    batch, _, height, width = images.shape
    padded = F.pad(images, (PAD, PAD, PAD, PAD))
    columns = torch.arange(width)
    # Flipping the column index instead of the image makes crop and flip one gather.
    columns = torch.where(draws[:, 2:3] == 1, width - 1 - columns, columns) + draws[:, 1:2]
    rows = torch.arange(height) + draws[:, 0:1]
    which = torch.arange(batch)[:, None, None]
    # Advanced indices around a slice put the sliced axis last: [B, H, W, C].
    return padded[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
