"""What is known of a job before anything of it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from fedlens.diagnosis.job import Declared

Kind = Literal["parameter", "statistic", "counter"]
ONE_A_GROUP = "GroupNorm of one channel a group"  # a kind of its own among `norms`


class Entry(NamedTuple):
    """One tensor of a state. A statistic is a float buffer, a counter one of whole numbers."""

    shape: tuple[int, ...]
    dtype: str
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class Facts:
    """`offers`: which optional parts the job has. `payload`: what uploads are, as declared or as a first one shows.
    `norms`: how many modules of each kind the network has ("BatchNorm2d": 3), None without a network. `where`: stage
    ("fit", "aggregate", "evaluate", "sample") -> file:line of the author's function."""

    clients: int
    cohort: int
    rounds: int
    classes: int | None
    declared: Declared
    entries: Mapping[str, Entry]
    offers: frozenset[str]
    payload: Literal["weights", "update"] | None = None
    norms: Mapping[str, int] | None = None
    where: Mapping[str, str]

    def of_kind(self, kind: Kind) -> tuple[str, ...]:
        """The names of the entries of `kind`."""
        return tuple(name for name, entry in self.entries.items() if entry.kind == kind)


class Unexamined(NamedTuple):
    """What could not be examined, and why."""

    what: str
    why: str
