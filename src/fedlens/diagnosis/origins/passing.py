"""What the author's functions are handed and give back in the course of one stage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from fedlens.diagnosis.origins.memory import arrays_in, memory_of

STATE = (Mapping, list, tuple, Tensor, np.ndarray)
FEW = 50  # things looked at in one argument
PLAIN = (0.0, 1.0)  # numbers that anything may give back


class Passing:
    """What was heard of one stage, the innermost functions first. `numbers`: who gave back which number; `shares`: who
    gave back a row of positive numbers; `loaders`: who was handed the state that the stage was given together with a
    network; `optimizers`: who gave back an optimiser."""

    def __init__(self) -> None:
        self.numbers: list[tuple[CodeType, float]] = []
        self.shares: list[tuple[CodeType, tuple[float, ...]]] = []
        self.loaders: list[CodeType] = []
        self.optimizers: list[CodeType] = []
        self._sought: set[int] = set()

    def begun(self, arguments: Sequence[Any]) -> None:
        """The stage's own function is called with `arguments`."""
        self._sought = set(_memories(arguments))

    def ended(self, code: CodeType, arguments: Sequence[Any], given: Any) -> None:
        """A function with `arguments` gives back `given`."""
        if isinstance(given, Optimizer):
            self.optimizers.append(code)
        self.numbers += [(code, value) for value in _numbers(given)]
        if row := _row(given):
            self.shares.append((code, row))
        if self._sought and any(map(_has_network, arguments)) and self._sought & set(_memories(arguments)):
            self.loaders.append(code)

    def who_told(self, values: Mapping[str, float]) -> CodeType | None:
        """Who gave back the accuracy among `values` first, or any of them where none is called so."""
        named = [value for name, value in values.items() if "acc" in name.lower()] or list(values.values())
        return next((code for code, value in self.numbers if value in named and value not in PLAIN), None)

    def who_weighs(self, count: int) -> CodeType | None:
        """Who gave back `count` weights that are not equal or do not add up to 1, where all count as much."""
        rows = [(code, row) for code, row in self.shares if len(row) == count]
        return next((code for code, row in rows if not _equal_shares(row)), None) if count > 1 else None


def _memories(arguments: Sequence[Any]) -> Iterator[int]:
    for one in arguments:
        if isinstance(one, STATE):
            yield from (at for array in arrays_in(one, most=FEW) if (at := memory_of(array)))


def _has_network(one: Any) -> bool:
    return isinstance(one, nn.Module) or any(isinstance(value, nn.Module) for value in _attributes(one))


def _attributes(one: Any) -> Sequence[Any]:
    return () if isinstance(one, STATE) else list(getattr(one, "__dict__", {}).values())[:FEW]


def _numbers(given: Any) -> list[float]:
    values = given.values() if isinstance(given, Mapping) else given if isinstance(given, tuple) else (given,)
    return [float(one) for one in values if isinstance(one, float | np.floating) and math.isfinite(one)]


def _row(given: Any) -> tuple[float, ...]:
    """The positive fractions that `given` is a row of; () where it is none."""
    if isinstance(given, Tensor | np.ndarray):
        given = given.tolist() if given.ndim == 1 and len(given) <= FEW else ()
    if not isinstance(given, list | tuple) or not all(isinstance(one, float | np.floating) for one in given):
        return ()
    return tuple(float(one) for one in given) if given and all(0 < one <= 1 for one in given) else ()


def _equal_shares(row: Sequence[float]) -> bool:
    return all(math.isclose(one, 1 / len(row), rel_tol=1e-4) for one in row)
