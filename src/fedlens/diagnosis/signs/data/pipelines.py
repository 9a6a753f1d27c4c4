"""D1: clients prepare their inputs differently."""

from __future__ import annotations

from itertools import pairwise

from fedlens.diagnosis.evidence import DataAudit, Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.symptom import ails, misses

MOST_ALIKE = 0.9  # from this share of clients on it is the test set that differs
FEW = 2  # ways in which clients stand apart: more, and as many as a third of them, are no transforms
ALIKE = 1.4  # largest deviation by smallest of clients that one transform moved; natural ones differ by 1.7
ALONE = 1.5  # standard deviations that a single client must stand apart: faults give 0.7 to 2.8, nature up to 1
RATIO = 1.5  # of factors of scale that are one
EXTREME = 8.0  # a factor of scale that no natural difference of clients has
GAP = 2.0  # times the difference of all others, above which another preparation lies; nature leaves no gap
ROW = 3  # steps among those that stand apart, about as wide as the one that leads to them: a row goes on through it


def pipelines_differ(e: Evidence) -> Finding | None:
    """D1: some clients' inputs stand apart from the test set's, class by class, by more than chance and labels explain.

    Measured by M17 against the evaluation pipeline, not against the median client: with half of the clients inverted
    there is no median to trust. One transform moves all of its clients alike; where each stands apart in its own way,
    or by its own degree, clients differ by nature, which is no fault of itself.
    """
    if e.data is None:
        return None
    strange = stand_apart(e.data)
    if not strange or e.data.mismatch or (len(strange) >= MOST_ALIKE * len(e.data.looked_at) and ways(e.data) == 1):
        return None
    own = each_its_own(e.data) or _by_degrees(e.data)
    sure = not own and _alike(e.data)
    return Finding(
        "D1",
        Certainty.FOUND if sure else Certainty.CONSISTENT if ails(e) and not own else Certainty.NOTED,
        f"Inputs of {len(strange)} of {len(e.data.looked_at)} clients "
        + ("each differ in their own way" if own else "are prepared differently")
        + " from the test set's.",
        _lines(e.data),
        "Give all clients one transform with the same constants; compare clients' statistics before training.",
        also=("D3",) if e.data.scaled else (),
        treatment="rescale",
        clients=strange,
        weight=max(misses(e), len(strange) / len(e.data.looked_at)),
        hides=frozenset({"P1", "A9", "O2", "C1", "D3", "L2"}),
    )


def stand_apart(x: DataAudit) -> tuple[int, ...]:
    """The clients whose inputs are not as the test set's, in mean, structure or scale."""
    return tuple(sorted({*x.apart, *x.scaled}))


def ways(x: DataAudit) -> int:
    """In how many groups those fall."""
    return max(1, x.clusters - (len(stand_apart(x)) < len(x.looked_at)))


def each_its_own(x: DataAudit) -> bool:
    """Whether they fall in more groups than a job has transforms."""
    return ways(x) > max(FEW, len(stand_apart(x)) // 3)


def _by_degrees(x: DataAudit) -> bool:
    """Whether those stand apart that come last in a row of clients without a gap, or are such a row themselves."""
    if not x.apart or x.scaled:
        return False
    row = sorted(x.apart.values())
    first, steps = row[0] - x.nearest, [after - before for before, after in pairwise(row)]
    return row[0] < GAP * x.nearest or sum(step >= first / 2 for step in steps) >= ROW


def _alike(x: DataAudit) -> bool:
    factors, gaps = sorted(x.scaled.values()), sorted(x.apart.values())
    if factors and (factors[-1] >= EXTREME or factors[0] <= 1 / EXTREME):
        return True
    if ways(x) > FEW or (factors and factors[-1] > RATIO * factors[0]):
        return False
    if len(gaps) < 2:
        return len(factors) > 1 or (bool(gaps) and gaps[0] >= ALONE)
    return gaps[-1] <= ALIKE * gaps[0] or len(factors) == len(stand_apart(x))


def _lines(x: DataAudit) -> tuple[Measured, ...]:
    lines = []
    if x.scaled:
        factor = max(x.scaled.values(), key=lambda one: max(one, 1 / one) if one > 0 else 0.0)
        lines.append(Measured("scale of inputs by that of the test set", "M17", f"{factor:.3g}", "1"))
    if x.apart:
        most = max(x.apart.values())
        lines.append(
            Measured("class means, from the test set's", "M17", f"{most:.2g} standard deviations", "below 0.5")
        )
    return tuple(lines)
