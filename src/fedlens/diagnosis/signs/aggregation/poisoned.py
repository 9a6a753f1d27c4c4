"""A10: an upload that is not a number becomes the model."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from fedlens.diagnosis.evidence import Evidence, Round, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import HONEST, listed, place, severity

BLOWN = 2.0  # times its own norm by which a model has moved that was lost before its uploads were no numbers


def not_a_number_is_accepted(e: Evidence) -> Finding | None:
    """A10: the aggregator takes NaN, or a round without examples, and the model is lost for ever.

    Measured with one made-up NaN upload, and in the first round whose model is not finite: were a few uploads NaN while
    the others were sound? Or, where it is passed on, are those of clients that are asked only later? Healthy: refused
    or left out. That it would be passed on is only noted.
    """
    first = next((one for one in e.rounds if not one.finite), None)
    bad = {v.client for v in first.visits if not v.finite} if first is not None else set[int]()
    if first is not None and _of_a_few(e, first, bad):
        asked = f"{sum(not v.finite for v in first.visits)} of {len(first.visits)}"
        return _found(e, bad, asked, f"In round {first.number} {asked} uploads were not finite; they were averaged")
    a = e.aggregation
    if a is None or a.non_finite != "passed on":
        return None
    later = {v.client for v in e.beside if not v.finite}
    if first is None and later and 2 * len(later) <= len(e.beside) and not _blown(e.rounds, e.beside):
        asked = f"{len(later)} of {len(e.beside)}"
        return _found(e, later, asked, f"{asked} clients that are asked later send what is not finite; it is averaged")
    return Finding(
        "A10",
        Certainty.NOTED,
        "One upload with a NaN would make the whole model NaN: nothing refuses it.",
        (Measured("what a NaN upload does", "M33", "it is passed on", "it is refused or left out"),),
        "Refuse uploads that are not finite.",
        source="catalogue",
        where=place(e, "aggregate"),
    )


def _of_a_few(e: Evidence, first: Round, bad: set[int]) -> bool:
    """Whether the uploads of a few clients made the model no number, and not the other way round."""
    sound = [v for v in first.visits if v.finite]
    blown = _blown([one for one in e.rounds if one.number < first.number], first.visits)
    blamed = set(e.data.scaled) | set(e.data.apart) if e.data is not None else set()
    return bool(bad) and not blown and len(bad) < len(sound) and not bad <= blamed


def _blown(before: Sequence[Round], seen: Sequence[Visit]) -> bool:
    """Whether the model was lost before: it moved by far more than it is, or sound clients too change it by as much."""
    sizes = [v.size for v in seen if v.finite]
    return max((one.moved or 0.0 for one in before), default=0.0) > BLOWN or (bool(sizes) and median(sizes) >= 1)


def _found(e: Evidence, bad: set[int], asked: str, says: str) -> Finding:
    """`bad`: whose uploads are seen to be no numbers, `asked` of how many; inputs that are none explain them, at all
    clients that hold such."""
    inputs = {c for c, one in e.data.inputs.items() if not one.finite} if e.data is not None else set[int]()
    by_data = bad <= inputs
    clients = inputs if by_data else bad | {v.client for v in e.beside if not v.finite}
    return Finding(
        "A10",
        Certainty.FOUND,
        f"{says}, and the model is lost.",
        (Measured(f"uploads that are not finite (clients {listed(sorted(bad))})", "M07", asked, "none accepted"),),
        "Refuse uploads that are not finite, and see why these clients make them.",
        source="catalogue",
        treatment="drop-clients",
        also=("D1",) if by_data else (),
        clients=tuple(sorted(clients)),
        where=place(e, "fit"),
        weight=severity(e, 0.4),
        hides=HONEST | {"A9"},
    )
