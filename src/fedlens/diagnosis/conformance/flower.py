"""What Flower gives a strategy's aggregate_fit, without Flower: its results, with the fields that strategies read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class Parameters(list[Any]):
    """Arrays, to be gone through as they are or read from `tensors`, bytes in NumPy's format, as Flower sends them."""

    tensor_type = "numpy.ndarray"

    @property
    def tensors(self) -> list[bytes]:
        """Each array as bytes."""
        return [_packed(np.asarray(one)) for one in self]


@dataclass
class Status:
    """That a client answered."""

    code: int = 0
    message: str = "Success"


@dataclass
class FitRes:
    """What one client returned: new weights, and the examples that it trained on."""

    parameters: Any
    num_examples: int
    metrics: dict[str, float] = field(default_factory=dict)
    status: Status = field(default_factory=Status)


@dataclass
class Proxy:
    """The client that returned it."""

    cid: str


def results(states: Sequence[Any], counts: Sequence[float]) -> list[tuple[Proxy, FitRes]]:
    """The argument `results` of aggregate_fit: states, lists of arrays or in another form, and their examples."""
    return [
        (Proxy(str(at)), FitRes(Parameters(state) if isinstance(state, list) else state, int(count)))
        for at, (state, count) in enumerate(zip(states, counts, strict=True))
    ]


def _packed(array: np.ndarray) -> bytes:
    np.save(kept := io.BytesIO(), array, allow_pickle=False)
    return kept.getvalue()
