"""N7: a group norm that is an instance norm."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.evidence.facts import ONE_A_GROUP
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import place


def groups_of_one_channel(e: Evidence) -> Finding | None:
    """N7: group norm has as many groups as channels, and normalises each channel by itself, as instance norm does.

    Measured on the network alone (M06). Healthy: several channels a group. Not always a mistake, and noted only: a
    default of 32 groups becomes it in a layer of 32 channels.
    """
    norms = e.facts.norms or {}
    alone, every = norms.get(ONE_A_GROUP, 0), sum(n for kind, n in norms.items() if kind.startswith("GroupNorm"))
    if not alone:
        return None
    return Finding(
        "N7",
        Certainty.NOTED,
        f"{alone} of {every} group norms have as many groups as channels: they are instance norms, and take each "
        "example's own contrast out of every channel.",
        (Measured("group norms of one channel a group", "M06", f"{alone} of {every}", "none"),),
        "Give them fewer groups (2 to 8) if group norm was meant.",
        source="Wu and He 2018",
        where=place(e, "model"),
        silent=True,
    )
