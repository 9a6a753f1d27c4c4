"""A3: some clients train on their examples, and report none of them or few."""

from __future__ import annotations

from statistics import median

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import FEW, by_client, first_or_late
from fedlens.diagnosis.signs.reading import listed, number, percent, place, severity, visits

NOTHING = 1e-4  # of a share of the mean, up to which an upload does not count in it
PART = 1 / 3  # of what the others report of theirs


def clients_count_for_too_little(e: Evidence) -> Finding | None:
    """A3: weights by examples, of which some clients report 0, or far too few, although they train on them.

    Measured by counts reported beside steps taken and examples held, and by M03, the coefficient of these uploads.
    Healthy: who trains reports examples, or counts are used for nothing. A client that sends nothing new is S5, and one
    that trains on a part may report that part; where `min_clients` is declared some may be left out on purpose, and it
    is only noted.
    """
    return first_or_late(e, lambda one: _unheard(one) or _under_reported(one))


def _unheard(e: Evidence) -> Finding | None:
    told = by_client(e, lambda visit: _silent(e, visit))
    clients = tuple(sorted(client for client, found in told.items() if all(found)))
    others = [visit.examples for visit in visits(e) if visit.client not in clients]
    counted = _coefficients(e, clients)
    if not clients or not any(count > 0 for count in others) or any(weight > NOTHING for weight in counted):
        return None
    if e.facts.declared.weighting == "uniform" or (e.facts.declared.weighting is None and not counted):
        return None  # nobody knows whether counts matter
    line = Measured("examples reported with an upload that training moved", "M30", "0", f"up to {number(max(others))}")
    return _finding(
        e, clients, f"Clients {listed(clients)} train and report 0 examples: their uploads never count.", line
    )


def _under_reported(e: Evidence) -> Finding | None:
    told = by_client(e, lambda visit: _share(e, visit))
    if e.facts.declared.weighting != "examples" or len(told) < 3:
        return None
    usual = median(median(found) for found in told.values())
    clients = tuple(sorted(client for client, found in told.items() if 0 < max(found) < PART * usual))
    if not clients or len(clients) > FEW * len(told):
        return None
    least = min(min(told[client]) for client in clients)
    seen = f"down to {percent(least)}"
    line = Measured("examples reported of those trained on", "M30", seen, f"{percent(usual)} at the others")
    return _finding(
        e, clients, f"Clients {listed(clients)} report far fewer examples than they train on: {seen}.", line
    )


def _finding(e: Evidence, clients: tuple[int, ...], says: str, line: Measured) -> Finding:
    return Finding(
        "A3",
        Certainty.FOUND if e.facts.declared.min_clients is None else Certainty.NOTED,
        says,
        (line,),
        "Report the number of training examples with every upload.",
        source="McMahan et al. 2017, algorithm 1",
        also=("A9", "A1", "S5"),
        treatment="reference-client",
        clients=clients,
        where=place(e, "fit"),
        weight=severity(e, 0.1),
        hides=frozenset({"P1", "S3", "S4", "O9"}),
    )


def _silent(e: Evidence, visit: Visit) -> bool | None:
    """Whether a visit that trained says it had no examples; None: it did not train, or nobody knows."""
    held = None if e.data is None else e.data.sizes.get(visit.client)
    trained = bool(visit.watched.steps) if held is None else held > 0
    return visit.examples == 0 if trained and visit.norm > 0 else None


def _share(e: Evidence, visit: Visit) -> float | None:
    """What a visit that saw all that its client holds reports of it; None: it did not, or nobody knows."""
    held = None if e.data is None else e.data.sizes.get(visit.client)
    return visit.examples / held if held and (visit.watched.samples or 0) >= held else None


def _coefficients(e: Evidence, clients: tuple[int, ...]) -> list[float]:
    """By how much the uploads of `clients` count in the rounds that tell, in shares of an equal mean."""
    rounds = [one for one in e.rounds if one.weights and len(one.weights) == len(one.visits)]
    return [
        abs(weight) * len(one.weights)
        for one in rounds
        for weight, visit in zip(one.weights, one.visits, strict=True)
        if visit.client in clients
    ]
