"""What the doctor says of one cause: how sure, on what evidence, what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedlens.diagnosis.evidence import Evidence


class Certainty(IntEnum):
    """How a cause is known. NOTED: seen, and no fault by itself."""

    NOTED = 0
    CONSISTENT = 1
    SUPPORTED = 2
    FOUND = 3

    @property
    def words(self) -> str:
        """As the page says it."""
        return {3: "FOUND (exact)", 2: "SUPPORTED by a counterfactual", 1: "CONSISTENT WITH", 0: "NOTED"}[self.value]


@dataclass(frozen=True)
class Measured:
    """One line of evidence. `name`: what was measured; `by`: its id among the measurements, M01 to M35; `yours` and
    `healthy`: the values, with units."""

    name: str
    by: str
    yours: str
    healthy: str


@dataclass(frozen=True)
class Finding:
    """One cause.

    `cause`: its id in the catalogue (docs/causes.md); `also`: ids that say the same of this job. `says`: one sentence
    with its number. `remedy`: what to change, one or two sentences. `treatment`: the name of the change that the doctor
    can make and prove itself (fedlens.diagnosis.repair), or "". `clients`: the faulty ones, where only some are.
    `where`: file:line of the author's code, or "". `weight`: how much of the failure it explains, in points of accuracy
    or relative size, for ordering among equals; `silent`: accuracy is not expected to rise when it is mended.
    `hides`: causes that are only consequences of this one, and are left out beside it.
    """

    cause: str
    certainty: Certainty
    says: str
    evidence: tuple[Measured, ...]
    remedy: str
    source: str = ""
    also: tuple[str, ...] = ()
    treatment: str = ""
    clients: tuple[int, ...] = ()
    where: str = ""
    weight: float = 0.0
    silent: bool = False
    hides: frozenset[str] = frozenset()


Sign = Callable[["Evidence"], "Finding | None"]
