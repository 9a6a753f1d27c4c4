"""Jobs as far as copying goes; this module remembers nothing itself."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


class Plain:
    """A job as far as copying goes: it has what it is given."""

    def __init__(self, **held: Any) -> None:
        self.held = held
        self.seen: list[int] = []


def counting() -> tuple[Callable[[], int], Callable[[], int], list[int]]:
    count, log = 0, list[int]()

    def add() -> int:
        nonlocal count
        count += 1
        log.append(count)
        return count

    return add, lambda: count, log


def visiting() -> Callable[[int], int]:
    """A function that remembers in its defaults."""

    def visit(client: int, memory: list[int] = [], *, named: list[int] = []) -> int:  # noqa: B006
        memory.append(client)
        named.append(client)
        return len(memory) + len(named)

    return visit


def mutual() -> tuple[Callable[[int], bool], Callable[[int], bool], list[int]]:
    """Two functions that know each other."""

    def even(n: int) -> bool:
        calls.append(n)
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    calls: list[int] = []
    return even, odd, calls


def data_class() -> Any:
    """A data class, of which Python writes most functions."""

    @dataclass
    class Job:
        rate: float = 0.1
        seen: list[int] = field(default_factory=list)

    return Job()


def of_a_class_in_a_function() -> Any:
    """Its class remembers in a variable around it."""
    memory: list[int] = []

    class Job:
        def fit(self) -> None:
            memory.append(1)

    return Job()


def of_a_class_with_a_list() -> Any:
    """All instances of its class remember in one list."""

    class Shares:
        memory: list[int] = []  # noqa: RUF012

    return Shares()


def that_copies_itself() -> Any:
    """It says itself how it is copied."""

    class Copied:
        def __deepcopy__(self, memo: Any) -> Any:
            return self

    return Copied()


def known_by(one: Any) -> Any:
    """It finds `one` by its id."""
    return Plain(one=one, of={id(one): 3})


NOT_COPIED = (
    of_a_class_in_a_function,
    of_a_class_with_a_list,
    that_copies_itself,
    lambda: Plain(one=functools.lru_cache(abs)),
    lambda: Plain(one=[].append),
    lambda: Plain(one=weakref.ref(torch.nn.Linear(1, 1))),
    lambda: known_by(torch.nn.Linear(1, 1)),
    lambda: known_by(torch.zeros(2)),
    lambda: Plain(many=[[n] for n in range(30_000)]),
)
