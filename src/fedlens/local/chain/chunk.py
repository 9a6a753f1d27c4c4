"""The batches of several clients, laid out in arrays for training all of them step by step together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Step(NamedTuple):
    """Step `number` (from 0) of the first A clients, those that still take one.

    `rows` and `labels` i64 [A, B]: which of the chunk's N examples each batch reads, and their labels. `share` [A, B]:
    1 / (size of the batch), and 0 at places where a batch is shorter than B; its first example stands there.
    """

    number: int
    rows: Tensor
    labels: Tensor
    share: Tensor


@dataclass(frozen=True)
class Chunk:
    """What the steps of C clients read.

    `chosen` i64 [N]: the distinct examples of each client, client after client, numbered as its batches number them;
    training wants the inputs and labels of these. `sizes` i64 [C]: how many of them each client has. `steps` i64 [C]:
    K_c, at most K. `rows` i64 [K, C, B]: the place in `chosen` of every example of every batch. `counts` i64 [K, C]:
    the sizes of the batches, 0 after a client's last step.
    """

    chosen: np.ndarray
    sizes: np.ndarray
    steps: np.ndarray
    rows: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, clients: Sequence[Sequence[np.ndarray]]) -> Chunk:
        """Lay out what `clients` read: for each, the numbers of the examples in every batch.

        ValueError where a client takes more steps than the one before it: only in that order are the clients that
        still train always the first ones, so that they are a view.
        """
        batches = list(chain.from_iterable(clients))
        steps, sizes = np.array([len(one) for one in clients]), np.array([len(batch) for batch in batches])
        if (steps < 1).any() or (sizes < 1).any() or (np.diff(steps) > 0).any():
            raise ValueError(f"clients take {steps.tolist()} steps; give those with most first, and no empty batch")
        read, first = np.concatenate(batches), np.cumsum(sizes) - sizes
        owner = np.repeat(np.arange(len(steps)), steps)
        number = np.arange(len(batches)) - np.repeat(np.cumsum(steps) - steps, steps)
        span = int(read.max()) + 1
        distinct, row = np.unique(np.repeat(owner, sizes) * span + read, return_inverse=True)
        rows = np.zeros((steps[0], len(steps), sizes.max()), dtype=np.int64)
        rows[number, owner] = row[first][:, None]
        rows[np.repeat(number, sizes), np.repeat(owner, sizes), np.arange(len(read)) - np.repeat(first, sizes)] = row
        counts = np.zeros(rows.shape[:2], dtype=np.int64)
        counts[number, owner] = sizes
        return cls(distinct % span, np.bincount(distinct // span), steps, rows, counts)

    def part(self, begin: int, end: int) -> tuple[Chunk, slice]:
        """The clients from `begin` to `end`, and where their examples lie among the N."""
        row = int(self.sizes[:begin].sum())
        rows, some = slice(row, row + int(self.sizes[begin:end].sum())), np.s_[: self.steps[begin], begin:end]
        steps, table = self.steps[begin:end], np.maximum(self.rows[some] - row, 0)  # 0 where nothing is read, as before
        return Chunk(self.chosen[rows], self.sizes[begin:end], steps, table, self.counts[some]), rows

    def each(self, labels: Tensor, dtype: torch.dtype) -> Iterator[Step]:
        """The steps one after another, given the `labels` i64 [N], with shares in `dtype`; a step's B is the longest of
        its batches."""
        own = np.arange(self.rows.shape[2]) < self.counts[..., None]
        share = torch.from_numpy(own / np.maximum(self.counts, 1)[..., None]).to(dtype)
        rows = torch.from_numpy(self.rows)
        tables = (rows, labels[rows], share)
        sizes = zip((self.counts > 0).sum(1).tolist(), self.counts.max(1).tolist(), strict=True)
        for number, (size, parts) in enumerate(zip(sizes, zip(*tables, strict=True), strict=True)):
            whole = size == rows.shape[1:]
            yield Step(number, *(part if whole else part[: size[0], : size[1]] for part in parts))

    def no_losses(self, like: Tensor) -> Tensor:
        """nan [C, K], to be filled in."""
        return like.new_full((len(self.steps), len(self.counts)), math.nan)
