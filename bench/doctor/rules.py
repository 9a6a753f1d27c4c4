"""A rival that costs nothing: what five rules say of the printed accuracies alone."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from statistics import fmean, stdev

NUMBER = re.compile(r"(nan|[-+]?\d*\.\d+)\s*$", re.IGNORECASE)
UNSTEADY = 0.02  # standard deviation of an accuracy around its trend, over the last ten rounds


def values(log: str) -> list[float]:
    """The last number of each line."""
    found = (NUMBER.search(line) for line in log.splitlines())
    return [float(match.group(1)) for match in found if match]


def from_log(log: str, classes: int, size: int) -> list[str]:
    """At most three causes, for accuracies that are said to be over `size` test examples (0: nothing is said).

    In order: frozen, collapsed, never learned, of another number of examples, unsteady. Else nothing.
    """
    shown = values(log)
    if len(shown) < 5:
        return []
    late, chance = shown[-5:], 1 / classes
    if len(set(shown)) == 1:
        return ["B2", "E5", "O1"]
    if any(math.isnan(value) for value in shown) or (max(shown) > 2 * chance and fmean(late) < 1.3 * chance):
        return ["O2", "A1", "V1"]
    if fmean(late) < 1.5 * chance:
        return ["O1", "D5", "A6"]
    if size and any(abs(value * size - round(value * size)) > 1e-4 * size for value in shown):
        return ["E1", "E2", "P3"]
    last = shown[-11:]
    if stdev(after - before for before, after in pairwise(last)) / math.sqrt(2) > UNSTEADY:
        return ["P1", "C1", "S4"]
    return []
