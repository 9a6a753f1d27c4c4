"""Made-up examples for any number of clients, each computed from its number where it is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from fedlens.data.dataset import Dataset, Split
from fedlens.data.rows import Ints, Rows, Runs
from fedlens.seeds import generator
from fedlens.settings import Count, Fraction, NonNegative, settings

Words = NDArray[np.uint64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@settings
class Synthetic:
    """Points around one centre a class, at `clients` clients with `smallest` to `largest` examples each.

    An example of class y is (c_y + noise * e) / sqrt(1 + noise^2), [1, 1, features], with centres c_y ~ N(0, 1) drawn
    from `seed` and e near N(0, 1): every number has mean 0 and variance 1. Labels are equally likely, but a client has
    a class of its own, of which each example is with probability `skew`. `test` examples more, without skew, are
    for the server. `clients.partition = "natural:client"` deals them to whom they belong.
    """

    clients: Count = 1000
    smallest: Count = 1
    largest: Count = 50
    features: Count = 60
    classes: Annotated[int, Field(ge=2, le=10_000, strict=True)] = 10
    noise: NonNegative = 3.0
    skew: Fraction = 0.0
    test: Count = 2000
    seed: Annotated[int, Field(ge=0, strict=True)] = 0

    @model_validator(mode="after")
    def _smallest_is_not_above_largest(self) -> Synthetic:
        if self.smallest > self.largest:
            raise ValueError(f"smallest = {self.smallest} is above largest = {self.largest}; set smallest lower")
        return self


def synthetic(wanted: Synthetic) -> Split:
    """The examples that `wanted` describes. In memory lie the test examples, the centres and 8 bytes a client."""
    sizes = generator(wanted.seed, "synthetic sizes").integers(
        wanted.smallest, wanted.largest, wanted.clients, endpoint=True
    )
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    points = _Points(wanted, offsets)
    examples, shape = int(offsets[-1]), (1, 1, wanted.features)
    classes = tuple(str(label) for label in range(wanted.classes))
    images, labels = (
        Rows(points.images, (examples, *shape), torch.float32),
        Rows(points.labels, (examples,), torch.int64),
    )
    beyond = torch.arange(examples, examples + wanted.test)
    test = Dataset(points.images(beyond), points.labels(beyond), classes)
    train = Dataset(images, labels, classes, columns={"client": Runs(offsets)})
    return Split(train, test, f"points drawn like those of all clients ({wanted.test} examples)")


@dataclass(frozen=True)
class _Points:
    """What makes examples from their numbers; those from `offsets[-1]` on belong to nobody.

    Numbers are hashed (Steele, Lea and Flood 2014, SplitMix64) and not drawn one after another, so that any of them can
    be made alone. Everything random in an example is whole numbers until the last product: equal on every machine.
    """

    wanted: Synthetic
    offsets: Ints

    def images(self, at: Tensor) -> Tensor:
        """f32 [M, 1, 1, F] of the examples at `at` i64 [M]."""
        features, noise = self.wanted.features, self.wanted.noise
        bits = self._bits(at, np.arange(features, dtype=np.uint64))
        pairs = (bits & np.uint64(0x0000FFFF0000FFFF)) + ((bits >> np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF))
        # A sum of four uniform whole numbers below 2^16 is near normal, with mean 2 (2^16 - 1), variance (2^32 - 1)/3.
        total = ((pairs & np.uint64(0xFFFFFFFF)) + (pairs >> np.uint64(32))).astype(np.float32)
        spread = np.float32(noise / math.sqrt((2**32 - 1) / 3) / math.sqrt(1 + noise**2))
        centres = self._centres[self.labels(at).numpy()]
        values = centres + (total - np.float32(2 * (2**16 - 1))) * spread
        return torch.from_numpy(values).view(-1, 1, 1, features)

    def labels(self, at: Tensor) -> Tensor:
        """i64 [M] of the examples at `at` i64 [M]."""
        classes, skew = np.uint64(self.wanted.classes), self.wanted.skew
        bits = self._bits(at, np.array([self.wanted.features], dtype=np.uint64))[:, 0]
        drawn = (bits & np.uint64(0xFFFFFFFF)) * classes >> np.uint64(32)
        if skew:
            client = np.searchsorted(self.offsets, at.numpy(), side="right").astype(np.uint64)
            own = _mixed(client * GOLDEN + ~self._key) % classes
            mine = (bits >> np.uint64(32)) < np.uint64(skew * 2**32)
            drawn = np.where(mine & (at.numpy() < self.offsets[-1]), own, drawn)
        return torch.from_numpy(drawn.astype(np.int64))

    def _bits(self, at: Tensor, columns: Words) -> Words:
        """64 random bits for each of `columns` in each row at `at`: [M, columns]."""
        rows = at.numpy().astype(np.uint64) * np.uint64(self.wanted.features + 1)
        return _mixed((rows[:, None] + columns) * GOLDEN + self._key)

    @cached_property
    def _key(self) -> Words:
        return generator(self.wanted.seed, "synthetic rows").integers(2**64, size=1, dtype=np.uint64)

    @cached_property
    def _centres(self) -> NDArray[np.float32]:
        wanted = self.wanted
        drawn = generator(wanted.seed, "synthetic centres").standard_normal((wanted.classes, wanted.features))
        return (drawn / math.sqrt(1 + wanted.noise**2)).astype(np.float32)


def _mixed(words: Words) -> Words:
    """SplitMix64's output function; overwrites `words`."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words
