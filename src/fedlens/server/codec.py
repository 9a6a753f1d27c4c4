"""Codecs: one vector [T] as bytes and back. What is sent is counted as len(payload), headers included.

Numbers are little-endian on the wire. A codec sees one whole vector, never one layer; sender and receiver share its
settings and T, so that neither is sent. Every encode raises RunError where the vector is not finite or a number does
not fit; every decode where the payload is not as long as T entries make it, or says what no encoder writes. All take
T >= 1 entries of float32 or float64.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedlens.errors import RunError
from fedlens.settings import Count, settings

Array = NDArray[Any]
Levels = Annotated[int, Field(ge=1, le=2**15 - 1, strict=True)]  # 16 bits an entry; a float16 costs no more
Kept = Annotated[float, Field(gt=0, le=1, strict=True)]


@settings
class Plain:
    """The numbers as they are: 4 T bytes for float32, 8 T for float64."""

    kind: Literal["none"] = "none"

    def encode(self, vector: Tensor, rng: np.random.Generator) -> bytes:
        """The bytes of `vector` [T]."""
        return _wire(_numbers(vector, self.kind))

    def decode(self, payload: bytes, size: int, like: Tensor) -> Tensor:
        """[size] in the dtype of `like`, bit for bit what was encoded; the sender's dtype must be the same."""
        dtype = np.dtype(f"<f{like.element_size()}")
        _expect(payload, dtype.itemsize * size, size, self.kind)
        return _tensor(np.frombuffer(payload, dtype), like)


@settings
class Float16:
    """IEEE half precision, rounded to nearest even: 2 T bytes, 11 significant bits.

    Beyond 65504 there is no float16, and encode raises RunError rather than cap the number. Below 6e-5 digits are lost,
    below 3e-8 everything is.
    """

    kind: Literal["float16"] = "float16"

    def encode(self, vector: Tensor, rng: np.random.Generator) -> bytes:
        """The bytes of `vector` [T]."""
        values = _numbers(vector, self.kind)
        return _wire(_fitting(values, "f2", self.kind))

    def decode(self, payload: bytes, size: int, like: Tensor) -> Tensor:
        """[size] in the dtype of `like`."""
        _expect(payload, 2 * size, size, self.kind)
        return _tensor(np.frombuffer(payload, "<f2"), like)


@settings
class BFloat16:
    """The upper half of a float32, rounded to nearest even: 2 T bytes, 8 significant bits, the range of float32.

    A float64 is rounded to float32 on the way.
    """

    kind: Literal["bfloat16"] = "bfloat16"

    def encode(self, vector: Tensor, rng: np.random.Generator) -> bytes:
        """The bytes of `vector` [T]."""
        values = _numbers(vector, self.kind)
        rounded = torch.from_numpy(_fitting(values, "f4", self.kind)).to(torch.bfloat16)
        _refuse_overflow(values, rounded.isfinite().numpy(), self.kind)  # the last 0.4% of float32 round up to infinity
        return _wire(rounded.view(torch.int16).numpy())

    def decode(self, payload: bytes, size: int, like: Tensor) -> Tensor:
        """[size] in the dtype of `like`."""
        _expect(payload, 2 * size, size, self.kind)
        upper = np.frombuffer(payload, "<u2").astype(np.uint32)
        return _tensor((upper << 16).view(np.float32), like)


