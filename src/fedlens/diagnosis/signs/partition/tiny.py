"""P4: clients without, or with single, examples."""

from __future__ import annotations

import re

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.symptom import misses


def clients_are_empty(e: Evidence) -> Finding | None:
    """P4: a client without examples has nothing to say, and one with a single example breaks batch norm.

    Measured by the sizes; a fault only where such visits, and no others of their round, came back without numbers.
    """
    if e.data is None:
        return None
    few = {*e.data.empty, *e.data.single}
    if not few:
        return None
    broken = [({v.client for v in one.visits if not v.finite}, len(one.visits)) for one in e.rounds]
    failed = any(bad and bad <= few and len(bad) < count for bad, count in broken)
    stopped = _stopped(e, few)
    empty, single = len(e.data.empty), len(e.data.single)
    return Finding(
        "P4",
        Certainty.FOUND if failed else Certainty.CONSISTENT if stopped else Certainty.NOTED,
        f"{empty} clients hold no example and {single} a single one{stopped}.",
        (Measured("clients with fewer than two examples", "M30", str(len(few)), "0"),),
        "Set a least size, merge small clients, or leave them out of the sample.",
        clients=tuple(sorted(few)),
        weight=max(misses(e), 0.1) if failed else 1.0 if stopped else 0.1,
    )


def _stopped(e: Evidence, few: set[int]) -> str:
    """In words, that the job's rounds ended with a failure at one of `few`; "" where they did not."""
    told = [one.why for one in e.unexamined if one.what.startswith("rounds after")]
    named = [int(found[1]) for why in told if (found := re.match(r"fit, round \d+, client (\d+)", why))]
    return next((f", and the job fails at client {client}" for client in named if client in few), "")
