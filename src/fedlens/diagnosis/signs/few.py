"""What is told of each client by itself, and whether only a few of them stand out of many that agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from fedlens.diagnosis.evidence import Evidence, Round, Visit, Watched
from fedlens.diagnosis.finding import Finding, Sign
from fedlens.diagnosis.signs.reading import lost, place, visits
from fedlens.seeds import generator

FAILS = 0.15  # accuracy below the reference
HARM = -0.1  # nats that a client's own loss rises by its training
HOSTILE = ("attack", "byzant", "malicious", "advers", "poison")  # in the names of what an author says beside
FEW = 0.4  # of the clients seen: more are no exception
LATE = 3  # visits of late rounds, from which some can be told from the others
T = TypeVar("T")


def named(e: Evidence, finding: Finding) -> Finding:
    """`finding` with the clients that it is true of, where its sign names none and only some show what it is about."""
    told = SHOWN.get(finding.cause)
    if finding.clients or told is None:
        return finding
    return replace(finding, clients=some_of(e, lambda visit: told(visit.watched)))


def _of_loss(told: Callable[[Watched], object]) -> Callable[[Watched], bool | None]:
    return lambda watched: None if watched.loss is None else bool(told(watched))


SHOWN: dict[str, Callable[[Watched], bool | None]] = {
    "H1": _of_loss(lambda watched: watched.probabilities or watched.squashed),
    "H3": _of_loss(lambda watched: watched.probabilities or watched.squashed),
    "H2": _of_loss(lambda watched: watched.logits),
    "H4": _of_loss(lambda watched: watched.reduction == "sum"),
    "N6": lambda watched: bool(watched.stuck) if watched.steps else None,
    "O4": lambda watched: watched.carried,
}


def rarely_seen(e: Evidence, findings: Sequence[Finding]) -> tuple[int, ...]:
    """Clients that no two visits tell of, or none with all that can be heard, where `findings` blame some clients for
    what they do; and those whose only visit harmed what they train on. The ones that were never seen come first."""
    told = by_client(e, lambda visit: visit.watched.loss is not None)
    worse = by_client(e, lambda visit: None if visit.gain is None else visit.gain < HARM)
    harm = [client for client, said in worse.items() if said == [True]]
    own = [
        one for one in findings if one.cause[0] in "ABHNO" or one.cause in ("D7", "S5") or one.where == place(e, "fit")
    ]
    blamed = any(one.clients and one.certainty for one in own)
    rare = [c for c in range(e.facts.clients) if len(told.get(c, ())) < 2 or not any(told[c])] if blamed else []
    few = harm if len(harm) <= FEW * len(worse) else []
    return tuple(sorted({*rare, *few}, key=lambda client: (len(told.get(client, ())), client)))


def unseen(e: Evidence) -> tuple[int, ...]:
    """Clients to visit in a late round, before which nothing says that they change: those that no round played has
    asked, where the plan asks everybody in the end, and then the others. Nobody where all rounds were played."""
    p, seen = e.participation, {visit.client for visit in visits(e)} | {c for one in e.rounds for c in one.asked}
    if p is None or p.distinct < e.facts.clients or len(e.rounds) >= e.facts.rounds:
        return ()
    mixed = generator(0, "late").permutation(e.facts.clients).tolist()
    return tuple(sorted(mixed, key=lambda client: client in seen))


def late(e: Evidence) -> Evidence | None:
    """`e` with its visits of late rounds alone, as those of one round; None: they are too few."""
    if len(e.beside) < LATE:
        return None
    asked = tuple(visit.client for visit in e.beside)
    last = Round(number=e.facts.rounds, asked=asked, visits=e.beside, wanted=())
    return replace(e, rounds=(last,), beside=())


def first_or_late(e: Evidence, told: Sign) -> Finding | None:
    """What `told` says of all visits or, where that is nothing, of some clients in late rounds alone: until then they
    may have been sound."""
    found, then = told(e), late(e)
    if found is not None or then is None:
        return found
    found = told(then)
    return found if found is not None and found.clients else None


def withstood(e: Evidence) -> bool:
    """Whether hostile clients are declared, or an aggregation that is made to withstand them, and no trial says that
    the job fails; what withstands them is slower early on."""
    said = e.facts.declared
    hostile = any(word in name.lower() for name in said.unknown for word in HOSTILE)
    return (hostile or said.reduce != "mean") and lost(e) < FAILS


def by_client(e: Evidence, told: Callable[[Visit], T | None]) -> dict[int, list[T]]:
    """What `told` says of the visits of each client, without those of which it says nothing."""
    found: dict[int, list[T]] = defaultdict(list)
    for visit in visits(e):
        if (value := told(visit)) is not None:
            found[visit.client].append(value)
    return dict(found)


def some_of(e: Evidence, told: Callable[[Visit], bool | None]) -> tuple[int, ...]:
    """The clients of all whose visits `told` is true; nobody where that is so of all clients that are seen:
    then it is no matter of clients."""
    said = by_client(e, told)
    found = tuple(sorted(client for client, values in said.items() if all(values)))
    return found if len(found) < len(said) else ()


def odd_ones(values: Mapping[int, float], tolerance: float) -> dict[int, float]:
    """Client -> its value, of the few whose value is more than `tolerance` times another than the one that most have,
    and than anybody's near that; none where there is no such value."""
    if len(values) < 3:
        return {}
    usual = max(values.values(), key=lambda one: sum(_one(one, other, tolerance) for other in values.values()))
    near = [value for value in values.values() if _one(usual, value, tolerance)]
    odd = {client: value for client, value in values.items() if not _one(usual, value, tolerance)}
    apart = not any(_one(value, one, tolerance) for value in odd.values() for one in near)
    return odd if apart and 0 < len(odd) <= FEW * len(values) else {}


def _one(value: float, other: float, tolerance: float) -> bool:
    low, high = sorted((value, other))
    return high <= tolerance * low if low > 0 else high == low
