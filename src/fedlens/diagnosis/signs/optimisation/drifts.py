"""O3: the rate in use is not the rate that was set."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, place, rounds_watched, visits
from fedlens.diagnosis.signs.symptom import misses

APART = 1.3  # rates of one round's clients, largest by smallest; and growth over the rounds watched
SAME = 1.01  # of rates that are one
BEYOND = 10.0  # times the usual rate, and those of the first round
FALLEN = 2.0  # times the largest rate used that the declared one may be, where a schedule lowers it

Rates = Sequence[Mapping[int, float]]  # of each round: client -> the rate that its visit begins with


def rate_drifts(e: Evidence) -> Finding | None:
    """O3: a rate that is scaled by a client's size and written back compounds; a schedule steps at every client.

    Measured by M30, the rate inside the optimiser at every step. Healthy: all clients of a round begin with one rate,
    or each always with its own; it rises to the declared one at most (a warm-up, over rounds or in every visit), and
    falls from about it. Of several groups of parameters one has the declared rate. Rates that were read off steps by
    hand count where they are steady: those of scaled gradients are not.
    """
    rounds = rounds_watched(e) or e.rounds
    begun = [{v.client: v.watched.rates[0] for v in one.visits if _told(v)} for one in rounds]
    begun = [rates for rates in begun if rates]
    if not begun:
        return None
    spread = max(max(rates.values()) / min(rates.values()) for rates in begun)
    if spread >= APART and not e.facts.declared.stateful:
        return _among_clients(e, begun, spread)
    return _over_rounds(e, begun, spread)


def _told(visit: Visit) -> bool:
    w = visit.watched
    if not w.rates or not all(0 < rate < math.inf for rate in w.rates):
        return False
    return w.optimizer is not None or max(w.rates) <= SAME * min(w.rates)


def _among_clients(e: Evidence, begun: Rates, spread: float) -> Finding | None:
    """Clients of one round begin with different rates: by a slip, by chance of the order, or each with its own."""
    every, said = [rate for rates in begun for rate in rates.values()], e.facts.declared.lr
    usual = said or median(every)
    at = {client for rates in begun for client, rate in rates.items() if _one(rate, usual)}
    late = {v.client: v.watched.rates[0] for v in e.beside if _told(v)}
    lowered = bool(late) and not any(_one(rate, usual) for rate in late.values())  # by a schedule, for all
    then, room = (median(late.values()), APART) if lowered else (usual, SAME)
    beside = {client for client, rate in late.items() if max(rate, then) > room * min(rate, then)}
    others = tuple(sorted({*beside, *(client for rates in begun for client in rates)} - at))
    fixed = _fixed(begun) and not _compounds(begun, usual)
    few = 0 < len(others) < len(at) and fixed
    certainty = Certainty.FOUND if not fixed or (few and said) else Certainty.CONSISTENT if few else Certainty.NOTED
    what = f"Clients train at rates from {number(min(every))} to {number(max(every))}"
    if few:
        what += f", most of them at {number(usual)}"
    elif fixed:
        what += ", each always at its own"
    return _finding(e, begun, certainty, what, spread, others if few else ())


def _fixed(begun: Rates) -> bool:
    """Whether a client's rate depends on the client, and at most on the round beside."""
    own, pairs = defaultdict[int, list[float]](list), defaultdict[tuple[int, int], list[float]](list)
    for rates in begun:
        for client, rate in rates.items():
            own[client].append(rate)
        for one, other in combinations(sorted(rates), 2):
            pairs[one, other].append(rates[one] / rates[other])
    return any(
        more and all(_one(min(some), max(some)) for some in more)
        for more in ([some for some in kind if len(some) > 1] for kind in (own.values(), pairs.values()))
    )


def _compounds(begun: Rates, usual: float) -> bool:
    """Whether rates rise from round to round far beyond the usual one: no warm-up does, even of a rate for each."""
    first, last = max(begun[0].values()), min(begun[-1].values())
    return len(begun) > 1 and last > BEYOND * max(first, usual)


def _over_rounds(e: Evidence, begun: Rates, spread: float) -> Finding | None:
    """Clients of one round begin with one rate: it grows beyond the declared one, or is another altogether."""
    said, first, last = e.facts.declared.lr, median(begun[0].values()), median(begun[-1].values())
    used = [rate for v in visits(e) if _told(v) for rate in v.watched.rates]
    low, peak = min(used), max(used)
    if not said or said <= 0:
        return None if last < APART * first else _finding(e, begun, Certainty.NOTED, _range(low, peak), spread)
    if any(len(v.watched.groups) > 1 and any(_one(rate, said) for rate in v.watched.groups) for v in visits(e)):
        return None
    if last >= APART * first and peak > APART * said:
        return _finding(e, begun, Certainty.FOUND, _range(low, peak), spread)
    steady, rises = _one(low, peak), last > SAME * first or any(_rises(v) for v in visits(e))
    wrong = not _one(peak, said) if steady else peak > APART * said or (peak * FALLEN < said and not rises)
    if not wrong:
        return None
    what = f"Clients begin with a rate of {number(first)}, declared is {number(said)}"
    return _finding(e, begun, Certainty.FOUND, what, spread)


def _rises(visit: Visit) -> bool:
    return _told(visit) and visit.watched.rates[-1] > SAME * visit.watched.rates[0]


def _range(low: float, high: float) -> str:
    return f"Clients train at rates from {number(low)} to {number(high)}"


def _one(rate: float, other: float) -> bool:
    return max(rate, other) <= SAME * min(rate, other)


def _finding(
    e: Evidence, begun: Rates, certainty: Certainty, what: str, spread: float, clients: tuple[int, ...] = ()
) -> Finding:
    growth = median(begun[-1].values()) / median(begun[0].values())
    return Finding(
        "O3",
        certainty,
        what + ".",
        (
            Measured("rates of one round's clients, largest by smallest", "M30", number(spread), "1"),
            Measured("rate of the last round watched by the first's", "M30", number(growth), "at most 1"),
        ),
        "Compute each client's rate from the round alone; never write it back into shared settings.",
        treatment=f"rate={number(e.facts.declared.lr or next(iter(begun[0].values())))}",
        clients=clients,
        where=place(e, "fit"),
        weight=max(misses(e), 0.1),
        hides=frozenset({"O1", "O2", "A9", "P1", "O9", "C1", "K5"}),
    )
