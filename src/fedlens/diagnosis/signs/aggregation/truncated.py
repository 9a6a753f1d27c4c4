"""A2: the sum is cut to whole numbers."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import fault
from fedlens.diagnosis.signs.reading import HONEST, is_parameter, listed, number, place, severity


def sum_is_truncated(e: Evidence) -> Finding | None:
    """A2: weights are cut to whole numbers on the way into the sum, so that small ones vanish.

    Measured with made-up uploads (M03, M05): the result lies on a grid of step 1, or parameters come back as whole
    numbers. Healthy: values between whole numbers stay there. A declared codec may round.
    """
    a = e.aggregation
    if a is None or e.facts.declared.codec is not None:
        return None
    cast = [name for name, (_, after) in a.dtypes.items() if is_parameter(e, name) and "float" not in after]
    if not cast and not (a.truncated and a.grid == 1.0):
        return None
    found = fault(e)
    if found is not None and found.cause == "A1" and found.seen.alone:
        return None  # the first upload is taken whole: that sign says both
    step = Measured("step between the aggregate's values", "M03", number(a.grid or 1.0), "none")
    types = Measured("parameters that became whole numbers", "M05", listed(cast), "none")
    return Finding(
        "A2",
        Certainty.FOUND,
        "The aggregate is cut to whole numbers: what is smaller than one is lost from the sum.",
        (step, types) if cast else (step,),
        "Add up in floats; cast only counters, after the mean.",
        source="catalogue",
        also=("A1",),
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=severity(e, 0.35),
        hides=HONEST | {"A1", "A3", "A6", "A9", "N5", "N3", "X2", "B2", "S5"},
    )
