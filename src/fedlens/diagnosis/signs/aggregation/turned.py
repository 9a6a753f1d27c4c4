"""A9: clients that are as the others at first, and decide the aggregate from a later round on."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.aggregation.dominant import LARGE, sizes
from fedlens.diagnosis.signs.few import FEW, late, withstood
from fedlens.diagnosis.signs.reading import HONEST, listed, number, place

USUAL = 3.0  # times the others' update that healthy clients send at most, where steps do not explain it (M07)


def clients_turn_late(e: Evidence) -> Finding | None:
    """A9: a client's update grows to many times the others' in late rounds alone.

    Measured by M07 at visits as in the last rounds, beside the same clients' visits in the first ones. Healthy: ratios
    of 1.1 to 3 at all times; a rate that changes changes all clients alike.
    """
    then = late(e)
    if then is None or withstood(e):
        return None
    before, now = sizes(e), sizes(then)
    large = {client: x for client, x in now.items() if x > LARGE and before.get(client, 0.0) < USUAL}
    clients = tuple(sorted(large))
    if not clients or len(clients) > FEW * len(e.beside):
        return None
    told = f"up to {number(max(large.values()))} in late rounds"
    return Finding(
        "A9",
        Certainty.CONSISTENT,
        f"Clients {listed(clients)} train as the others do at first, and send far larger updates in late rounds.",
        (Measured("size of the update by the median client's", "M07", told, f"up to {number(USUAL)}, as before"),),
        "Bound updates by their norm or take a trimmed mean, and look at what these clients do from which round on.",
        source="Blanchard et al. 2017",
        treatment="drop-clients",
        clients=clients,
        where=place(e, "fit"),
        weight=0.3,
        hides=HONEST,
    )
