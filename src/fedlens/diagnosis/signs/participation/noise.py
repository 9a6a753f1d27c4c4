"""S4: the cohort is too small for the noise of sampling."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import early_only, effect, gained, lasting, lines, lost, points, underperforms


def cohort_is_too_small(e: Evidence) -> Finding | None:
    """S4: few of many clients a round, and what they agree on is drowned by whom chance picked.

    Measured by M20, everybody in every round against the declared cohort in paired trials. Healthy: no clear gain, or
    one that is gone by the end of the job's rounds. It costs more work a round, so a gain is a price, not a bug.
    """
    f, everybody = e.facts, effect(e, "full-participation")
    if everybody is None or not everybody.clear or 2 * f.cohort > f.clients:
        return None
    if not underperforms(e) or not lasting(e):
        return None
    return Finding(
        "S4",
        Certainty.CONSISTENT if early_only(e) else Certainty.SUPPORTED,
        f"{f.cohort} of {f.clients} clients a round are too few: with everybody the reference gains "
        f"{points(everybody.gain)}.",
        lines(
            gained(e, "full-participation", "everybody in every round"),
            Measured("clients a round", "M23", f"{f.cohort} of {f.clients}", "a larger share"),
        ),
        "Ask more clients a round, or give the server momentum.",
        source="McMahan et al. 2017, section 3",
        treatment="full-participation",
        weight=min(everybody.gain, max(lost(e, "full-participation"), 0.01)),
    )
