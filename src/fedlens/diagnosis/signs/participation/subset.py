"""S1: the same clients every round."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import effect, gained, lines, lost, percent, place, points, underperforms

UNLIKELY = 1e-6


def clients_are_the_same(e: Evidence) -> Finding | None:
    """S1: a generator seeded anew every round, or the head of a list, asks one subset for ever.

    Measured by M23, on the plan alone: one cohort in every round, which by chance has a probability below 1e-6. A plan
    that prefers some clients may be meant (by size, by availability) and is told only with a trial of full
    participation. Healthy: nearly as many clients as uniform sampling reaches.
    """
    p, f = e.participation, e.facts
    if p is None or p.sizes[1] >= f.clients or p.distinct >= f.clients:
        return None
    m, rounds = max(1, p.sizes[1]), f.rounds
    ways = math.lgamma(f.clients + 1) - math.lgamma(m + 1) - math.lgamma(f.clients - m + 1)
    same = p.distinct <= m and p.repeated == 1 and -ways * (rounds - 1) < math.log(UNLIKELY)
    few = p.distinct < p.expected - 1 and p.p < UNLIKELY
    if not same and not few:
        return None
    everybody = effect(e, "full-participation")
    certainty = Certainty.FOUND if same else Certainty.CONSISTENT if underperforms(e) else Certainty.NOTED
    if not same and certainty is Certainty.CONSISTENT and everybody is not None and everybody.clear:
        certainty = Certainty.SUPPORTED
    lead = "The same" if same else "Only"
    gain = everybody.gain if everybody is not None and everybody.clear else 0.0
    asked = f"{p.distinct} of {f.clients}"
    return Finding(
        "S1",
        certainty,
        f"{lead} {p.distinct} of {f.clients} clients are asked in {rounds} rounds"
        + (f"; with all of them the reference gains {points(gain)}." if gain else "."),
        lines(
            Measured("clients that are ever asked", "M23", asked, f"about {p.expected:.0f}"),
            Measured("rounds with the cohort of the round before", "M23", percent(p.repeated), "about 0 %"),
            gained(e, "full-participation", "everybody in every round"),
        ),
        "Draw every round from all clients, from a generator that is seeded once.",
        source="catalogue",
        also=("S3",),
        treatment="sample-all",
        where=place(e, "sample"),
        weight=max(0.1 if same else 0.0, gain, lost(e)),
        hides=frozenset({"S3", "S4", "P1", "C1", "E10", "K1"}),
    )
