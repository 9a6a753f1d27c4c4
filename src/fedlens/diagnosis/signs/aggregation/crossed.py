"""A7: tensors land under another name."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import HONEST, listed, place, severity


def entries_are_crossed(e: Evidence) -> Finding | None:
    """A7: lists of tensors are zipped in two orders, so that layers of one shape swap places.

    Measured by M06: every entry carries its own mark, and some arrive under another name. Healthy: none. Networks
    learn round a swap, so that the accuracy may hardly show it.
    """
    landed = dict(e.aggregation.landed) if e.aggregation is not None else {}
    crossed = {} if landed or e.handling is None else dict(e.handling.crossed)
    wrong = landed or crossed
    if not wrong:
        return None
    name, source = next(iter(wrong.items()))
    stage = "aggregate" if landed else "fit"
    return Finding(
        "A7",
        Certainty.FOUND,
        f"{len(wrong)} entries hold what was sent as another one: {name} gets {source}.",
        (Measured("entries that landed elsewhere", "M06", listed([f"{x} <- {y}" for x, y in wrong.items()]), "none"),),
        "Send and read tensors by name; where a list must be, take its order from one place on both sides.",
        source="catalogue",
        treatment="reference-aggregator" if landed else "reference-client",
        where=place(e, stage),
        weight=severity(e, 0.3),
        silent=True,
        hides=HONEST | {"A1", "A2", "A3", "A4", "A6", "A9", "A12", "B1", "N3", "X1", "X2", "V2"},
    )
