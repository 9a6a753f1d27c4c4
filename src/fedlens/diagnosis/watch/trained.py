"""What was optimised: where it started from, what had no gradient, and whether it was returned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fedlens.diagnosis.evidence.rounds import SentBack
from fedlens.diagnosis.job import State

CLOSE = 1e-5  # relative difference that rounding explains
FEW = 6  # tensors of one shape up to which the nearest is looked for; more are paired in order
SPARSE = 0.5  # share of exact zeros from which a returned update counts as sparse
CHANCE = 4.0  # standard deviations of the cosine of unrelated vectors
MANY = 1_000  # numbers below which chance and a changed direction cannot be told apart
FAR = 2.0  # norms of the model beyond which a returned change is a mask, and no other model


class Begun(NamedTuple):
    """A parameter and a copy of it before the first step."""

    parameter: Tensor
    start: Tensor


def leaves_of(losses: Iterable[Tensor]) -> list[Tensor]:
    """The tensors that a backward call from `losses` will leave gradients in, in the order of the graph."""
    found: list[Tensor] = []
    waiting = [loss.grad_fn for loss in losses if loss.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor):
            found.append(variable)
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return found


def paired(begun: Sequence[Begun], names: Mapping[int, str], received: State) -> list[str | None]:
    """The entry of `received` that each parameter is: by the name in its network; else by shape, the nearest."""
    found = [_named(names.get(id(one.parameter)), one.start, received) for one in begun]
    free = [name for name in received if name not in found]
    for place, one in enumerate(begun):
        if found[place] is None:
            same = next((name for name in free if _same(one.start, received[name])), None)
            if same is not None:
                free.remove(same)
                found[place] = same
    for place, one in enumerate(begun):
        if found[place] is None:
            fitting = [name for name in free if received[name].shape == one.start.shape][:FEW]
            if fitting:
                found[place] = min(fitting, key=lambda name: _apart(one.start, received[name]))
                free.remove(found[place] or "")
    return found


def distance(begun: Sequence[Begun], entries: Sequence[str | None], received: State) -> float | None:
    """||start - received|| / ||received|| over all parameters that are entries; None: none is, or it is not finite."""
    pairs = [(one.start, received[name]) for one, name in zip(begun, entries, strict=True) if name is not None]
    if not pairs:
        return None
    if all(_same(start, value) for start, value in pairs):
        return 0.0
    apart = sum(_apart(start, value) ** 2 for start, value in pairs)
    size = sum(value.double().norm().item() ** 2 for _, value in pairs)
    told = math.sqrt(apart / size) if size else math.nan
    return told if told < math.inf else None


def outside(begun: Sequence[Begun], entries: Sequence[str | None], received: State, returned: State) -> tuple[str, ...]:
    """Entries that moved in training and did not come back.

    Held is what came back as weights or as an update (of either sign), to rounding. Where nothing is exact (noise,
    compression, clipping), an entry is outside if it came back as it went or as zeros while the rest is not sparse, or
    if the whole change has nothing of the trained one in its direction and is no larger than a model.
    """
    moved = [
        (name, one.parameter.detach(), one.start)
        for one, name in zip(begun, entries, strict=True)
        if name is not None and not torch.equal(one.parameter.detach(), one.start)
    ]
    if not moved or not all(bool(end.norm().isfinite()) for _, end, _ in moved):
        return ()
    gone = [name for name, _, _ in moved if name not in returned or returned[name].shape != received[name].shape]
    there = [
        row for row in moved if row[0] not in gone and not _held(row[1], row[2], received[row[0]], returned[row[0]])
    ]
    changes = {name: _change(received[name].double(), returned[name].double()) for name, _, _ in there}
    still = [name for name, change in changes.items() if not change.any()]
    rest = [row for row in there if row[0] not in still]
    if still and rest and _zeros([changes[name] for name, _, _ in rest]) > SPARSE:
        still = []
    if rest and len(rest) + len(still) + len(gone) == len(moved) and _unrelated(rest, changes, received):
        still += [name for name, _, _ in rest]
    return tuple(name for name, _, _ in moved if name in gone or name in still)


def sent_back(
    begun: Sequence[Begun], entries: Sequence[str | None], received: State, returned: State
) -> SentBack | None:
    """What came back beside what was trained, over the entries that were both; None: nothing moved, or not finitely."""
    size, weights, update, sums = 0.0, [0.0, 0.0], [0.0, 0.0], [0.0, 0.0, 0.0]
    for one, name in zip(begun, entries, strict=True):
        if name is None or name not in returned or returned[name].shape != received[name].shape:
            continue
        sent, back, end = received[name], returned[name].detach().to(received[name]), one.parameter.detach()
        moved = (end.to(sent) - sent).reshape(-1)
        size += float(moved @ moved)
        for parts, change in ((weights, (back - sent).reshape(-1)), (update, back.reshape(-1))):
            parts[0] += float(moved @ change)
            parts[1] += float(change @ change)
        for place, values in enumerate((back, end, moved)):
            sums[place] += float(values.sum(dtype=torch.float64))
    if not 0 < size < math.inf or not weights[1] < math.inf:
        return None
    told = [(part / size, math.sqrt(max(0.0, whole / size - (part / size) ** 2))) for part, whole in (weights, update)]
    return SentBack(*told[0], *told[1], *sums)


def _held(end: Tensor, start: Tensor, received: Tensor, returned: Tensor) -> bool:
    if torch.equal(end, returned):
        return not _stays(received, returned, end - start)
    end, start, sent, back = end.double(), start.double(), received.double(), returned.double()
    size = (end - start).norm().item() * 1e-3 + CLOSE * end.norm().item()
    if _stays(sent, back, end - start):
        return False
    if (back - end).norm().item() <= size:
        return True
    return any((back - way).norm().item() <= size for way in (end - sent, sent - end, end - start, start - end))


def _stays(sent: Tensor, back: Tensor, moved: Tensor) -> bool:
    """Whether what came back is exactly what went, or zeros, although training moved it visibly."""
    return bool(moved.any()) and (torch.equal(sent, back) or not back.any())


def _change(sent: Tensor, back: Tensor) -> Tensor:
    """What a returned entry says of the change: itself if it is nearer to zero than to what was sent."""
    return back if back.norm() < (back - sent).norm() else back - sent


def _zeros(changes: Sequence[Tensor]) -> float:
    every = torch.cat([change.reshape(-1) for change in changes])
    return 1 - float(torch.count_nonzero(every)) / len(every)


def _unrelated(rows: Sequence[tuple[str, Tensor, Tensor]], changes: Mapping[str, Tensor], received: State) -> bool:
    true = torch.cat([(end.double() - start.double()).reshape(-1) for _, end, start in rows])
    back = torch.cat([changes[name].reshape(-1) for name, _, _ in rows])
    size = sum(received[name].double().norm().item() ** 2 for name, _, _ in rows) ** 0.5
    scale = (true.norm() * back.norm()).item()
    if len(true) < MANY or not scale or not back.norm().item() <= FAR * size:
        return False
    return bool(abs((true @ back).item() / scale) < CHANCE / len(true) ** 0.5)


def _named(name: str | None, start: Tensor, received: State) -> str | None:
    """The entry called `name`, or the only one of its shape whose name ends like it (a wrapper's prefix aside)."""
    if name is None:
        return None
    if name in received and received[name].shape == start.shape:
        return name
    alike = [
        one
        for one, value in received.items()
        if value.shape == start.shape and (one.endswith(f".{name}") or name.endswith(f".{one}"))
    ]
    return alike[0] if len(alike) == 1 else None


def _same(start: Tensor, value: Tensor) -> bool:
    if start.shape != value.shape:
        return False
    return torch.equal(start, value if value.dtype == start.dtype else value.to(start.dtype))


def _apart(start: Tensor, value: Tensor) -> float:
    return float((start.double() - value.double()).norm())
