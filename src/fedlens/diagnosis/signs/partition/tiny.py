"""P4: clients without, or with single, examples."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured


def clients_are_empty(e: Evidence) -> Finding | None:
    """P4: a client without examples has nothing to say, and one with a single example breaks batch norm.

    Measured by the sizes; a fault only where such a visit failed or came back without numbers.
    """
    if e.data is None:
        return None
    few = {*e.data.empty, *e.data.single}
    if not few:
        return None
    failed = any(not visit.finite and visit.client in few for one in e.rounds for visit in one.visits)
    empty, single = len(e.data.empty), len(e.data.single)
    return Finding(
        "P4",
        Certainty.FOUND if failed else Certainty.NOTED,
        f"{empty} clients hold no example and {single} a single one.",
        (Measured("clients with fewer than two examples", "M30", str(len(few)), "0"),),
        "Set a least size, merge small clients, or leave them out of the sample.",
        clients=tuple(sorted(few)),
        weight=0.1,
    )
