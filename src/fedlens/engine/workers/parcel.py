"""What a group of visits gives, on its way from one process to another: vectors in shared memory, the rest beside."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedlens.engine.failures import Failed
from fedlens.engine.sequential import Given, Outcome
from fedlens.engine.trainer import Delivery, Record
from fedlens.methods.method import Vectors
from fedlens.server import Sum
from fedlens.server.collect import Accumulator
from fedlens.shared import Shapes, Shared

Arrays = dict[str, np.ndarray]


class Answer(NamedTuple):
    """All of a delivery that is no vector."""

    integers: Arrays
    record: Record
    bytes: int
    within: bool


class Summed(NamedTuple):
    """All of a sum that is no vector; clients with states or integer buffers are not summed."""

    weights: dict[str, float]
    rest: float
    rows: dict[str, Any]


class Parcel(NamedTuple):
    """Where the vectors lie, and what belongs to them."""

    shapes: Shapes
    content: list[Answer | Failed] | Summed


def pack(given: Given, slot: Shared) -> Parcel:
    """Lay the vectors of `given` into `slot`."""
    if isinstance(given, Outcome):
        return _pack_sums(given, slot)
    vectors: dict[str, Tensor] = {}
    content: list[Answer | Failed] = []
    for position, one in enumerate(given):
        if isinstance(one, Failed):
            content.append(one)
            continue
        vectors |= {f"{position}/upload/{name}": vector for name, vector in one.upload.items()}
        vectors |= {f"{position}/memory/{name}": vector for name, vector in one.memory.items()}
        vectors[f"{position}/rest/"] = one.rest
        content.append(Answer(_arrays(one.integers), one.record, one.bytes, one.within))
    return Parcel(slot.write(vectors), content)


def unpack(parcel: Parcel, slot: Shared) -> Given:
    """What was packed; its vectors are views of `slot`."""
    found: dict[str, dict[str, dict[str, Tensor]]] = {}
    for key, vector in slot.read(parcel.shapes).items():
        whose, what, name = key.split("/", 2)
        found.setdefault(whose, {}).setdefault(what, {})[name] = vector
    if isinstance(parcel.content, Summed):
        return _unpack_sums(parcel.content, found)
    return [
        one if isinstance(one, Failed) else _delivery(one, found[str(position)])
        for position, one in enumerate(parcel.content)
    ]


def _delivery(answer: Answer, found: dict[str, dict[str, Tensor]]) -> Delivery:
    integers, (rest,) = _tensors(answer.integers), found["rest"].values()
    memory = found.get("memory", {})
    return Delivery(found["upload"], rest, integers, answer.record, memory, answer.bytes, answer.within)


def _pack_sums(part: Outcome, slot: Shared) -> Parcel:
    assert isinstance(part.rest, Sum)
    vectors, weights = {} if part.rest.total is None else {"/rest/": part.rest.total}, {}
    for name, total in part.sums.items():
        assert isinstance(total, Sum) and total.total is not None
        vectors[f"/sum/{name}"], weights[name] = total.total, total.weight
    rows = {name: getattr(part, name) for name in ("records", "squares", "bytes_up", "within", "failed")}
    return Parcel(slot.write(vectors), Summed(weights, part.rest.weight, rows))


def _unpack_sums(summed: Summed, found: dict[str, dict[str, dict[str, Tensor]]]) -> Outcome:
    mine = found.get("", {"sum": {}, "rest": {}})  # empty where every client failed
    sums: dict[str, Accumulator] = {name: Sum.of(mine["sum"][name], w) for name, w in summed.weights.items()}
    return Outcome(Sum.of(mine["rest"].get(""), summed.rest), sums, **summed.rows)


def _arrays(integers: Vectors) -> Arrays:
    return {name: value.numpy() for name, value in integers.items()}


def _tensors(integers: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in integers.items()}
