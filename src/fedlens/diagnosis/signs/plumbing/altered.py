"""A9, B7: a few clients send something else than what they trained."""

from __future__ import annotations

from statistics import median

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import FEW, by_client, first_or_late, withstood
from fedlens.diagnosis.signs.plumbing.restored import lagging
from fedlens.diagnosis.signs.reading import HONEST, listed, middle, number, place, severity

EXACT = 0.05  # of a coefficient of 1, and of what is aside, that rounding explains at small rates
REVERSED = -0.2  # coefficient
UNRELATED = 0.2  # coefficient up to which, with as much aside, it is something else
LARGER = 3.0  # times the others' update, where the coefficient is above 1.5
NOTHING = 0.1  # of the others' update, and next to nothing of the trained change
NOISE = 1.0  # of the trained change, aside of it
FAR = 5.0  # times the trained change: beyond that it is no older model

SAME = 1e-12  # relative difference of two sums of the same numbers
OLDER = ("what they trained at an earlier visit", "B7", ("A9", "B1", "B4"))

Sent = tuple[float, float]  # coefficient on the trained change, and what is aside


def upload_is_altered(e: Evidence) -> Finding | None:
    """A9 where a few clients send the reverse or a multiple of what they trained, or noise; B7 where they send another
    model, for instance the one of their last visit.

    Measured by M30: the change that came back beside the change from what was sent to the weights after the last step.
    Healthy: one and the same. What all clients do to their updates (a codec, a bound, noise, a correction) is no matter
    of a few of them; bounds, means over steps and restored earlier epochs leave a coefficient from 0.2 to 1. What is
    kept from visit to visit is wrong from the second on, and is exactly what was trained before. Only noted where an
    aggregation that withstands it is declared, and the job does not fall short.
    """
    return first_or_late(e, _altered)


def _altered(e: Evidence) -> Finding | None:
    if e.facts.declared.codec is not None:
        return None
    known = by_client(e, lambda visit: _sent(e, visit))
    honest = [c for c, found in known.items() if all(abs(a - 1) < EXACT and r < EXACT for a, r in found)]
    larger, stale = _larger(e), _stale(e)
    bad = {c: found for c, found in known.items() if all(_bad(one, larger.get(c, 1.0)) for one in found)}
    bad = {c: found for c, found in bad.items() if c not in lagging(e)} | {c: known[c][1:] for c in stale}
    if not bad or len(bad) > FEW * len(known) or len(honest) < 0.5 * len(known):
        return None
    along = median(a for found in bad.values() for a, _ in found)
    aside = median(r for found in bad.values() for _, r in found)
    what, cause, also = OLDER if set(stale) >= set(bad) else _kind(along, aside)
    clients = tuple(sorted(bad))
    return Finding(
        cause,
        Certainty.NOTED if withstood(e) else Certainty.FOUND,
        f"Not all clients send what they trained; {listed(clients)} send {what}.",
        (
            Measured("the trained change in what is sent", "M30", number(along), "1, as at the other clients"),
            Measured("what is sent beside it, by its size", "M30", number(aside), "0"),
        ),
        "Send the weights as they are after the last step, or their difference from those received; leave out or bound "
        "the updates of clients that nobody can vouch for.",
        source="Blanchard et al. 2017",
        also=also,
        treatment="drop-clients",
        clients=clients,
        where=place(e, "fit"),
        weight=severity(e, 0.1),
        hides=HONEST | ({"A9", "B1", "O8", "V1", "V3"} - {cause}),
    )


def _sent(e: Evidence, visit: Visit) -> Sent | None:
    w = visit.watched
    if w.sent_back is None or not w.steps or not visit.finite or visit.norm == 0:
        return None
    if e.facts.payload == "update":
        return w.sent_back.update, w.sent_back.update_aside
    return w.sent_back.weights, w.sent_back.weights_aside


def _stale(e: Evidence) -> tuple[int, ...]:
    """Clients that send at every visit but their first what they had trained at an earlier one."""
    told = by_client(e, lambda visit: visit.watched.sent_back)
    update = e.facts.payload == "update"
    found = []
    for client, backs in told.items():
        ends = [one.sum_change if update else one.sum_end for one in backs]
        old = [any(_same(one.sum, end) for end in ends[:at]) for at, one in enumerate(backs)]
        fresh = [_same(one.sum, end) for one, end in zip(backs, ends, strict=True)]
        if len(backs) > 1 and all(old[1:]) and not any(fresh[1:]):
            found.append(client)
    return tuple(found)


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= SAME * max(abs(one), abs(other))


def _larger(e: Evidence) -> dict[int, float]:
    """Client -> its update by that of the others, the least of all rounds."""
    found: dict[int, float] = {}
    for one in e.rounds:
        usual = middle(v.norm for v in one.visits if v.finite)
        for v in one.visits if usual else ():
            found[v.client] = min(found.get(v.client, float("inf")), v.norm / (usual or 1.0))
    return found


def _bad(sent: Sent, larger: float) -> bool:
    along, aside = sent
    if abs(along) < UNRELATED and larger < NOTHING:
        return True
    another = abs(along) < UNRELATED and aside > UNRELATED
    return along < REVERSED or aside > NOISE or another or (along > 1.5 and larger > LARGER)


def _kind(along: float, aside: float) -> tuple[str, str, tuple[str, ...]]:
    """In words, the cause, and ids that say the same."""
    if abs(along) < UNRELATED and aside < UNRELATED:
        return "next to nothing of it", "B4", ("A9", "D7")
    if aside < 0.3 * abs(along):
        if along < 0:
            return f"{number(along)} times that, the other way round", "A9", ("A6",)
        return f"{number(along)} times that", "A9", ()
    if 0.5 < along < 1.5:
        return f"it with noise {number(aside)} times as large", "A9", ("V1",)
    if aside > FAR:
        return "something else, and far larger", "A9", ("B7",)
    return "another model", "B7", ("A9", "B4")
