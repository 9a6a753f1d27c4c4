"""A5: what was added up before is added again."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import averages, held_back, leaks, made_up
from fedlens.diagnosis.signs.reading import HONEST, middle, number, place, rounds_watched, row, severity

ROUNDS = 4  # from which on sums that fall as 1 / round are no chance
LEAST = 0.05  # coefficient of an earlier round's update


def sum_is_carried_over(e: Evidence) -> Finding | None:
    """A5: the accumulator is not emptied, so earlier rounds' updates are in the aggregate again.

    Measured by M03, the coefficient of the round before in rounds that break M02, by sums of weights that fall as one
    over the round, or by the second of two equal calls (M33). Healthy: 0; a declared server momentum has its own.
    """
    if not averages(e) or e.facts.declared.server_momentum or e.facts.declared.codec is not None:
        return None
    a, broken = made_up(e), {one.number for one in leaks(e)}
    past = [one.past for one in rounds_watched(e)[1:] if one.number in broken and one.past is not None]
    carried, again = middle(past), 0.0 if a is None or a.noise else a.again
    first_is_fine = bool(e.rounds) and e.rounds[0].number not in broken
    error = max((one.past_error for one in rounds_watched(e)), default=0.0)
    seen = first_is_fine and carried is not None and abs(carried) > LEAST + 4 * error
    twice = again > 1e-3 and a is not None and abs(a.total) > 1e-6 and not held_back(e)
    fading = () if seen or twice else _fading(e)
    if not seen and not twice and not fading:
        return None
    how, lines = "", []
    if seen:
        told = number(carried or 0.0)
        how = f": the round before comes again with a coefficient of {told}"
        lines.append(Measured("share of the round before in the aggregate", "M03", told, "0"))
    if again:
        lines.append(Measured("second of two equal calls, relative difference", "M33", number(again), "0"))
    if fading:
        how = f": the models of {len(fading)} rounds are averaged, so that the last update counts for 1 / {len(fading)}"
        lines.append(Measured("sum of the effective weights, by round", "M03", row(fading), number(_rate(e))))
    return Finding(
        "A5",
        Certainty.FOUND,
        f"The aggregate still holds what earlier rounds added to it{how}.",
        tuple(lines),
        "Start every round's sum, and its divisor, from zero; declare server_momentum if that is what it is.",
        source="catalogue",
        also=("A6",) if fading else (),
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=severity(e, 0.25),
        hides=HONEST | {"A1", "A6", "A9", "A10", "A12", "V1"},
    )


def _fading(e: Evidence) -> tuple[float, ...]:
    """The sums of the weights by round where they fall as 1, 1/2, 1/3, ...: sum and divisor both go on; else ()."""
    watched = rounds_watched(e)
    sums = [one.total for one in watched if one.total is not None and one.total_error < 0.02]
    off = [abs(total * one.number / _rate(e) - 1) for total, one in zip(sums, watched, strict=False)]
    whole = len(sums) == len(watched) == len(e.rounds) >= ROUNDS
    return tuple(sums) if whole and _rate(e) and max(off) < 0.02 else ()


def _rate(e: Evidence) -> float:
    return e.facts.declared.server_lr
