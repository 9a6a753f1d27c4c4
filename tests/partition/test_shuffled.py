"""An order of very many samples that is computed where it is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from fedlens.partition.shuffled import Shuffled, shuffled


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 15, 16, 17, 1000, 4097])
def test_every_number_comes_once_wherever_one_begins_to_look(count):
    order = shuffled(range(count), rng(count))
    whole = order[:]
    assert isinstance(order, Shuffled) and len(order) == count
    assert sorted(whole.tolist()) == list(range(count)) and whole.dtype == np.int64
    parts = [order[start : start + 7] for start in range(0, count, 7)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_an_array_is_shuffled_as_numpy_does():
    assert np.array_equal(shuffled(np.arange(50) * 3, rng()), rng().permutation(np.arange(50) * 3))


def test_orders_look_random():
    orders = np.stack([shuffled(range(500), rng(seed))[:] for seed in range(2000)])
    # Each statistic of 2000 uniform orders, within five of its standard deviations.
    assert abs(orders[:, 0].mean() - 249.5) < 5 * 144.3 / 2000**0.5
    assert abs(np.corrcoef(orders[:, 0], orders[:, 1])[0, 1]) < 5 / 2000**0.5
    assert abs((orders == np.arange(500)).sum(axis=1).mean() - 1) < 5 / 2000**0.5  # fixed points: Poisson of mean 1
    assert abs((np.diff(orders, axis=1) == 1).sum(axis=1).mean() - 1) < 5 / 2000**0.5  # n followed by n + 1: the same
    tenths = np.bincount(orders[:, 250] // 50, minlength=10)
    assert ((tenths - 200) ** 2 / 200).sum() < 30  # chi square with nine degrees of freedom: 1 in 2000


def test_a_slice_of_a_billion_costs_what_it_holds():
    part = shuffled(range(10**9), rng())[123_456_789:123_456_799]
    assert len(set(part.tolist())) == 10 and part.min() >= 0 and part.max() < 10**9
