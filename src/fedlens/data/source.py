"""Data as an experiment names them, and the way from the name to the examples."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from fedlens.data.dataset import Split, check
from fedlens.data.digits import digits
from fedlens.data.folder import from_folder
from fedlens.data.function import from_function
from fedlens.data.hub import locate
from fedlens.data.known import SOURCES
from fedlens.data.parquet import from_parquet
from fedlens.data.rows import Rows
from fedlens.data.synthetic import Synthetic, synthetic
from fedlens.errors import ConfigurationError, nearest
from fedlens.settings import Count, settings

HUB = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)?")
Augment = Literal["none", "flip", "crop-flip", "shift", "crop-flip-cutout"]
FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@settings
class Data:
    """Which examples an experiment learns from.

    `source`: digits, mnist, cifar10, fashion-mnist, synthetic, folder:PATH, hub:OWNER/NAME or package.module:function.
    `augment`: what is done to the training images, batch by batch. `size`: resize images to size x size pixels.
    `directory`: where data sets lie; looked into before FEDLENS_DATA, the cache and the hub. `synthetic`: what is made
    up by that source.
    """

    source: str = "digits"
    augment: Augment = "none"
    size: Count | None = None
    directory: str | None = None
    synthetic: Synthetic | None = None

    @model_validator(mode="after")
    def _settings_are_those_of_the_source(self) -> Data:
        if self.synthetic is not None and self.source != "synthetic":
            raise ValueError(
                f'synthetic has no effect on source = {self.source!r}; set data.source = "synthetic", or drop synthetic'
            )
        return self


def known_sources() -> tuple[str, ...]:
    """The names and forms that Data.source may have."""
    return (*SOURCES, "synthetic", "folder:PATH", "hub:OWNER/NAME", "package.module:function")


def check_source(source: str) -> None:
    """Raise ConfigurationError unless `source` has a known name or form; opens no file and imports nothing."""
    kind, colon, rest = source.partition(":")
    if source in (*SOURCES, "synthetic") or (kind == "folder" and rest) or (kind == "hub" and HUB.fullmatch(rest)):
        return
    if kind not in {"folder", "hub"} and FUNCTION.fullmatch(source):
        return
    do = "One of: " + ", ".join(known_sources()) + "."
    guess = nearest(source.lower(), (*SOURCES, "synthetic")) or (
        f"hub:{source}" if HUB.fullmatch(source) and not colon else ""
    )
    do = f"Did you mean '{guess}'? {do}" if guess else do
    raise ConfigurationError("not a known source of data", where="data.source", seen=repr(source), do=do)


def load(data: Data) -> Split:
    """The examples that `data` names, checked: where they are absent or damaged DataError says what to do."""
    check_source(data.source)
    kind, _, rest = data.source.partition(":")
    known = SOURCES.get(data.source)
    if data.source == "digits" and known:
        return _resized(digits(known.mean, known.std, known.classes), data)
    if data.source == "synthetic":
        return _resized(synthetic(data.synthetic or Synthetic()), data)
    if known:
        return from_parquet(locate(known.hub, data.source, data.directory), data.size, known)
    if kind == "folder":
        return from_folder(rest, data.size)
    if kind == "hub":
        return from_parquet(locate(rest, rest, data.directory), data.size)
    return _resized(from_function(data.source), data)


def _resized(split: Split, data: Data) -> Split:
    """`split` with its u8 images at `data.size`, for sources that were not decoded from files."""
    if data.size is None:
        return split
    if split.train.images.dtype != torch.uint8:
        do = "Leave size away; the source decides the shape of float data."
        raise ConfigurationError("only images can be resized", where="data.size", seen=str(data.size), do=do)
    train, test = (replace(part, images=_resize(part.images, data.size)) for part in (split.train, split.test))
    return Split(check(train, data.source), check(test, data.source), split.test_is)


def _resize(images: Tensor | Rows, size: int) -> Tensor | Rows:
    if isinstance(images, Rows):
        return Rows(lambda at: _interpolated(images[at], size), (*images.shape[:2], size, size), torch.uint8)
    return _interpolated(images, size)


def _interpolated(images: Tensor, size: int) -> Tensor:
    values = torch.nn.functional.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return values.round().clamp(0, 255).to(torch.uint8)
