"""Encoded images into one array."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedlens.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = frozenset({"1", "L", "LA"})
DEEP = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})

# Threads pay for large images only: PIL holds the interpreter's lock outside its decoder. On two cores 512 x 512 JPEG
# take 1.8 in place of 2.2 ms each; 32 x 32 PNG take 65 us alone and up to 90 us in threads that fight for the lock.
THREADS = min(8, os.cpu_count() or 1)
LARGE = 8_000  # bytes, encoded


@dataclass(frozen=True)
class Group:
    """Some images in a row: their bytes, and how to call the one at a position of the group."""

    encoded: Sequence[bytes | None]
    name: Callable[[int], str]


class _ColourError(Exception):
    """A coloured image among grey ones: the array needs three channels after all."""


def decode(count: int, groups: Callable[[], Iterable[Group]], size: int | None) -> Tensor:
    """The `count` images that `groups` yields as u8 [N, C, H, W]; C is 3 if any of them has colour, else 1.

    With `size` every image becomes `size` x `size` (bilinear; the ratio of its sides is not kept). Without, all must be
    of the first one's size. DataError names the image.
    """
    try:
        return _Filling(count, size).fill(groups())
    except _ColourError:
        return _Filling(count, size, channels=3).fill(groups())


class _Filling:
    """One array being filled. Each group is decoded straight into it, so the peak is the array and one group."""

    def __init__(self, count: int, size: int | None, channels: int | None = None) -> None:
        self.count, self.size, self.channels = count, size, channels
        self.array = np.empty((0, 1, 1, 1), dtype=np.uint8)
        self.first = ""

    def fill(self, groups: Iterable[Group]) -> Tensor:
        start = 0
        with ThreadPoolExecutor(THREADS) as pool:
            for group in groups:
                if not self.first and group.encoded:
                    self._prepare(group)
                count = len(group.encoded)
                large = sum(len(encoded or b"") for encoded in group.encoded) > LARGE * count
                stride = max(1, -(-count // (4 * THREADS))) if large else max(1, count)
                parts = [range(at, min(at + stride, count)) for at in range(0, count, stride)]
                work = pool.map if large else map
                list(work(partial(self._part, group, start), parts))
                start += count
        return torch.from_numpy(self.array)

    def _prepare(self, group: Group) -> None:
        """Learn from the first image what all must be, and make room for them."""
        self.first = group.name(0)
        with _opened(group, 0) as image:
            channels = self.channels or (1 if image.mode in GREY else 3)
            width, height = (self.size, self.size) if self.size else image.size
        self.channels = channels
        self.array = np.empty((self.count, channels, height, width), dtype=np.uint8)

    def _part(self, group: Group, start: int, rows: range) -> None:
        for row in rows:
            with _opened(group, row) as image:
                self.array[start + row] = self._pixels(image, group, row)

    def _pixels(self, image: Image, group: Group, row: int) -> np.ndarray:
        """[C, H, W] of one image."""
        if self.channels == 1 and image.mode not in GREY:
            raise _ColourError
        mode = "L" if self.channels == 1 else "RGB"
        try:
            pixels = image if image.mode == mode else image.convert(mode)
            if self.size and pixels.size != (self.size, self.size):
                pixels = pixels.resize((self.size, self.size), 2)  # 2: bilinear, and antialiased when it shrinks
            values = np.asarray(pixels)
        except (OSError, ValueError, SyntaxError) as error:  # PIL reads the pixels only here
            raise _undecodable(group, row, error) from None
        height, width = self.array.shape[2:]
        if values.shape[:2] != (height, width):
            seen = f"{values.shape[1]} x {values.shape[0]} pixels, where {self.first} has {width} x {height}"
            do = "Set data.size, for example to 32: every image is then resized to that many pixels a side."
            raise DataError("an image has another size than the first", where=group.name(row), seen=seen, do=do)
        return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _opened(group: Group, row: int) -> Image:
    from PIL import Image

    encoded = group.encoded[row]
    if encoded is None:
        do = "Write the data set again with the images' bytes in it."
        raise DataError("an image has no bytes, at most a path", where=group.name(row), do=do)
    try:
        image = Image.open(BytesIO(encoded))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _undecodable(group, row, error) from None
    if image.mode in DEEP:
        seen = f"PIL mode {image.mode}"
        do = "Convert them to 8 bits, or load them with a function of your own that returns floats."
        raise DataError("an image has more than 8 bits a channel", where=group.name(row), seen=seen, do=do)
    return image


def _undecodable(group: Group, row: int, error: Exception) -> DataError:
    encoded = group.encoded[row] or b""
    seen = f"{len(encoded)} bytes that begin with {encoded[:8]!r} ({type(error).__name__})"
    do = "Fetch the file again, or remove this image."
    return DataError("an image cannot be decoded", where=group.name(row), seen=seen, do=do)
