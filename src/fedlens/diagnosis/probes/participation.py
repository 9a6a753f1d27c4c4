"""Who is asked, over the whole plan, by the author's `sample` alone."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import gamma  # type: ignore[import-untyped]

from fedlens.diagnosis.evidence import Facts, Participation
from fedlens.diagnosis.subject.patient import Subject

ROUNDS = 200  # that are drawn at most


def examine_participation(
    subject: Subject, facts: Facts, classes_of: Mapping[int, Sequence[int]] | None = None
) -> Participation:
    """Draw the cohorts of all rounds, 200 at most. `classes_of`: client -> the classes it holds, of all clients that
    matter. Raises Ailing where `sample` fails."""
    patient = subject.fresh()
    cohorts = [patient.sample(round) for round in range(1, max(1, min(ROUNDS, facts.rounds)) + 1)]
    inside = [{client for client in cohort if 0 <= client < facts.clients} for cohort in cohorts]
    appearances = Counter(client for cohort in inside for client in cohort)
    sizes = [len(cohort) for cohort in inside]
    pairs = list(itertools.pairwise(inside))
    return Participation(
        distinct=len(appearances),
        expected=facts.clients * (1 - math.prod(1 - size / facts.clients for size in sizes)),
        p=uniform([appearances[client] for client in range(facts.clients)], sizes),
        sizes=(min(map(len, cohorts)), max(map(len, cohorts))),
        repeated=sum(one == two for one, two in pairs) / len(pairs) if pairs else 0.0,
        twice=any(len(set(cohort)) < len(cohort) for cohort in cohorts),
        outside=tuple(sorted({client for cohort in cohorts for client in cohort} - set(range(facts.clients)))),
        never=_never(set(appearances), classes_of or {}),
    )


def uniform(appearances: Sequence[int], sizes: Sequence[int]) -> float:
    """The probability of counts n_k as uneven as `appearances`, had every round drawn its cohort, of `sizes`, uniformly
    without replacement.

    With shares q_t = m_t / K and V = sum_t q_t (1 - q_t), X = (K - 1) / K sum_k (n_k - sum_t q_t)^2 / V has mean K - 1
    and, for the kurtosis c = sum_t q_t (1 - q_t) (1 - 6 q_t (1 - q_t)) / V^2 of a count, variance (K - 1) (2 + c): a
    gamma distribution with these moments, which is chi-square in the limit of many rounds.
    """
    clients = len(appearances)
    shares = np.array(sizes, dtype=float) / clients
    spread = shares * (1 - shares)
    variance, degrees = float(spread.sum()), clients - 1
    if clients < 2 or variance <= 0:
        return 1.0
    away = float(((np.array(appearances, dtype=float) - shares.sum()) ** 2).sum())
    kurtosis = float((spread * (1 - 6 * spread)).sum()) / variance**2
    width = max(0.1, 2 + kurtosis)
    return float(gamma.sf(away / variance * degrees / clients, degrees / width, scale=width))


def _never(asked: set[int], classes_of: Mapping[int, Sequence[int]]) -> tuple[int, ...]:
    """Classes that only clients hold who are never asked; () where the classes of one who is are not known."""
    if not asked <= classes_of.keys():
        return ()
    met = {one for client in asked for one in classes_of[client]}
    return tuple(sorted({one for held in classes_of.values() for one in held} - met))
