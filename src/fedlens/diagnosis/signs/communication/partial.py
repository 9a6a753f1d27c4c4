"""X4: clients send a part of the model."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import HONEST, listed, place, severity, visits


def payload_is_partial(e: Evidence) -> Finding | None:
    """X4: a filter keeps trained parameters out of the uploads, so that they never move at the server.

    Measured by M06, the entries that did not come back in any upload, or that training moved at every visit and that
    came back as they went, or as zeros. Healthy: all that is neither declared local nor frozen. Missing statistics are
    N1.
    """
    said, seen = e.facts.declared, visits(e)
    if not seen or said.stateful:
        return None
    trained = [name for name, entry in e.facts.entries.items() if entry.kind == "parameter"]
    never = set.intersection(*(set(v.missing) for v in seen))
    never |= (blank := _blank(e))
    kept = [x for x in trained if x in never and not said.stays(x) and not any(x.startswith(y) for y in said.frozen)]
    if not kept or blank.issuperset(trained):
        return None
    how = "come back as they went, although training moves them" if blank.issuperset(kept) else "are in no upload"
    return Finding(
        "X4",
        Certainty.FOUND,
        f"{len(kept)} of {len(trained)} parameters {how} ({listed(kept)}): they never move.",
        (Measured("parameters that no upload holds", "M06", f"{len(kept)} of {len(trained)}", "none"),),
        "Send every trained entry, or declare which stay at clients or are frozen.",
        source="catalogue",
        also=("A4",),
        treatment="reference-client",
        where=place(e, "fit"),
        weight=severity(e, 0.2),
        hides=HONEST | {"A4", "O8"},
    )


def _blank(e: Evidence) -> set[str]:
    """Entries that moved in training and did not come back, at every visit of which that is known, of two or more."""
    told = [set(v.watched.outside) for v in visits(e) if v.watched.loss is not None and v.watched.steps and v.size > 0]
    return set.intersection(*told) if len(told) > 1 else set()