@settings
class QSGD:
    """Every entry at random to one of the two nearest of 2 s + 1 levels between -norm and norm, so that its mean is v.

    Source: Alistarh et al. 2017, Q_s: ||v|| sign(v_i) l/s, with l the whole number below or above s |v_i| / ||v||; s is
    `levels`. The norm is l2, of every `bucket` of consecutive entries (their bucketing). Lemma 3.1:
    E||Q(v) - v||^2 <= min(n/s^2, sqrt(n)/s) ||v||^2 with n = `bucket`. Takes ceil(log2(2 s + 1)) bits an entry and
    4 bytes a bucket.
    Differs from the paper: levels have a fixed width in place of Elias codes; the norm is rounded up to float32, so
    that no entry exceeds it and the mean stays v.
    """

    levels: Levels = 127
    bucket: Count = 512
    kind: Literal["qsgd"] = "qsgd"

    @property
    def variance(self) -> float:
        """The paper's bound on E||Q(v) - v||^2 / ||v||^2, whatever v is."""
        return min(self.bucket / self.levels**2, math.sqrt(self.bucket) / self.levels)

    def encode(self, vector: Tensor, rng: np.random.Generator) -> bytes:
        """The bytes of `vector` [T]: the norms, then the levels; `rng` decides between below and above."""
        values = _numbers(vector, self.kind).astype(np.float64)
        with np.errstate(over="ignore"):  # float64 whose squares overflow: the norm does not fit, and that is told
            norms = np.sqrt(np.add.reduceat(values**2, np.arange(0, len(values), self.bucket)))
        norms = _rounded_up(norms, self.kind)
        per_unit = self.levels / np.where(norms > 0, norms, 1).astype(np.float64)
        level = np.floor(np.abs(values) * self._spread(per_unit, len(values)) + rng.random(len(values)))
        level = np.copysign(np.minimum(level, self.levels), values)
        return _wire(norms) + _packed((level + self.levels).astype(np.uint16), self._bits)

    def decode(self, payload: bytes, size: int, like: Tensor) -> Tensor:
        """[size] in the dtype of `like`."""
        head = 4 * math.ceil(size / self.bucket)
        _expect(payload, head + math.ceil(self._bits * size / 8), size, self.kind)
        codes = _unpacked(payload[head:], self._bits, size)
        if codes.max() > 2 * self.levels:
            raise _damaged(self.kind, f"level {int(codes.max()) - self.levels} of {self.levels}")
        units = np.frombuffer(payload[:head], "<f4").astype(np.float64) / self.levels
        return _tensor((codes.astype(np.float64) - self.levels) * self._spread(units, size), like)

    @property
    def _bits(self) -> int:
        return (2 * self.levels).bit_length()

    def _spread(self, per_bucket: Array, size: int) -> Array:
        return np.repeat(per_bucket, min(self.bucket, size))[:size]


@settings
class TopK:
    """The k = max(1, ceil(fraction T)) entries of largest magnitude; the others count as 0. Of equal ones, the first.

    Source: Stich et al. 2018, the operator top_k; Alistarh et al. 2018. Takes 8 k bytes: uint32 places in rising order
    and float32 values. Differs: the product is taken as written in decimals (0.07 of 100 is 7, though 7.000000000000001
    in floating point).
    """

    fraction: Kept = 0.01
    kind: Literal["top-k"] = "top-k"

    def encode(self, vector: Tensor, rng: np.random.Generator) -> bytes:
        """The bytes of `vector` [T]: the places, then the values."""
        values = _numbers(vector, self.kind)
        magnitudes, kept = np.abs(values), self._kept(len(values))
        least = np.partition(magnitudes, -kept)[-kept]
        above = np.flatnonzero(magnitudes > least)
        equal = np.flatnonzero(magnitudes == least)[: kept - len(above)]
        places = np.sort(np.concatenate([above, equal]))
        return _wire(places.astype(np.uint32)) + _wire(_fitting(values[places], "f4", self.kind))

    def decode(self, payload: bytes, size: int, like: Tensor) -> Tensor:
        """[size] in the dtype of `like`."""
        kept = self._kept(size)
        _expect(payload, 8 * kept, size, self.kind)
        places = np.frombuffer(payload, "<u4", kept).astype(np.int64)
        if places[-1] >= size or (np.diff(places) <= 0).any():
            raise _damaged(self.kind, f"places that do not rise within {size} entries")
        dense = np.zeros(size, np.float32)
        dense[places] = np.frombuffer(payload, "<f4", kept, 4 * kept)
        return _tensor(dense, like)

    def _kept(self, size: int) -> int:
        return max(1, math.ceil(self.fraction * size - 1e-9))


