"""What of the clients' training arrives in the model, whatever either side multiplies it by on the way (M30, M03)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fedlens.diagnosis.evidence import Evidence, Round, Visit
from fedlens.diagnosis.evidence.rounds import SentBack
from fedlens.diagnosis.signs.reading import rounds_watched

PURE = 0.01  # of what is sent, aside from the trained change: more is no multiple of it
FLOAT = 4 * 2.0**-24  # of the model, that rounding of weights leaves aside
NEAR = 0.05  # of a share, or of 1
SAME = 1e-3  # relative difference of two measurements of one number


class Sent(NamedTuple):
    """By what each upload is what was trained; `current`: the model's own coefficient beside such uploads, where the
    server counts it once, as a share of the uploads' coefficients and a constant."""

    multiples: tuple[float, ...]
    current: tuple[float, float] = (0.0, 0.0)


def multiples(e: Evidence, one: Round) -> tuple[float, ...]:
    """By what each upload of `one` is the change, or the weights, that were trained; () where one is no such multiple,
    or unknown."""
    return _sent(e, one).multiples


def arriving(e: Evidence, one: Round) -> tuple[float, ...]:
    """The coefficients of what was trained in the model's change: of each upload, times what it is a multiple by; ()
    where either is unknown, or the model counts otherwise than once."""
    sent, shares = _sent(e, one), one.weights
    if len(shares) != len(sent.multiples):
        shares = () if one.total is None else tuple(one.total * share for share in one.wanted)
    if not sent.multiples or len(shares) != len(sent.multiples) or (one.unexplained or 0.0) > NEAR:
        return ()
    expected = sent.current[0] * sum(shares) + sent.current[1]
    found = tuple(a * c for a, c in zip(shares, sent.multiples, strict=True))
    return found if abs(one.current - expected) < NEAR else ()


def made_up_for(e: Evidence) -> bool:
    """Whether clients send multiples of what they trained (the reverse, n_i times it, a part) and the server undoes it,
    so that the declared mean is what arrives, in every round that tells."""
    every = rounds_watched(e)
    scaled = [one for one in every if any(abs(c - 1) > NEAR for c in multiples(e, one))]
    arrived = [(one, found) for one in every if (found := arriving(e, one))] if scaled else []
    told = any(one is other for one in scaled for other, _ in arrived)
    return told and all(_declared(one, found, e.facts.declared.server_lr) for one, found in arrived)


def _declared(one: Round, found: tuple[float, ...], rate: float) -> bool:
    pairs = zip(found, one.wanted, strict=False)
    room = NEAR * abs(rate) / len(found)
    return len(one.wanted) == len(found) and all(abs(a - rate * share) <= room for a, share in pairs)


def _sent(e: Evidence, one: Round) -> Sent:
    """What uploads are, read as the changes that they are taken for, as the other kind, and as weights times a number:
    where u stands for w + d, the model counts once with u, not once more."""
    update = e.facts.payload == "update"
    if own := _read(one, _change(update)):
        return Sent(own)
    if other := _read(
        one, _change(not update)
    ):  # weights that are taken for updates, or updates for weights: u = (u - w) + w
        return Sent(other, (0.0, 0.0) if update else (1.0, 0.0))
    return Sent(_read(one, _weights), (0.0, -1.0) if update else (1.0, -1.0))


def _read(one: Round, way: Callable[[Visit, SentBack], float | None]) -> tuple[float, ...]:
    backs = [(visit, visit.watched.sent_back) for visit in one.visits if visit.watched.steps and visit.finite]
    found = tuple(c for visit, back in backs if back is not None and (c := way(visit, back)) is not None)
    return found if len(found) == len(one.visits) else ()


def _change(update: bool) -> Callable[[Visit, SentBack], float | None]:
    def way(visit: Visit, back: SentBack) -> float | None:
        along, aside = (back.update, back.update_aside) if update else (back.weights, back.weights_aside)
        room = PURE if update or visit.size <= 0 else max(PURE, FLOAT / visit.size)
        return along if along and aside <= room * abs(along) else None

    return way


def _weights(visit: Visit, back: SentBack) -> float | None:
    """c where c (w + d) came back: two numbers that are one then, by the sum of all, and along d."""
    along = back.update - back.weights + 1  # <w + d, d> / <d, d>
    if not along or not back.sum_end:
        return None
    c, same = back.sum / back.sum_end, back.update / along
    return c if c and abs(same - c) <= SAME * abs(c) else None
