"""Where in the author's code things come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Written(NamedTuple):
    """A number in the author's files. `name`: that of fedlens.Declared ("clip" and "noise": of its dp); `where`:
    file:line."""

    name: str
    value: float
    where: str


@dataclass(frozen=True, kw_only=True)
class Origins:
    """file:line of the author's functions, "" or absent where none is known.

    `inputs`, `labels`: client -> the function that made its examples; `test_inputs`, `test_labels`: of the test set.
    `dealt`: the function that dealt out the rows. `numbers`: what the author's settings and code say, the likeliest
    places first.
    """

    inputs: Mapping[int, str] = field(default_factory=dict)
    labels: Mapping[int, str] = field(default_factory=dict)
    test_inputs: str = ""
    test_labels: str = ""
    dealt: str = ""
    numbers: tuple[Written, ...] = ()
