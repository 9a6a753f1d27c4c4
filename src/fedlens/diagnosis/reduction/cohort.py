"""Made-up uploads: as large as a real one, in directions that have nothing to do with each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fedlens.diagnosis.evidence import Entry
from fedlens.diagnosis.job import State, Upload

SHARES = (0.6, 1.0, 1.3, 0.8, 1.8, 0.4, 1.2, 0.2, 1.6, 2.0)  # counts of a cohort, in counts of the real upload
SIZES = (1.0, 0.98, 1.03, 0.85, 1.05, 0.97, 1.02, 0.96, 1.04, 0.99)  # one is shorter, so that Krum's choice is clear
ROUNDED = 2e4  # updates are at least so many roundings of the weights large
SAMPLED = 4096  # numbers of one entry that are looked at


class Form(NamedTuple):
    """What uploads look like. `current`: the model that they answer; `upload`: a real one; `entries`: kinds of the
    model's entries; `payload`: whether uploads are weights or updates; `counted`: whether they say their examples."""

    current: State
    upload: Upload
    entries: Mapping[str, Entry]
    payload: Literal["weights", "update"]
    counted: bool = True

    @property
    def shares(self) -> bool:
        """Whether the counts are shares already, which add up to 1."""
        return self.counted and 0 < self.upload.examples < 1

    def answered(self, name: str) -> bool:
        """Whether uploads hold the model's entry `name`, in its shape."""
        there = self.upload.state.get(name)
        return there is not None and name in self.current and there.shape == self.current[name].shape


@dataclass(frozen=True)
class Cohort:
    """`uploads` in the order in which they are listed, answering `form.current`."""

    form: Form
    uploads: tuple[Upload, ...]

    @cached_property
    def p(self) -> Tensor:
        """[m], the share of each upload by its examples, or equal shares where uploads do not say."""
        counts = [upload.examples if self.form.counted else 1.0 for upload in self.uploads]
        return torch.tensor(counts, dtype=torch.float64) / sum(counts)

    def directions(self, name: str) -> Tensor:
        """[m, n] in float64: what each upload changes of entry `name`, at the numbers that are looked at."""
        if not self.form.answered(name):
            return torch.zeros(len(self.uploads), len(looked_at(self.form.current[name])), dtype=torch.float64)
        sent = torch.stack([looked_at(upload.state[name]) for upload in self.uploads])
        return sent - looked_at(self.form.current[name]) if self.form.payload == "weights" else sent

    def listed(self, order: Sequence[int], counts: Sequence[float] = ()) -> Cohort:
        """The uploads at the places `order`, with other `counts`."""
        chosen = [self.uploads[place] for place in order]
        if counts:
            chosen = [replace(upload, examples=count) for upload, count in zip(chosen, counts, strict=True)]
        return Cohort(self.form, tuple(chosen))


def looked_at(value: Tensor) -> Tensor:
    """[n] in float64: the numbers of an entry, at most SAMPLED of them, evenly chosen."""
    flat = value.detach().reshape(-1)
    if len(flat) > SAMPLED:
        flat = flat[torch.linspace(0, len(flat) - 1, SAMPLED).long()]
    return flat.double()


def make_cohort(
    form: Form, m: int, *, factor: float = 1.0, sign: float = 1.0, size: float | None = None, draw: int = 0
) -> Cohort:
    """`m` uploads in the form of the real one, always the same ones by `draw`.

    Updates are `factor` times as large as the real one, entry by entry, or `size` (their standard deviation); with
    `sign` -1 they point the other way.
    """
    random = torch.Generator().manual_seed(20_231 + draw)
    uploads = []
    for place in range(m):
        state = {}
        for name, like in form.upload.state.items():
            drawn = torch.randn(like.shape, generator=random, dtype=torch.float64)
            length = SIZES[place % len(SIZES)] * (_size(form, name, m) * factor if size is None else size)
            state[name] = _entry(form, name, sign * length * drawn, place)
        uploads.append(Upload(state, 0.0, form.upload.metrics))
    counts = _counts(form, m)
    return Cohort(form, tuple(replace(upload, examples=count) for upload, count in zip(uploads, counts, strict=True)))


def _entry(form: Form, name: str, drawn: Tensor, place: int) -> Tensor:
    """One entry of one upload, moved by `drawn` where it is of floats, and counted on where it is a counter."""
    like = form.upload.state[name]
    if like.dtype == torch.bool or like.is_complex():
        return like.clone()
    moved = form.payload == "weights" or not form.answered(name)
    base = (form.current[name] if form.answered(name) else like) if moved else torch.zeros_like(like)
    if not like.is_floating_point():
        step = 3 * (place + 1) if like.dtype in (torch.int8, torch.uint8) else 17 * (place + 2) + 5 * place * place
        return base.to(like.dtype) + step
    kind = form.entries[name].kind if name in form.entries else "parameter"
    if kind == "statistic" and bool((form.current[name] > 0).all()):
        most = 0.5 * form.current[name].double()  # a variance stays one
        drawn = torch.clamp(drawn, -most, most)
    return (base.double() + drawn).to(like.dtype)


def _size(form: Form, name: str, m: int) -> float:
    """The standard deviation of a made-up update of entry `name`: of the real one, unless rounding would show."""
    like = form.upload.state[name]
    if not like.is_floating_point():
        return 0.0
    now = form.current[name].double() if form.answered(name) else like.double()
    real = like.double() - now if form.payload == "weights" or not form.answered(name) else like.double()
    weight, moved = _rms(now), _rms(real)
    least = min(ROUNDED * torch.finfo(like.dtype).eps * m**0.5, 2.0) * weight
    if form.payload == "update":
        least = max(least, 1e-3 * weight)
    moved = moved if moved < float("inf") else 0.0
    return min(max(moved, least) or 1e-2, 10 * max(weight, 1.0))


def _counts(form: Form, m: int) -> list[float]:
    """Unequal counts about as large as the real one; shares where that is one."""
    parts = [SHARES[place % len(SHARES)] + 0.05 * (place // len(SHARES)) for place in range(m)]
    if form.shares:
        return [part / sum(parts) for part in parts]
    real = max(50.0, min(form.upload.examples, 1e6)) if form.upload.examples > 0 else 50.0
    return [float(round(real * part)) for part in parts]


def _rms(value: Tensor) -> float:
    return float(value.square().mean().sqrt()) if value.numel() else 0.0
