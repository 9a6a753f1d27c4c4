"""One visit of a client: the author's `fit`, called as it is, and what came back beside what was sent."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fedlens.diagnosis.evidence import Facts, Watched
from fedlens.diagnosis.job import State, Upload
from fedlens.diagnosis.subject.forms import read_state, read_upload
from fedlens.diagnosis.subject.guard import guarded, seeded
from fedlens.diagnosis.subject.patient import Patient, Sent
from fedlens.diagnosis.watch import Watch

Payload = Literal["weights", "update"]
CLEAR = 2.0  # times nearer to what was sent than to zero, or the reverse, tells weights from updates
SAMPLE = 4096  # numbers that a grid is looked for in
STEPS = 2**14  # of a grid that more than this many times fits into its numbers nothing can be said


@dataclass(frozen=True)
class Returned:
    """What one call of `fit` gave. `given`: the object that the author's code received; `watched`: what was seen of the
    call, where it was watched; `pairs`: inputs of its first batches, and the labels that the loss had."""

    client: int
    sent: Sent
    given: Any
    watched: Watched = field(default_factory=Watched)
    pairs: Sequence[tuple[Tensor, Tensor]] = ()

    @property
    def state(self) -> State:
        """The upload by name."""
        return self.sent.upload.state


def visit(
    patient: Patient,
    client: int,
    received: State,
    round: int,
    watch: AbstractContextManager[Watch | None] | None = None,
) -> Returned | None:
    """Visit `client` with a copy of `received` of its own; None where it answers nothing. Global random state depends
    on (round, client) alone. `watch`: listens to the author's call. Raises Ailing."""
    given = patient.written(received)  # before seeding: it may be what calls the author's init first
    seeded(patient.seed, round, client)
    with guarded("fit", f"round {round}, client {client}", patient.patience):
        with watch or nullcontext() as heard:
            began = time.perf_counter()
            raw = patient.job.fit(client, given, round)
            seconds = time.perf_counter() - began
        if raw is None:
            return None
        upload = read_upload(raw, patient.names).upload
    told = Watched() if heard is None else heard.told(upload.state)
    return Returned(client, Sent(upload, raw, seconds), given, told, () if heard is None or heard.deaf else heard.pairs)


def written_to(patient: Patient, given: Any, received: State) -> bool:
    """Whether the author's code changed the object `given` that held `received`."""
    try:
        now = read_state(given, patient.names)
    except Exception:  # it made something else of it: it has written to it
        return True
    return now.keys() != received.keys() or any(not _same(now[name], received[name]) for name in received)


def _same(one: Tensor, other: Tensor) -> bool:
    return (one.shape == other.shape and bool(torch.equal(one.to(other.dtype), other))) or _both_nan(one, other)


def _both_nan(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not (one.is_floating_point() and other.is_floating_point()):
        return False
    return bool(torch.allclose(one.to(other.dtype), other, rtol=0, atol=0, equal_nan=True))


def places(raw: Any) -> frozenset[int]:
    """Where in memory the tensors and arrays of `raw` begin."""
    return frozenset(_places(raw, 0))


def _places(raw: Any, depth: int) -> Iterator[int]:
    if isinstance(raw, Tensor):
        if raw.numel() and raw.device.type == "cpu" and raw.layout == torch.strided:
            yield raw.data_ptr()
    elif isinstance(raw, np.ndarray):
        if raw.size:
            yield int(raw.__array_interface__["data"][0])
    elif isinstance(raw, str | bytes | int | float) or depth > 4:
        return
    elif isinstance(raw, nn.Module):
        yield from _places(dict(raw.state_dict()), depth + 1)
    elif isinstance(raw, Mapping):
        for value in raw.values():
            yield from _places(value, depth + 1)
    elif isinstance(raw, Sequence):
        for value in raw:
            yield from _places(value, depth + 1)
    elif hasattr(raw, "__dict__"):
        for value in vars(raw).values():
            yield from _places(value, depth + 1)


def finite(state: State) -> bool:
    """Whether all numbers of `state` are finite."""
    for value in state.values():
        if value.is_floating_point() and not bool(torch.isfinite(value.sum())) and not bool(value.isfinite().all()):
            return False
    return True


class Differs(NamedTuple):
    """Entries that did not come back as they went."""

    missing: tuple[str, ...]
    reshaped: tuple[str, ...]
    retyped: tuple[str, ...]


def compared(facts: Facts, received: State, returned: State) -> Differs:
    """`returned` beside `received`, without entries that are declared to stay at clients."""
    names = [name for name in received if not facts.declared.stays(name)]
    there = [name for name in names if name in returned]
    return Differs(
        missing=tuple(name for name in names if name not in returned),
        reshaped=tuple(name for name in there if returned[name].shape != received[name].shape),
        retyped=tuple(name for name in there if returned[name].dtype != received[name].dtype),
    )


def exchanged(facts: Facts, received: State, others: Sequence[State]) -> tuple[str, ...]:
    """The parameters that invariants are about: neither local nor frozen, in all states and of one shape."""

    def counts(name: str) -> bool:
        if name not in received or not received[name].is_floating_point():
            return False
        if facts.declared.stays(name) or any(name.startswith(one) for one in facts.declared.frozen):
            return False
        return all(name in other and other[name].shape == received[name].shape for other in others)

    return tuple(name for name in facts.of_kind("parameter") if counts(name))


def payload_of(facts: Facts, received: State, returned: State) -> Payload | None:
    """Whether `returned` is weights or an update: near what was sent, or near zero. None: it could be either."""
    if facts.payload is not None:
        return facts.payload
    names = exchanged(facts, received, [returned])
    if not names or not finite(returned):
        return None
    moved = math.hypot(*(float((returned[name] - received[name]).float().norm()) for name in names))
    size = math.hypot(*(float(returned[name].float().norm()) for name in names))
    if moved * CLEAR < size:
        return "weights"
    return "update" if size * CLEAR < moved else None


def after(received: State, upload: Upload, payload: Payload) -> dict[str, Tensor]:
    """The client's whole model: what it sent laid over what it received."""
    model = dict(received)
    for name, value in upload.state.items():
        if name in model and model[name].shape == value.shape:
            model[name] = model[name] + value.to(model[name].dtype) if payload == "update" else value
    return model


def grid_of(values: Tensor, rounding: float = 0.0) -> float:
    """The largest step that at most SAMPLE of `values` are whole multiples of, 0 where there is none. Steps of the size
    of `rounding`, what float arithmetic itself leaves, are not told."""
    flat = values.detach().flatten()
    kept = flat[torch.linspace(0, flat.numel() - 1, min(SAMPLE, flat.numel())).long()].double().abs()
    kept = kept[kept > 0]
    if len(kept) < 16 or not bool(kept.isfinite().all()):
        return 0.0
    low, high = float(kept.min()), float(kept.max())
    for parts in (1, 2, 3, 4):
        step = low / parts
        if step <= 16 * rounding or high / step > STEPS:
            return 0.0
        counts = kept / step
        if float((counts - counts.round()).abs().max()) < 0.02 + 2 * rounding / step:
            return step
    return 0.0
