"""A10: an upload that is not a number becomes the model."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import HONEST, listed, middle, place, severity

BLOWN = 2.0  # times its own norm by which a model has moved that was lost before its uploads were no numbers


def not_a_number_is_accepted(e: Evidence) -> Finding | None:
    """A10: the aggregator takes NaN, or a round without examples, and the model is lost for ever.

    Measured with one made-up NaN upload, and in the first round whose model is not finite: were a few uploads NaN while
    the others were sound? Healthy: refused or left out. That it would be passed on is only noted.
    """
    first = next((one for one in e.rounds if not one.finite), None)
    bad = [v.client for v in first.visits if not v.finite] if first is not None else []
    sound = [v for v in first.visits if v.finite] if first is not None else []
    size = middle(v.size for v in sound)
    before = [] if first is None else [one.moved or 0.0 for one in e.rounds if one.number < first.number]
    blown = max(before, default=0.0) > BLOWN
    blamed = set(e.data.scaled) | set(e.data.apart) if e.data is not None else set()
    if (
        first is not None
        and bad
        and not blown
        and len(bad) < len(sound)
        and (size or 0.0) < 1
        and not set(bad) <= blamed
    ):
        asked = f"{len(bad)} of {len(first.visits)}"
        return Finding(
            "A10",
            Certainty.FOUND,
            f"In round {first.number} {asked} uploads were not finite; they were averaged, and the model is lost.",
            (Measured(f"uploads that are not finite (clients {listed(bad)})", "M07", asked, "none accepted"),),
            "Refuse uploads that are not finite, and see why these clients make them.",
            source="catalogue",
            treatment="drop-clients",
            clients=tuple(sorted(set(bad))),
            where=place(e, "aggregate"),
            weight=severity(e, 0.4),
            hides=HONEST | {"A9"},
        )
    a = e.aggregation
    if a is None or a.non_finite != "passed on":
        return None
    return Finding(
        "A10",
        Certainty.NOTED,
        "One upload with a NaN would make the whole model NaN: nothing refuses it.",
        (Measured("what a NaN upload does", "M33", "it is passed on", "it is refused or left out"),),
        "Refuse uploads that are not finite.",
        source="catalogue",
        where=place(e, "aggregate"),
    )
