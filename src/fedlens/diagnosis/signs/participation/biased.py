"""S3: some classes, or clients, are never asked."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import effect, gained, lines, listed, lost, place, points, underperforms

UNLIKELY = 1e-6


def participation_is_biased(e: Evidence) -> Finding | None:
    """S3: the plan prefers some clients, and classes of the others are never trained.

    Measured by M23 against the classes that clients hold. Healthy: every class has a client that is asked, and asking
    is uniform; preference without a lost class is only told where the job falls short.
    """
    p = e.participation
    if p is None or not (p.never or p.outside or p.p < UNLIKELY):
        return None
    everybody = effect(e, "full-participation")
    clear = everybody is not None and everybody.clear
    if p.never or p.outside:
        certainty = Certainty.FOUND
    elif underperforms(e):
        certainty = Certainty.SUPPORTED if clear else Certainty.CONSISTENT
    else:
        certainty = Certainty.NOTED
    if p.never:
        says = f"No client that is ever asked holds class {listed(p.never)}."
    elif p.outside:
        says = f"The plan asks clients that do not exist: {listed(p.outside)}."
    else:
        gain = f"; with everybody the reference gains {points(everybody.gain)}" if everybody and clear else ""
        says = f"Clients are not asked equally (chi-square p = {p.p:.0e}){gain}."
    return Finding(
        "S3",
        certainty,
        says,
        lines(
            Measured("chi-square of who is asked, against uniform", "M23", f"p = {p.p:.0e}", "p > 1e-4"),
            Measured("classes that no asked client holds", "M23", listed(p.never) or "none", "none"),
            gained(e, "full-participation", "everybody in every round"),
        ),
        "Draw clients uniformly, or so that every class is met; weight rarely available clients up.",
        source="catalogue",
        treatment="sample-all",
        where=place(e, "sample"),
        weight=max(0.1 if p.never else 0.0, lost(e)),
        hides=frozenset({"S4", "P1", "C1"}) if p.never else frozenset(),
    )
