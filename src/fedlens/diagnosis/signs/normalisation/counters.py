"""N5: buffers change their type or shape."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import listed, lost, place, visits


def buffers_are_cast(e: Evidence) -> Finding | None:
    """N5: statistics become whole numbers, or counters floats, or a buffer loses its shape, in the mean or on the way.

    Measured by M05. Healthy: every entry keeps type and shape. A counter that became a float harms little, so that is
    noted; a statistic cut to whole numbers is found.
    """
    types = dict(e.aggregation.dtypes) if e.aggregation is not None else {}
    kinds = {name: entry.kind for name, entry in e.facts.entries.items()}
    cut = [name for name, (_, after) in types.items() if kinds.get(name) == "statistic" and "float" not in after]
    shapes = sorted({n for v in visits(e) for n in v.reshaped if kinds.get(n) in ("statistic", "counter")})
    floats = [name for name, (_, after) in types.items() if kinds.get(name) == "counter" and "float" in after]
    wrong = cut or shapes
    if not wrong and not floats:
        return None
    what = "become whole numbers" if cut else "come back in another shape" if shapes else "become floats"
    return Finding(
        "N5",
        Certainty.FOUND if wrong else Certainty.NOTED,
        f"{len(wrong or floats)} buffers {what}: {listed(wrong or floats)}.",
        (Measured("buffers of another type or shape", "M05", listed(wrong or floats), "none"),),
        "Average floats as floats; copy whole numbers from one client, and keep shapes of scalars.",
        source="catalogue",
        treatment="mean-buffers" if cut else "",
        where=place(e, "fit" if shapes and not cut else "aggregate"),
        weight=max(0.05, lost(e)) if wrong else 0.0,
        silent=not wrong,
    )
