"""Labels that a loss refused: a reading of what PyTorch said when training broke off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from fedlens.diagnosis.evidence import Evidence

# cross_entropy and nll_loss name the first label for which their rows have no column.
TOLD = re.compile(r"fit, round \d+, client (\d+)\b.*?\bTarget (-?\d+) is out of bounds\.?(?: \(([^()]+:\d+)\))?")


class Refused(NamedTuple):
    """The client in whose training the loss was given `label`, for which it had no output; `where`: file:line."""

    client: int
    label: int
    where: str


def refused(e: Evidence) -> tuple[Refused, ...]:
    """Every such visit, once."""
    return tuple(dict.fromkeys(_read(e)))


def _read(e: Evidence) -> Iterator[Refused]:
    for one in e.unexamined:
        if found := TOLD.search(one.why):
            yield Refused(int(found[1]), int(found[2]), found[3] or "")
