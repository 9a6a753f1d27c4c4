"""From a visit to the tensors that it trains on: gathered, augmented, normalised, labelled."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedlens.data import Dataset
from fedlens.engine.plan import Visit
from fedlens.local import AnyAttack, Batch
from fedlens.local.augment import Augmentation
from fedlens.seeds import generator

GATHERED = 2**20  # numbers that are gathered at once: 4 MB in float32, which stays in the caches


@dataclass(frozen=True)
class Feed:
    """The examples of `data` as visits see them. `attackers` see the labels that their `attack` makes of theirs."""

    data: Dataset
    seed: int
    augment: Augmentation | None
    attack: AnyAttack
    attackers: frozenset[int]

    def batches(self, visit: Visit, dtype: torch.dtype) -> Iterator[Batch]:
        """The visit's batches, normalised and augmented."""
        rng = generator(self.seed, "augment", visit.round, visit.client)
        for group in self._groups(list(visit.batches)):
            sizes, chosen = [len(indices) for indices in group], torch.from_numpy(np.concatenate(group))
            images, labels = self.data.rows(chosen)
            if self.augment is not None:
                draws = [self.augment.draw(size, images.shape, rng) for size in sizes]
                images = self.augment.apply(images, torch.cat(draws))
            inputs, labels = self.data.normalise(images, dtype), self._labels(visit, labels)
            yield from zip(torch.split(inputs, sizes), torch.split(labels, sizes), strict=True)

    def _labels(self, visit: Visit, labels: Tensor) -> Tensor:
        return self.attack.labels(labels, len(self.data.classes)) if visit.client in self.attackers else labels

    def _groups(self, batches: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
        """Batches that are gathered and normalised together: on small models that costs more than a step itself."""
        per_batch = len(batches[0]) * math.prod(self.data.shape)
        together = max(1, GATHERED // per_batch)
        for start in range(0, len(batches), together):
            yield batches[start : start + together]