@settings
class Sign:
    """The sign of every entry times the mean magnitude, mean|v| sign(v_i); 0 counts as positive.

    Source: Karimireddy et al. 2019, Algorithm 1 (EF-signSGD: ||p||_1 / d sign(p)); without the magnitude Bernstein et
    al. 2018. Takes ceil(T / 8) + 4 bytes. Differs: one bit has no room for sign(0) = 0. Without error feedback it need
    not converge: their counterexamples.
    """

    kind: Literal["sign"] = "sign"

    def encode(self, vector: Tensor, rng: np.random.Generator) -> bytes:
        """The bytes of `vector` [T]: the mean magnitude, then the signs."""
        values = _numbers(vector, self.kind)
        with np.errstate(over="ignore"):  # float64 whose sum overflows: the mean does not fit, and that is told
            scale = np.abs(values).mean(dtype=np.float64, keepdims=True)
        return _wire(_fitting(scale, "f4", self.kind)) + _packed(values >= 0, 1)

    def decode(self, payload: bytes, size: int, like: Tensor) -> Tensor:
        """[size] in the dtype of `like`."""
        _expect(payload, 4 + math.ceil(size / 8), size, self.kind)
        scale = np.frombuffer(payload, "<f4", 1)
        return _tensor(np.where(_unpacked(payload[4:], 1, size), scale, -scale), like)


def _numbers(vector: Tensor, kind: str) -> Array:
    values: Array = vector.detach().cpu().numpy()
    finite = np.isfinite(values)
    if not finite.all():
        place = int(np.argmin(finite))
        raise RunError(
            "what is to be sent is not finite",
            where=f"codec {kind}, entry {place}",
            seen=values[place],
            do="Lower local.lr or set local.clip_norm.",
        )
    return values


def _fitting(values: Array, dtype: str, kind: str) -> Array:
    """`values` rounded to nearest even in `dtype`."""
    with np.errstate(over="ignore"):
        rounded: Array = values.astype(dtype)
    _refuse_overflow(values, np.isfinite(rounded), kind)
    return rounded


def _rounded_up(values: Array, kind: str) -> Array:
    """`values` as the next float32 that is not below."""
    rounded = _fitting(values, "f4", kind)
    return np.where(rounded < values, np.nextafter(rounded, np.float32(np.inf)), rounded)


def _refuse_overflow(values: Array, fits: Array, kind: str) -> None:
    if not fits.all():
        raise RunError(
            f"{values[np.argmin(fits)]:g} is too large to be sent",
            where=f"codec {kind}",
            seen=f"{fits.size - int(fits.sum())} of {fits.size} numbers beyond its range",
            do="Lower local.lr or set local.clip_norm. Only float16 ends at 65504: bfloat16 takes what float32 does.",
        )


def _expect(payload: bytes, length: int, size: int, kind: str) -> None:
    if len(payload) != length:
        raise _damaged(kind, f"{len(payload)} bytes where {size} entries take {length}")


def _damaged(kind: str, seen: str) -> RunError:
    do = "Decode the whole payload, with the settings that encoded it."
    return RunError("the payload is not what an encoder writes", where=f"codec {kind}", seen=seen, do=do)


def _wire(array: Array) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _tensor(array: Array, like: Tensor) -> Tensor:
    """A copy of `array` in the dtype and on the device of `like`."""
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="))).to(like)


def _packed(codes: Array, bits: int) -> bytes:
    """The last `bits` bits of `codes` [T] in ceil(bits T / 8) bytes, lowest bits of all entries first."""
    # Plane after plane of bits, not entry after entry: seven times as fast (1.7 million entries, 8 bits).
    planes = np.empty((bits, len(codes)), np.uint8)
    for bit, plane in enumerate(planes):
        plane[:] = (codes >> bit) & 1
    return np.packbits(planes).tobytes()


def _unpacked(payload: bytes, bits: int, size: int) -> Array:
    """The codes [size] that `_packed` packed."""
    planes = np.unpackbits(np.frombuffer(payload, np.uint8), count=bits * size).reshape(bits, size)
    codes = np.zeros(size, np.uint16)
    for bit, plane in enumerate(planes):
        codes |= plane.astype(np.uint16) << bit
    return codes
