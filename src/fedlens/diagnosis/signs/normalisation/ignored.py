"""N7: a declaration about norm layers that matches nothing."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import listed, place


def declared_entries_do_not_exist(e: Evidence) -> Finding | None:
    """N7: entries are declared local or frozen, often norm layers, and the network has none of that name.

    Measured on the names alone (M06). Healthy: every declared beginning matches an entry. Then the personal or frozen
    part is empty and the method is plain averaging; states may also leave such entries out on purpose.
    """
    said = e.facts.declared
    unmet = [x for x in (*said.local_entries, *said.frozen) if not any(name.startswith(x) for name in e.facts.entries)]
    if not unmet or not e.facts.entries:
        return None
    norms = listed([f"{count} {kind}" for kind, count in (e.facts.norms or {}).items()]) or "no norm layer"
    return Finding(
        "N7",
        Certainty.NOTED,
        f"No entry begins with {listed(unmet)}, which is declared local or frozen: that part is empty.",
        (Measured("declared entries without a match", "M06", listed(unmet), f"none (the network has {norms})"),),
        "Name the entries as the state does; check that the norm layers that were asked for were built.",
        source="catalogue",
        where=place(e, "fit"),
        silent=True,
    )
