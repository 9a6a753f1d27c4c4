"""B3: one object where there should be copies."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence, Round
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.aggregation.inits import APART
from fedlens.diagnosis.signs.reading import HONEST, lines, listed, middle, number, percent, place, severity

ORDER = 1e-4  # relative difference of the model after a round visited in another order; sums in float32 give 1e-6

MIXED = 0.5  # relative difference of an upload after visits in another order; other shuffles alone make less


def one_object_is_shared(e: Evidence) -> Finding | None:
    """B3: clients train one model object, one after another, or what they return is one and the same memory.

    Measured by M01 (the first client of a round starts from what was sent, the others from the one before) and M32
    (what was sent to one client comes back from the next; uploads share memory). Healthy: 0 and none. Accuracy may be
    better than it should be. Order that matters alone is no fault: jobs have random generators of their own.
    """
    uploads = {v.client: v.shares for one in e.rounds for v in one.visits if v.shares}
    if not trained_one_object(e) and not uploads:
        return _order_matters(e)
    h, starts = e.handling, [v.watched.start for one in e.rounds for v in one.visits[1:]]
    start, leaks = middle(starts), h.leaks if h is not None else None
    shared, carries = (h.shared, h.carries) if h is not None else ((), None)
    one_memory = "their uploads are one memory, of which the last is sent" if uploads else ""
    return Finding(
        "B3",
        Certainty.FOUND,
        f"Clients are not apart: {one_memory or 'they train one model object on, one after another'}.",
        lines(
            Measured("start of later clients from what was sent", "M01", percent(start), "0") if start else None,
            Measured("what was sent to the client before comes back", "M32", number(leaks), "0") if leaks else None,
            Measured("update of the client before in the next one's", "M32", number(carries), "0") if carries else None,
            Measured("clients that train one model object", "M32", listed(shared), "none") if shared else None,
            Measured("clients whose uploads share memory", "M32", listed(sorted(uploads)), "none") if uploads else None,
        ),
        "Give every client a copy of its own, load the sent model into it at every visit, and return copies.",
        source="catalogue",
        also=("B1",),
        treatment="separate-clients",
        where=place(e, "fit"),
        weight=severity(e, 0.3),
        silent=True,
        hides=HONEST | {"A1", "A6", "A9", "A11", "B1", "B7", "D6", "O4"},
    )


def trained_one_object(e: Evidence) -> bool:
    """Whether clients of a round train one another's weights on."""
    if e.facts.declared.stateful or e.facts.declared.local_entries:
        return _kept_parts_mix(e)
    chained = [one for one in e.rounds if _chained(one)]
    if chained and 2 * len(chained) >= len(e.rounds):
        return True
    h = e.handling
    if h is None:
        return False
    deaf = bool(h.heeds) and max(h.heeds.values()) < 1e-3
    return (h.leaks or 0.0) > 0.5 or (h.carries or 0.0) > 0.5 or (len(h.shared) > 1 and deaf)


def _kept_parts_mix(e: Evidence) -> bool:
    """Whether clients that keep a part of the model train it in one object: then the last one visited decides on it.

    One object into which each client's own part is loaded first gives the same in every order.
    """
    h = e.handling
    if h is None or len(h.shared) < 2 or not e.facts.declared.local_entries:
        return False
    return (middle(h.order_uploads.values()) or 0.0) > MIXED


def _chained(one: Round) -> bool:
    """The first client starts from what was sent, and all after it elsewhere."""
    starts = [visit.watched.start for visit in one.visits]
    known = [start for start in starts if start is not None]
    return len(known) == len(starts) > 1 and known[0] < APART / 5 and min(known[1:]) > APART


def _order_matters(e: Evidence) -> Finding | None:
    h = e.handling
    moved = h is not None and h.leaks is None and (h.order or 0.0) > max(ORDER, 10 * (h.repeats or 0.0))
    if h is None or not (moved or h.writes):
        return None
    return Finding(
        "B3",
        Certainty.NOTED,
        "fit trains the very state that it is given."
        if h.writes
        else "What a client returns depends on who was visited before it.",
        (
            Measured("update after visits in another order", "M32", number(h.order or 0.0), "0"),
            Measured("fit writes to what it received", "M32", "yes" if h.writes else "no", "no"),
        ),
        "Copy what is received before training; draw random numbers from a seed of (round, client).",
        source="catalogue",
        where=place(e, "fit"),
        silent=True,
    )
