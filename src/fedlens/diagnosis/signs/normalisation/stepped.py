"""N3: statistics pass through more than a mean."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import averages, fault
from fedlens.diagnosis.signs.reading import listed, noisy, place, rounds_watched, severity, statistics


def statistics_are_stepped(e: Evidence) -> Finding | None:
    """N3: a server optimiser, momentum or correction meant for parameters changes running statistics.

    Measured by M05: a variance below 0, or statistics that are no mean of the clients' while the parameters are what is
    declared. Healthy: variances stay above 0, statistics are the mean. Under declared noise it is V5.
    """
    negative = sorted({name for one in e.rounds for name in one.negative})
    a, names, said = e.aggregation, statistics(e), e.facts.declared
    watched = rounds_watched(e)
    other = [name for name in names if watched and all(one.fates.get(name) == "other" for one in watched)]
    if a is not None and averages(e) and not said.server_momentum:  # another step shows in rounds alone
        other = [name for name in other or names if a.fates.get(name) == "other"]
    if said.reduce != "mean" or said.codec is not None or fault(e) is not None or (a is not None and a.landed):
        other = []
    if (not negative and not other) or noisy(e):
        return None
    broken = [
        line
        for line in (
            Measured("variances below 0", "M05", listed(negative), "none") if negative else None,
            Measured("statistics that are no mean", "M05", f"{len(other)} of {len(names)}", "none") if other else None,
        )
        if line is not None
    ]
    first = listed(negative or other, 2)
    return Finding(
        "N3",
        Certainty.FOUND,
        f"Running variances fell below 0 ({first})."
        if negative
        else f"{len(other)} of {len(names)} running statistics are no mean of the clients' ({first}).",
        tuple(broken),
        "Average buffers, and give only parameters to the server's optimiser, momentum or correction.",
        source="Reddi et al. 2021",
        treatment="mean-buffers",
        where=place(e, "aggregate"),
        weight=severity(e, 0.3 if negative else 0.15),
        hides=frozenset({"N2", "A10", "O2", "P1", "C1"}),
    )
