"""Examples that lie on the device, and the tables that say which of them a visit's steps read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedlens.data import Dataset
from fedlens.engine.plan import Visit
from fedlens.engine.trainer import Trainer
from fedlens.errors import ConfigurationError
from fedlens.local.augment import Augmentation
from fedlens.seeds import generator

PLACES = 2  # rows of a table before the draws: which example, and its label


class Moved(Augmentation):
    """An augmentation of images that lie on a device."""

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """As on the CPU; `draws` [B, k] may still lie there."""
        with images.device:
            return super().apply(images, draws.to(images.device))


def moved(augment: Augmentation | None) -> Moved | None:
    """`augment`, for images on a device."""
    return None if augment is None else Moved(**vars(augment))


class Examples:
    """`data` on the device, made into what a module takes: the numbers that Dataset.normalise gives, from constants
    that are already there (a captured step cannot fetch any)."""

    def __init__(self, data: Dataset, dtype: torch.dtype, augment: Moved | None, channels_last: bool) -> None:
        self.images, self.labels = in_memory(data)
        self.dtype, self.augment, self.channels_last = dtype, augment, channels_last
        channel, where = [1, -1] + [1] * (self.images.dim() - 2), self.images.device
        self.mean, self.std = (
            torch.tensor(numbers, dtype=dtype, device=where).view(channel) if numbers else None
            for numbers in (data.mean, data.std)
        )

    def inputs(self, chosen: Tensor, draws: Tensor | None = None) -> Tensor:
        """The examples at `chosen` i64 [B], augmented by `draws` [B, k]: [B, ...]."""
        images = self.images.index_select(0, chosen)
        if self.augment is not None and draws is not None:
            images = self.augment.apply(images, draws)
        values = images.to(self.dtype)
        if images.dtype == torch.uint8:
            values = values / 255
        if self.mean is not None and self.std is not None:
            values = (values - self.mean) / self.std
        # Augmented images lie pixel by pixel, and a convolution would take that for the layout that is wanted.
        return values if self.channels_last else values.contiguous()


def in_memory(data: Dataset) -> tuple[Tensor, Tensor]:
    """Images and labels. Raises ConfigurationError where they are made only when they are asked for."""
    images, labels = data.images, data.labels
    if isinstance(images, Tensor) and isinstance(labels, Tensor):
        return images, labels
    what, seen = "examples on a GPU must fit into memory", f"{len(data):,} rows that are made where they are asked for"
    raise ConfigurationError(what, where="engine.kind", seen=seen, do='Set engine.kind = "workers".')


@dataclass(frozen=True)
class Placed(Dataset):
    """Examples that lie on a device."""

    def rows(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels of the examples at `chosen`, i64 [B], which may still lie on the CPU."""
        images, labels = in_memory(self)
        chosen = chosen.to(images.device)
        return images.index_select(0, chosen), labels.index_select(0, chosen)


def placed(data: Dataset, where: torch.device) -> Placed:
    """`data` on a device; its columns stay. Raises ConfigurationError where it is not in memory."""
    images, labels = in_memory(data)
    return Placed(images.to(where), labels.to(where), data.classes, data.mean, data.std, data.columns)


def height(augment: Augmentation | None) -> int:
    """The rows of a table."""
    return PLACES + (0 if augment is None else 2 * (augment.pad > 0) + augment.flip + 2 * augment.cutout)


def table(trainer: Trainer, visit: Visit, width: int) -> Tensor:
    """i64 [K, PLACES + k, width]: for every step the examples of its batch, their labels as the client sees them, and
    what augmentation draws for them. The same draws as fedlens.engine.feed makes; `trainer` lies on the CPU. A batch
    that is shorter than `width` is filled up by its first example, so that nothing foreign is computed."""
    chosen = torch.from_numpy(np.concatenate(list(visit.batches)))
    rows = [chosen, trainer.data.labels[chosen]]
    if visit.client in trainer.sender.attackers:
        rows[1] = trainer.sender.attack.labels(rows[1], len(trainer.data.classes))
    if trainer.augment is not None:
        rng = generator(trainer.seed, "augment", visit.round, visit.client)
        rows += trainer.augment.draw(len(chosen), trainer.data.images.shape, rng).unbind(1)
    sizes = visit.sizes
    filled, first = torch.from_numpy(np.arange(width) < sizes[:, None]), torch.from_numpy(np.cumsum(sizes) - sizes)
    made = torch.empty(len(sizes), len(rows), width, dtype=torch.int64)
    for place, values in enumerate(rows):
        made[:, place] = values[first][:, None]
        made[:, place][filled] = values
    return made
