"""B1: clients do not load the model that is sent."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.aggregation.inits import APART
from fedlens.diagnosis.signs.plumbing.alias import trained_one_object
from fedlens.diagnosis.signs.plumbing.restored import returns_another, trained_in_vain
from fedlens.diagnosis.signs.reading import (
    HONEST,
    listed,
    middle,
    number,
    percent,
    place,
    severity,
    shared_names,
    visits,
)

DEAF = 1e-3  # healthy answers move with what is sent, less where training contracts
NEARLY = 0.75  # of a change that comes back: models that are mixed half and half give back a half
NUMBERS = 32  # of an entry; what comes back of fewer is not told
SMALL = 0.5  # of the model: what entries too small to be told by name can be, norm layers for instance
SAME = 1e-5  # of a displacement: what rounding leaves of it in updates that do not depend on it
UNSURE = 0.05  # standard error from which an answer says nothing


def clients_do_not_load(e: Evidence) -> Finding | None:
    """B1: a client goes on from its own model, so that nothing is shared and every round starts over.

    Measured by M01: the distance of the first step's weights from those sent, and, as a black box, how much the answer
    moves when what is sent moves. Healthy: 0, and about 1. Declared local entries may differ. Where only some entries
    are deaf, a load that is not strict left them out: A4.
    """
    deaf, far = deaf_clients(e), far_clients(e)
    clients = tuple(sorted(set(deaf) | set(far)))
    if not clients or trained_one_object(e) or returns_another(e):
        return None
    again = Counter(v.client for v in visits(e) if v.watched.start is not None)
    seen = {c for c, times in again.items() if times > 1} if far else set(e.handling.heeds if e.handling else ())
    everyone = set(clients) >= seen
    starts = [v.watched.start for v in visits(e) if v.client in far and v.watched.start is not None]
    heard = [e.handling.heeds[client] for client in deaf] if e.handling is not None else []
    lines = []
    if starts:
        lines.append(Measured("distance of the start from what was sent", "M01", percent(max(starts)), "0"))
    if heard:
        lines.append(Measured("part of a change of the sent model that returns", "M01", number(max(heard)), "about 1"))
    who = "Clients" if everyone else f"Clients {listed(clients)}"
    part = not deaf and loads_a_part(e, far) and (bool(left_out(e)) or max(starts, default=0.0) < SMALL)
    if part:
        heeded = [number(e.handling.heeds[c]) for c in far if e.handling is not None and c in e.handling.heeds]
        lines.append(Measured("part of a change of the sent model that returns", "M01", listed(heeded), "about 1"))
        names = listed(left_out(e)) or "others"
        says = (
            f"{who} load some entries of what is sent, and {names} stay as they were: {lines[0].name} {lines[0].yours}."
        )
    else:
        says = f"{who} do not start from the model that is sent: {lines[0].name} {lines[0].yours}."
    return Finding(
        "A4" if part else "B1",
        Certainty.FOUND,
        says,
        tuple(lines),
        "Load the received state into the client's model at the start of every visit.",
        source="McMahan et al. 2017, algorithm 1",
        also=("B1",) if part else (),
        treatment="load-global",
        clients=() if everyone else clients,
        where=place(e, "fit"),
        weight=severity(e, 0.3),
        hides=HONEST | {"A9", "A11", "B7", "E5", "D5"},
    )


def loads_a_part(e: Evidence, far: Sequence[int]) -> bool:
    """Whether nearly all of what is sent comes back from clients that start elsewhere, or all of some entries alone.

    To an update, what is sent is added at the server: an update that is the same to the last digit, whatever is sent,
    says that nothing of it was loaded.
    """
    h = e.handling
    heard = [h.heeds[client] for client in far if h is not None and client in h.heeds]
    aside = [h.heeds_error.get(client, 0.0) for client in far if h is not None]
    if e.facts.payload == "update" and max([*(abs(one - 1) for one in heard), *aside], default=0.0) < SAME:
        return bool(left_out(e))
    return bool(left_out(e)) or (bool(heard) and min(heard) > NEARLY)


def left_out(e: Evidence) -> tuple[str, ...]:
    """Entries of which nothing that is sent comes back, where something of others does."""
    deaf = set(e.handling.unheeded) if e.handling is not None else set()
    told = [x for x in shared_names(e, "parameter") if math.prod(e.facts.entries[x].shape) >= NUMBERS]
    return tuple(x for x in told if x in deaf) if deaf < set(told) else ()


def deaf_clients(e: Evidence) -> tuple[int, ...]:
    """Clients in whose answer nothing of what is sent comes back, though they train and do not start from it."""
    h = e.handling
    if h is None:
        return ()
    idle = {v.client for v in visits(e) if v.watched.steps == 0}
    starts = [v.watched.start for v in visits(e) if v.watched.start is not None]
    if starts and max(starts) <= APART:
        return ()  # they load it: what comes back is a matter of training, or of what is returned
    return tuple(
        client
        for client, heard in h.heeds.items()
        if heard < DEAF + 3 * (error := h.heeds_error.get(client, 0.0)) and error < UNSURE and client not in idle
    )


def far_clients(e: Evidence) -> tuple[int, ...]:
    """Clients that start elsewhere at a later visit; or at their only one, while nothing says that they load later."""
    if e.facts.declared.local_entries or e.facts.declared.stateful:
        return ()
    starts: dict[int, list[float]] = defaultdict(list)
    for visit in visits(e):
        if visit.watched.start is not None and not trained_in_vain(visit):  # what is trained there is not what is sent
            starts[visit.client].append(visit.watched.start)
    heeds = e.handling.heeds if e.handling is not None else {}
    later = [start for found in starts.values() for start in found[1:]]
    loads = (bool(later) and max(later) <= APART) or (middle(heeds.values()) or 0.0) > 0.5
    return tuple(
        client
        for client, found in starts.items()
        if any(start > APART for start in found[1:]) or (found[0] > APART and not loads)
    )
