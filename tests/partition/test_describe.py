"""The numbers that describe a partition, against hand-made ones and against chance."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedlens.partition import IID, Dirichlet, Partition, Shards, describe


def rng(seed=0):
    return np.random.default_rng(seed)


def test_numbers_of_a_partition_made_by_hand():
    # Clients {0,0}, {0,1,1,1}; sample 6 unused. q = (1/2, 1/2); q_0 = (1, 0): TV 1/2; q_1 = (1/4, 3/4): TV 1/4.
    labels = np.array([0, 0, 0, 1, 1, 1, 0])
    seen = describe(Partition(np.arange(6), np.array([0, 2, 6])), labels, 2, rng())
    assert seen.total_variation == pytest.approx(3 / 8)
    assert (seen.clients, seen.samples, seen.unused) == (2, 6, 1)
    assert (seen.size_min, seen.size_median, seen.size_max) == (2, 3.0, 4)
    assert seen.size_variation == pytest.approx(1 / 3)  # standard deviation 1, mean 3
    assert (seen.classes_min, seen.classes_mean, seen.classes_max) == (1, 1.5, 2)
    assert json.loads(json.dumps(seen.as_dict()))["total_variation"] == 0.375


def test_one_client_with_everything_has_no_skew_and_chance_gives_none():
    labels = np.arange(100) % 10
    seen = describe(IID().deal(labels, 1, rng()), labels, 10, rng())
    assert seen.total_variation == seen.total_variation_null == 0.0


def test_chance_at_a_hundred_clients_is_what_the_normal_approximation_says():
    # E|q_ic - q_c| = sqrt(2/pi) sqrt(q (1-q) / n); n = 100, q = 0.1, 10 classes: TV = 5 * 0.798 * 0.03 = 0.1197.
    labels = np.repeat(np.arange(10), 1000)
    seen = describe(IID().deal(labels, 100, rng()), labels, 10, rng())
    assert seen.total_variation_null == pytest.approx(0.1197, rel=0.03)
    assert seen.total_variation_null < seen.total_variation_null_95 < seen.total_variation_null * 1.1


@pytest.mark.parametrize("clients", [20, 100, 1000, 3000])
def test_iid_lies_near_its_chance_and_shards_far_above(clients):
    labels = np.repeat(np.arange(10), 3000)
    even = describe(IID().deal(labels, clients, rng()), labels, 10, rng(1))
    assert even.total_variation == pytest.approx(even.total_variation_null, rel=0.1)
    skewed = describe(Shards(2).deal(labels, clients, rng()), labels, 10, rng(1))
    assert skewed.total_variation == pytest.approx(0.8, abs=0.05)  # two of ten classes, or one: 1 - 2/10, 1 - 1/10
    assert skewed.total_variation > 2 * skewed.total_variation_null_95


def test_dirichlet_lies_between():
    labels = np.repeat(np.arange(10), 1000)
    deals = [kind.deal(labels, 50, rng()) for kind in (IID(), Dirichlet(0.5))]
    skews = [describe(deal, labels, 10, rng()).total_variation for deal in deals]
    assert skews[0] < 0.15 < 0.35 < skews[1] < 0.6


def test_the_same_seed_describes_the_same():
    labels = np.repeat(np.arange(10), 100)
    deal = IID().deal(labels, 10, rng())
    assert describe(deal, labels, 10, rng(4)) == describe(deal, labels, 10, rng(4))
