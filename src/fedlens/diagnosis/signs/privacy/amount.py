"""How much noise there is beside how much signal: what several signs of privacy read (M21, M22)."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.signs.reading import middle, noisy, rounds_watched, visits

HEAVY = 2.0  # noise by signal, over sqrt(rounds), from which a job fails; 0.7 cost 0.3 points (M21)
ALIKE = 1e-5  # relative difference of norms that only a bound makes so equal


def expected(e: Evidence) -> float:
    """The declared standard deviation of one number of the aggregate: z C / m, times the server's rate."""
    said = e.facts.declared
    return said.dp.get("noise", 0.0) * said.dp.get("clip", 0.0) / max(1, e.facts.cohort) * abs(said.server_lr)


def sigma(e: Evidence) -> float:
    """The standard deviation of one number of the aggregate: as measured, else as declared."""
    return e.aggregation.noise if e.aggregation is not None and e.aggregation.noise > 0 else expected(e)


def size(e: Evidence) -> int:
    """How many parameters there are."""
    return sum(math.prod(entry.shape) for entry in e.facts.entries.values() if entry.kind == "parameter")


def in_uploads(e: Evidence) -> bool:
    """Whether clients add declared noise: seen beside what they trained, or not made by the server and uploads are as
    large as it would make them."""
    if noisy(e) and any(visit.watched.added for visit in visits(e)):
        return True
    least = expected(e) * math.sqrt(size(e) * max(1, e.facts.cohort))
    usual = middle(visit.norm for visit in visits(e))
    at_server = e.aggregation is not None and e.aggregation.noise > 0
    return noisy(e) and not at_server and usual is not None and usual > 0.7 * least


def ratio(e: Evidence) -> float | None:
    """Noise by signal of one round, sigma sqrt(P) / ||Dbar||; None: unknown, or no noise."""
    noise, means = sigma(e) * math.sqrt(size(e)), middle(one.mean_norm for one in rounds_watched(e))
    if not noise or not means:
        return None
    rate, bound = abs(e.facts.declared.server_lr) or 1.0, e.facts.declared.dp.get("clip", math.inf)
    if in_uploads(e):
        return noise / max(math.sqrt(max(0.0, (rate * means) ** 2 - noise**2)), 0.05 * noise)
    return noise / (rate * min(means, bound))


def accumulated(e: Evidence) -> float | None:
    """The ratio over all rounds: noise grows with their square root, signal with their number."""
    once = ratio(e)
    return None if once is None else once / math.sqrt(max(1, e.facts.rounds))


def bounded(e: Evidence) -> float | None:
    """The bound that clients' updates show: half of them or more have exactly one norm, the largest; None: none."""
    if e.facts.declared.codec is not None or (e.data is not None and len(e.data.same) > 2):
        return None  # signs alone have one length, and so have the updates of equal data
    norms = [visit.norm for visit in visits(e) if visit.finite and visit.norm > 0 and not visit.grid]
    top = max(norms, default=0.0)
    alike = sum(norm > top * (1 - ALIKE) for norm in norms)
    several = len({visit.client for visit in visits(e)}) > 2
    return top if several and alike >= 4 and 2 * alike >= len(norms) else None
