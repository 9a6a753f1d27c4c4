"""Who is asked, by `sample` alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import Toy, subject

from fedlens.diagnosis.probes.participation import examine_participation, uniform
from fedlens.diagnosis.subject.guard import Ailing


def asked(job, classes_of=None):
    made = subject(job)
    return examine_participation(made, made.fresh().facts(), classes_of)


class Plan(Toy):
    clients, cohort, rounds = 20, 4, 40


def test_uniform_cohorts_reach_as_many_clients_as_expected():
    seen = asked(Plan)
    assert seen.sizes == (4, 4) and not seen.twice and not seen.outside and not seen.never
    assert seen.expected == pytest.approx(20 * (1 - 0.8**40)) and seen.distinct == 20
    assert seen.p > 1e-3 and seen.repeated < 0.1


def test_the_same_cohort_every_round_is_impossible_by_chance():
    class Job(Plan):
        def sample(self, round):
            torch.manual_seed(0)
            return super().sample(round)

    seen = asked(Job)
    assert seen.distinct == 4 and seen.repeated == 1 and seen.p < 1e-12


def test_everybody_every_round_and_one_after_another_are_nothing_uneven():
    class Everybody(Plan):
        def sample(self, round):
            return range(20)

    class InTurn(Plan):
        def sample(self, round):
            return [(4 * round + k) % 20 for k in range(4)]

    assert asked(Everybody).p == 1 and asked(Everybody).distinct == 20
    assert asked(InTurn).p > 0.99


def test_cohorts_that_are_wrong_in_themselves_are_told():
    class Job(Plan):
        def sample(self, round):
            return [3, 3, 20] if round == 2 else [1, 2]

    seen = asked(Job)
    assert seen.twice and seen.outside == (20,) and seen.sizes == (2, 3) and seen.distinct == 3


def test_classes_of_clients_who_are_never_asked_are_named():
    class Job(Plan):
        def sample(self, round):
            return [0, 1]

    assert asked(Job, {0: [0, 1], 1: [2], 2: [2, 5], 3: [7]}).never == (5, 7)
    assert asked(Job, {0: [0, 1], 3: [7]}).never == ()  # what client 1 holds is not known


def test_a_sample_that_raises_cannot_be_examined():
    class Job(Plan):
        def sample(self, round):
            raise KeyError("clients")

    with pytest.raises(Ailing):
        asked(Job)


@pytest.mark.parametrize(("clients", "cohort", "rounds"), [(20, 4, 40), (20, 2, 5), (100, 10, 5), (10, 5, 100)])
def test_uniform_cohorts_seldom_look_uneven(clients, cohort, rounds):
    rng = np.random.default_rng(clients + rounds)
    values = []
    for _ in range(400):
        counts = np.zeros(clients)
        for _ in range(rounds):
            counts[rng.choice(clients, cohort, replace=False)] += 1
        values.append(uniform(counts, [cohort] * rounds))
    values = np.array(values)
    assert (values < 0.1).mean() < 0.145  # three standard errors: 3 sqrt(0.09 / 400) = 0.045; steps make it smaller
    assert (values < 1e-4).sum() <= 1
