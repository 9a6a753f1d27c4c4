"""X4: clients send a part of the model."""

from __future__ import annotations

from collections.abc import Sequence

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import FEW, by_client
from fedlens.diagnosis.signs.reading import HONEST, listed, place, severity, visits


def payload_is_partial(e: Evidence) -> Finding | None:
    """X4: a filter keeps trained parameters out of the uploads, so that they never move at the server.

    Measured by M06, the entries that did not come back in any upload, or that training moved at every visit and that
    came back as they went, or as zeros; of all clients, or of a few at which others' come back. Healthy: all that is
    neither declared local nor frozen. Missing statistics are N1.
    """
    seen = visits(e)
    if not seen or e.facts.declared.stateful:
        return None
    trained = [name for name, entry in e.facts.entries.items() if entry.kind == "parameter"]
    never = set.intersection(*(set(v.missing) for v in seen))
    never |= (blank := _blank(e))
    kept = [name for name in trained if name in never and _belongs(e, name)]
    if blank.issuperset(trained):
        return None
    if not kept:
        return _of_some(e, trained)
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


def _of_some(e: Evidence, trained: Sequence[str]) -> Finding | None:
    """The same of a few clients that are seen twice, whose other entries come back, and all entries of the others."""
    told = by_client(e, _kept_back) if e.facts.declared.codec is None else {}
    whole = [client for client, found in told.items() if not any(found)]
    rest = {client: set.intersection(*found) for client, found in told.items() if client not in whole}
    odd = {client: [x for x in trained if x in names and _belongs(e, x)] for client, names in rest.items()}
    if not any(odd.values()) or not all(odd.values()) or len(odd) > FEW * len(told):
        return None
    arrives = [set(trained) - set(v.watched.outside) - set(v.still) for v in visits(e) if v.client in odd]
    if max(len(told[client]) for client in odd) < 2 or not all(arrives):  # an upload without any of it is another thing
        return None
    names, clients = [x for x in trained if any(x in found for found in odd.values())], tuple(sorted(odd))
    return Finding(
        "X4",
        Certainty.FOUND,
        f"Clients {listed(clients)} send {len(names)} of {len(trained)} parameters back as they went, although "
        f"training moves them ({listed(names)}); the others send all.",
        (Measured("parameters that their uploads do not hold", "M06", f"{len(names)} of {len(trained)}", "none"),),
        "Send every trained entry from every client, or declare which stay at clients.",
        source="catalogue",
        also=("A4",),
        treatment="reference-client",
        clients=clients,
        where=place(e, "fit"),
        weight=severity(e, 0.1),
        hides=HONEST | {"A4", "O8", "A9", "B7"},
    )


def _belongs(e: Evidence, name: str) -> bool:
    """Whether an entry is neither declared to stay at clients nor frozen."""
    said = e.facts.declared
    return not said.stays(name) and not any(name.startswith(frozen) for frozen in said.frozen)


def _blank(e: Evidence) -> set[str]:
    """Entries that moved in training and did not come back, at every visit of which that is known, of two or more."""
    told = [found for visit in visits(e) if (found := _kept_back(visit)) is not None]
    return set.intersection(*told) if len(told) > 1 else set()


def _kept_back(visit: Visit) -> set[str] | None:
    """Entries that moved in training and did not come back; None: it is not known."""
    known = visit.watched.loss is not None and visit.watched.steps and visit.size > 0
    return set(visit.watched.outside) if known else None
