"""X1: what compression leaves out is lost."""

from __future__ import annotations

from statistics import mean

from fedlens.diagnosis.evidence import Evidence, Round
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import averages, fault, leaks
from fedlens.diagnosis.signs.reading import (
    HONEST,
    client_side,
    effect,
    gained,
    lines,
    lost,
    middle,
    moving_zero,
    noise,
    number,
    percent,
    place,
    points,
    severity,
    underperforms,
    visits,
)

SPARSE = 0.9  # share of zeros; features that are always 0 explain up to a third
COUNTED = 2  # rounds in which the zeros of uploads are counted
SAME = 0.02  # of the numbers sent, up to which they are those trained
LEFT = {
    False: "and what is left out never comes later",
    True: "though what is left out comes later",
    None: "and nothing shows that what is left out comes later",
}
CARRIED = 0.05  # coefficient of the round before from which something is sent later


def updates_are_sparsified(e: Evidence) -> Finding | None:
    """X1: only the largest entries of an update travel, and the rest is never sent.

    Measured by M04: the aggregate is far from the mean in direction and mostly zeros although the uploads are not
    (exact, if no codec is declared); or uploads are mostly zeros in what moves at all, which takes a trial. Healthy:
    cosine 1; a codec with error feedback shows earlier rounds in its aggregate, and from a client's second visit on
    more than it trained in what it sends: that is a fault only where it is declared and a trial shows what it costs.
    """
    codec, some = e.facts.declared.codec, [v for one in e.rounds[:COUNTED] for v in one.visits]
    if not some:
        return None
    cosine, zero = middle(one.cosine for one in leaks(e)), mean(_zero(e, one) for one in e.rounds)
    sent = mean(moving_zero(e, visit.zero, visit.still) for visit in some)
    rounded = fault(e) is not None or any(one.grid or one.narrow or one.dropped for one in e.rounds)
    server = cosine is not None and cosine < 0.99 and zero > sent + 0.3 and averages(e) and not rounded
    if codec is None and server:
        return _finding(e, Certainty.FOUND, zero, sent, cosine, False)
    past = middle(one.past for one in e.rounds[1:])
    if max(zero, sent) < SPARSE or (past is not None and abs(past) > CARRIED):
        return None
    off, later = effect(e, "codec-off") if codec is not None else None, comes_later(e)
    with_feedback = later is False and codec is not None and lost(e) > noise(e)  # the reference's codec has it
    proven = with_feedback or (off.clear if off is not None else client_side(e) and not later)
    if not underperforms(e) or (later and not proven):
        certainty = Certainty.NOTED
    else:
        certainty = Certainty.SUPPORTED if proven else Certainty.CONSISTENT
    return _finding(e, certainty, zero, sent, cosine, later)


def _zero(e: Evidence, one: Round) -> float:
    """The share of zeros in a round's change of the model, in the entries that some client moved."""
    still = [set(visit.still) for visit in one.visits]
    return moving_zero(e, one.zero, set.intersection(*still) if still else ())


def comes_later(e: Evidence) -> bool | None:
    """Whether clients send what they left out before (error feedback): more than they trained, from the second visit
    on; None: no client was seen twice."""
    first, again = dict[int, float](), list[float]()
    seen = set[int]()
    for visit in visits(e):
        beyond = visit.watched.beyond
        if beyond is not None and visit.client in seen:
            again.append(beyond)
        elif beyond is not None:
            first[visit.client] = beyond
        seen.add(visit.client)
    before, then = middle(first.values()), middle(again)
    return None if before is None or then is None else then > 2 * before + SAME


def _finding(
    e: Evidence, certainty: Certainty, zero: float, sent: float, cosine: float | None, later: bool | None
) -> Finding:
    off = effect(e, "codec-off")
    gain = f"; without it the reference gains {points(off.gain)}" if off is not None and off.clear else ""
    direction = None if cosine is None else Measured("direction against the mean's, cosine", "M04", number(cosine), "1")
    exact = certainty is Certainty.FOUND
    return Finding(
        "X1",
        certainty,
        f"{percent(max(zero, sent))} of what travels is exactly 0, {LEFT[later]}{gain}.",
        lines(
            Measured("zeros in the aggregate, in uploads", "M04", f"{percent(zero)}, {percent(sent)}", "few, equal"),
            direction,
            gained(e, "codec-off", "without compression"),
            gained(e, "feedback", "with error feedback, same bytes"),
        ),
        "Keep what was left out and add it to the next update (error feedback), at the same bytes; or send more.",
        source="Karimireddy et al. 2019 (error feedback); Stich et al. 2018",
        treatment="feedback",
        where=place(e, "aggregate" if exact else "fit"),
        weight=severity(e, 0.15) if exact else max(lost(e), off.gain if off is not None else 0.0),
        hides=HONEST | {"A1", "A6", "N3"} if exact else frozenset({"O1", "O7", "P1", "C1"}),
    )
