"""Rows that are made where they are asked for: what a data set holds in place of arrays that would not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedlens.errors import FedlensError, RunError

Ints = NDArray[np.int64]
READ = 2**18  # rows that are made at once where all are wanted


@dataclass(frozen=True)
class Rows:
    """N rows of which none lies in memory: `take` makes those that are asked for.

    `shape` is [N, ...] and `dtype` what `take` gives. `take` is called with row numbers i64 [M], in any order and some
    perhaps twice, and returns [M, ...]; a number must give the same row whenever and in whichever process it is asked
    for. Rows are indexed as a tensor is in its first dimension: by a tensor of numbers, a slice, or one number.
    """

    take: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    dtype: torch.dtype

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    def dim(self) -> int:
        """The number of dimensions, that of rows counted."""
        return len(self.shape)

    def __getitem__(self, at: Tensor | slice | int) -> Tensor:
        if isinstance(at, int):
            if not -len(self) <= at < len(self):
                raise IndexError(f"row {at} of {len(self)}")
            return self._made(torch.tensor([at % len(self)]))[0]
        return self._made(torch.arange(*at.indices(len(self))) if isinstance(at, slice) else at)

    def numpy(self) -> Numbers:
        """The same rows for NumPy, as a tensor's `numpy()` is; nothing is read yet."""
        return Numbers(self)

    def _made(self, at: Tensor) -> Tensor:
        try:
            rows = self.take(at)
        except FedlensError:
            raise
        except Exception as error:
            seen, do = f"{type(error).__name__}: {error}", "Correct the function that gives them; -v shows where."
            raise RunError("rows of the data cannot be had", seen=seen, do=do) from error
        wanted = (len(at), *self.shape[1:])
        if not isinstance(rows, Tensor) or rows.dtype != self.dtype or tuple(rows.shape) != wanted:
            seen = f"{rows.dtype} {list(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
            do = f"Give {self.dtype} {list(wanted)} for {len(at)} row numbers."
            raise RunError("rows of the data are not what was declared", seen=seen, do=do)
        return rows


@dataclass(frozen=True)
class Numbers:
    """Rows of one whole number each, such as labels, for NumPy: indexed by i64 [M]; `np.asarray` makes all of them."""

    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: Ints) -> Ints:
        if len(at) <= READ:
            made: Ints = self.rows[torch.from_numpy(np.ascontiguousarray(at))].numpy()
            return made
        return np.concatenate([self[part] for part in np.array_split(at, -(-len(at) // READ))])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Ints:
        return self[np.arange(len(self))]


@dataclass(frozen=True)
class Runs:
    """A column of which equal values lie together: rows `offsets[i]` to `offsets[i + 1]` have the value i.

    `offsets` i64 [K + 1] rise from 0 to N. A million clients' names take 8 MB so, however many rows they have.
    """

    offsets: Ints

    def __len__(self) -> int:
        """N."""
        return int(self.offsets[-1])

    def __getitem__(self, at: Ints) -> Ints:
        return np.searchsorted(self.offsets, at, side="right").astype(np.int64) - 1
