"""A1: the coefficients of the aggregate are no mean."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import Total, fault, made_up
from fedlens.diagnosis.signs.reading import HONEST, half, lost, number, percent, place, row, severity, underperforms

RESULTS = HONEST | {"A3", "A9", "A12", "S2", "S5", "N1", "N3", "E10", "X1"}


def weights_are_no_mean(e: Evidence) -> Finding | None:
    """A1: one upload alone becomes the model, some count for nothing, or the coefficients do not add up to one.

    Measured by M03, the coefficients of the updates in the model's change: exact with made-up uploads, and by least
    squares in rounds that break M02. Healthy: the declared shares, to four digits, in every run.
    """
    found = fault(e)
    if found is None:
        return _another_rule(e)
    if found.cause != "A1" or (_cut(e) and not found.seen.alone):
        return None
    return Finding(
        "A1",
        Certainty.FOUND,
        _words(found.seen),
        (
            Measured("effective weights of the uploads", "M03", row(found.seen.weights), row(_wanted(e, found.seen))),
            Measured("their sum", "M03", number(found.seen.total), number(e.facts.declared.server_lr)),
        ),
        "Start the sum from zeros, add every upload times its share n_i / sum n, and divide by nothing else.",
        source="catalogue; McMahan et al. 2017, algorithm 1",
        also=("A2",) if _cut(e) else ("A3",) if _another_weighting(e, found.seen) else (),
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=severity(e, 0.3),
        hides=RESULTS | ({"A2"} if _cut(e) else frozenset()),
    )


def _another_rule(e: Evidence) -> Finding | None:
    """The server takes no mean at all, which nobody declared: no fault by itself."""
    a = made_up(e)
    odd = a is not None and (a.rule != "mean" or a.residual > 0.05)
    if (
        a is None
        or not odd
        or a.noise
        or a.landed
        or a.grid
        or a.rule == "norm-clip"
        or half(e)
        or e.facts.declared.codec
    ):
        return None
    told = {"other": "no combination of the uploads", "mean": "no combination of the uploads"}.get(a.rule, a.rule)
    return Finding(
        "A1",
        Certainty.CONSISTENT if underperforms(e) else Certainty.NOTED,
        f"The aggregate is {told}, declared is a mean: {percent(min(1.0, a.residual))} of it is unexplained.",
        (Measured("what no combination of uploads explains", "M02", number(a.residual), "0"),),
        "Declare the rule that is meant, or take the mean.",
        source="catalogue",
        also=("A6", "X1"),
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=lost(e),
    )


def _cut(e: Evidence) -> bool:
    return e.aggregation is not None and e.aggregation.truncated and e.aggregation.grid == 1.0


def _another_weighting(e: Evidence, seen: Total) -> bool:
    """Whether all uploads count and add up as they should, only by other shares than declared."""
    right = abs(seen.total - e.facts.declared.server_lr) < 0.02 * max(1.0, abs(e.facts.declared.server_lr))
    return right and min(seen.weights) > 1e-4


def _words(seen: Total) -> str:
    m, total = len(seen.weights), seen.total
    if seen.alone:
        return f"The new model is upload number {seen.first + 1} of {m} alone: the other {m - 1} count for nothing."
    unheard = sum(abs(weight) < 1e-4 * max(map(abs, seen.weights)) for weight in seen.weights)
    if unheard:
        return f"{unheard} of {m} uploads count for nothing in the aggregate."
    if abs(total - 1) > 0.02:
        return f"The weights of the {m} uploads add up to {number(total)} instead of 1."
    return f"The uploads are weighted {row(seen.weights)}: neither by their examples nor equally."


def _wanted(e: Evidence, seen: Total) -> tuple[float, ...]:
    rate, whole = e.facts.declared.server_lr, sum(seen.examples)
    if e.facts.declared.weighting == "uniform" or whole <= 0:
        return (rate / len(seen.weights),) * len(seen.weights)
    return tuple(rate * n / whole for n in seen.examples)
