"""Samples in random order; of very many, the order is computed where it is looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedlens.partition.partition import Ints

ROUNDS = 8
ODD = np.array([0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93], dtype=np.uint64)


def shuffled(indices: Ints | range, rng: np.random.Generator) -> Ints | Shuffled:
    """`indices` in random order, of which slices may be taken. A range is not written out for it."""
    if isinstance(indices, np.ndarray):
        return rng.permutation(indices)
    return Shuffled(len(indices), rng.integers(2**64, size=ROUNDS, dtype=np.uint64))


@dataclass(frozen=True)
class Shuffled:
    """The numbers 0 to `count` - 1 in an order that `keys`, u64 [ROUNDS], decide; a slice costs what it holds.

    Source: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002: a Feistel network permutes the next
    power of four, and what falls outside is sent through it again. Not all orders are possible, as there are more of
    them than keys; none is favoured that training could tell.
    """

    count: int
    keys: NDArray[np.uint64]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> Ints:
        numbers = self._sent(np.arange(*part.indices(self.count)).astype(np.uint64))
        while (outside := numbers >= self.count).any():  # at most four times as many as inside: three turns on average
            numbers[outside] = self._sent(numbers[outside])
        return numbers.astype(np.int64)

    def _sent(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        half = np.uint64(max(1, -(-(self.count - 1).bit_length() // 2)))
        left, right = numbers >> half, numbers & ((np.uint64(1) << half) - np.uint64(1))
        for key in self.keys:
            words = (right + key) * ODD[0]
            words = (words ^ words >> np.uint64(32)) * ODD[1]
            left, right = right, left ^ words >> np.uint64(64) - half
        return left << half | right
