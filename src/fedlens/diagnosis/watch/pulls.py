"""How the gradient of a term beside the loss lies to the way that the weights have gone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fedlens.diagnosis.evidence.rounds import Pull
from fedlens.diagnosis.watch.trained import Begun

FIT = 1e-3  # share of a change of the gradient that a change of the weights may leave unexplained


class At(NamedTuple):
    """The weights and the term's gradient at one step, by id of the parameter."""

    weights: Mapping[int, Tensor]
    gradients: Mapping[int, Tensor]


def distance(begun: Mapping[int, Begun]) -> float:
    """||w - start|| over all parameters."""
    ends, starts = [one.parameter.detach() for one in begun.values()], [one.start for one in begun.values()]
    return torch.stack(torch._foreach_norm(torch._foreach_sub(ends, starts))).double().norm().item() if ends else 0.0


def pull(begun: Mapping[int, Begun], gradients: Mapping[int, Tensor], added: bool, before: At | None) -> Pull | None:
    """`gradients` of the term beside w - start; `added`: they are neither scaled nor averaged. None: all are 0 before
    any weight has moved, or some are no numbers."""
    there = {key: value.double() for key, value in gradients.items() if key in begun and bool(value.any())}
    if not all(bool(value.isfinite().all()) for value in there.values()):
        return None
    if not there:
        far = distance({key: begun[key] for key in gradients if key in begun})
        return Pull(far, math.nan, math.nan, 0.0, 0.0, math.nan, None, added) if far else None
    gone = {key: (begun[key].parameter.detach() - begun[key].start).double() for key in there}
    sizes = {key: value.norm().item() for key, value in there.items()}
    ways = {key: (value * value).sum().item() for key, value in gone.items()}
    moved = {key: (there[key] * gone[key]).sum().item() / way for key, way in ways.items() if way}
    off = [(there[key] - c * gone[key]).norm().item() / sizes[key] for key, c in moved.items()]
    off += [1.0] * (len(there) - len(moved))
    coefficients = list(moved.values()) or [math.nan]
    return Pull(
        distance=distance(begun),
        low=min(coefficients),
        high=max(coefficients),
        least=min(sizes.values()),
        most=max(sizes.values()),
        off=max(off),
        aside=None if before is None else _aside(begun, there, before),
        added=added,
    )


def along(gradients: Mapping[int, Tensor], computed: Mapping[int, Tensor | None]) -> float | None:
    """Cosine of `gradients` with those that were computed for the same parameters; None: one of them is 0."""
    pairs = [(value, own) for key, value in gradients.items() if (own := computed.get(key)) is not None]
    if not pairs:
        return None
    one, other = (torch.cat([part[at].reshape(-1).double() for part in pairs]) for at in (0, 1))
    size = (one.norm() * other.norm()).item()
    return (one @ other).item() / size if 0 < size < math.inf else None


def _aside(begun: Mapping[int, Begun], gradients: Mapping[int, Tensor], before: At) -> float | None:
    """How far the point that weights are pulled to lies from the start, by the norm of the start.

    Two steps tell the coefficient, c = <g' - g, w' - w> / ||w' - w||^2, and a = w - g / c. Multiples of the start do
    not count: a pull towards zero adds them. None: it is no pull of one strength to one point.
    """
    if not gradients.keys() <= before.gradients.keys():
        return None
    keys = list(gradients)
    weights = torch.cat([begun[key].parameter.detach().reshape(-1).double() for key in keys])
    then = torch.cat([before.weights[key].reshape(-1).double() for key in keys])
    now = torch.cat([gradients[key].reshape(-1) for key in keys])
    turned = now - torch.cat([before.gradients[key].reshape(-1).double() for key in keys])
    way = weights - then
    size = (way @ way).item()
    c = (turned @ way).item() / size if size else 0.0
    if c <= 0 or (turned - c * way).norm().item() > FIT * turned.norm().item():
        return None
    start = torch.cat([begun[key].start.reshape(-1).double() for key in keys])
    point = weights - now / c
    length = start.norm().item()
    if not length:
        return None
    along = (point @ start).item() / length**2
    return float((point - along * start).norm().item() / length)
