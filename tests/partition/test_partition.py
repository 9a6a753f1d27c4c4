"""The partition itself: its check, the same deal again without skew, the local hold-out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examine
from hypothesis import strategies as st

from fedlens.errors import ConfigurationError
from fedlens.partition import IID, Classes, Dirichlet, Partition, Quantity, Shards, describe, holdout, redeal
from fedlens.partition.apportion import apportion


def rng(seed=0):
    return np.random.default_rng(seed)


def made(*clients):
    sizes = [len(client) for client in clients]
    return Partition(
        np.array([sample for client in clients for sample in client]), np.concatenate([[0], np.cumsum(sizes)])
    )


def test_clients_sizes_and_counts_of_a_partition_made_by_hand():
    deal = made([4, 1], [0], [2, 3, 5])
    labels = np.array([0, 1, 2, 2, 1, 0])
    assert len(deal) == 3
    assert deal.sizes.tolist() == [2, 1, 3]
    assert deal.client(2).tolist() == [2, 3, 5]
    assert deal.counts(labels, 4).tolist() == [[0, 2, 0, 0], [1, 0, 0, 0], [1, 0, 2, 0]]
    with pytest.raises(IndexError):
        deal.client(3)


@pytest.mark.parametrize(
    ("deal", "what", "where"),
    [
        (made([0, 1], [2, 9]), "sample 9 is none of the 9 samples", "mine, client 1"),
        (made([0, -1], [2]), "sample -1 is none", "mine, client 0"),
        (made([0, 1], [2, 1]), "sample 1 is dealt more than once", "mine, client 1"),
        (made([0], [], [2]), "client 1 has no samples", "mine"),
        (Partition(np.array([0, 1]), np.array([0, 1])), "offsets do not cut", "mine"),
        (Partition(np.array([0, 1]), np.array([0, 2, 1, 2])), "offsets do not cut", "mine"),
    ],
)
def test_the_check_names_what_is_wrong_and_where(deal, what, where):
    with pytest.raises(ConfigurationError) as caught:
        deal.check(9, "mine")
    problem = caught.value.problems[0]
    assert what in problem.what and problem.where == where and problem.do


def test_an_empty_client_is_told_with_its_kind_and_what_to_do():
    with pytest.raises(ConfigurationError, match=r"do:   Deal to fewer clients, or choose parameters of 'classes'"):
        made([0], []).check(3, "classes")


def test_clients_whose_samples_follow_one_another_need_no_list_of_them():
    offsets = np.array([0, 2, 3, 7])
    lean, full = Partition(range(7), offsets), Partition(np.arange(7), offsets)
    labels = np.array([0, 1, 1, 2, 2, 0, 2])
    assert lean.check(7) is lean and len(lean) == 3
    for i in range(3):
        assert lean.client(i).tolist() == full.client(i).tolist() and lean.client(i).dtype == np.int64
    assert np.array_equal(lean.counts(labels, 3), full.counts(labels, 3))
    assert lean.only(1).client(1).tolist() == [2] and list(lean.everything()) == full.everything().tolist()
    assert np.array_equal(redeal(lean, rng()).indices, redeal(full, rng()).indices)
    for one, other in zip(holdout(lean, labels, 0.5, rng()), holdout(full, labels, 0.5, rng()), strict=True):
        assert np.array_equal(one.indices, other.indices) and np.array_equal(one.offsets, other.offsets)
    assert describe(lean, labels, 3, rng()) == describe(full, labels, 3, rng())
    with pytest.raises(ConfigurationError, match="sample 5 is none of the 5 samples") as caught:
        lean.check(5, "mine")
    assert caught.value.problems[0].where == "mine, client 2"


def test_of_very_many_clients_the_labels_of_some_are_looked_at_and_always_the_same(monkeypatch):
    monkeypatch.setattr("fedlens.partition.partition.LOOKED_AT", 40)
    deal, labels = Partition(range(600), np.arange(0, 601, 2)), np.arange(600) // 2 % 7
    assert len(deal.looked_at) == 40 == len(set(deal.looked_at)) and (np.diff(deal.looked_at) > 0).all()
    counts = deal.counts(labels, 7)
    assert counts.tolist() == [[2 * (client % 7 == c) for c in range(7)] for client in deal.looked_at]
    assert np.array_equal(redeal(deal, rng()).looked_at, deal.looked_at)
    seen = describe(deal, labels, 7, rng())
    assert (seen.clients, seen.samples, seen.classes_mean) == (300, 600, 1.0)


def test_labels_that_are_not_in_memory_are_asked_for_by_number():
    class Asked:
        def __init__(self, labels):
            self.labels, self.asked = labels, 0

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, at):
            self.asked += len(at)
            return self.labels[at]

        def __array__(self, dtype=None, copy=None):
            return self.labels

    labels = np.repeat(np.arange(10), 20)
    for kind in (IID(), Shards(2), Dirichlet(0.5), Classes(2), Quantity(1.0)):
        one, other = kind.deal(Asked(labels), 10, rng()), kind.deal(labels, 10, rng())
        assert np.array_equal(one.indices, other.indices), kind
    asked = Asked(labels)
    Partition(range(200), np.array([0, 50, 200])).only(0).counts(asked, 10)
    assert asked.asked == 50


def test_redealing_keeps_sizes_and_samples_and_takes_the_skew_away():
    labels = np.repeat(np.arange(10), 200)
    skewed = Shards(2).deal(labels, 20, rng())
    even = redeal(skewed, rng(1))
    assert np.array_equal(even.sizes, skewed.sizes)
    assert sorted(even.indices) == sorted(skewed.indices)
    numbers = [describe(deal, labels, 10, rng()) for deal in (skewed, even)]
    assert numbers[0].total_variation > 4 * numbers[1].total_variation
    assert numbers[1].total_variation <= numbers[1].total_variation_null_95 * 1.1


@examine(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_hold_out_is_stratified_and_leaves_each_client_something(data):
    clients = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=8))
    fraction = data.draw(st.floats(0.0, 0.99))
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=sum(clients), max_size=sum(clients))))
    deal = Partition(rng(3).permutation(sum(clients)), np.concatenate([[0], np.cumsum(clients)]))
    train, held = holdout(deal, labels, fraction, rng(1))
    before = deal.counts(labels, 4)
    after = held.counts(labels, 4)
    assert np.array_equal(train.counts(labels, 4) + after, before)
    for i, size in enumerate(clients):
        assert set(train.client(i)) | set(held.client(i)) == set(deal.client(i))
        wanted = min(int(np.floor(fraction * size + 0.5)), size - 1)
        assert held.sizes[i] == wanted and train.sizes[i] >= 1
        assert (np.abs(after[i] - before[i] * wanted / size) < 1 + 1e-9).all()  # largest remainders: within one


def test_a_tenth_of_fifty_and_fifty_is_five_and_five_and_shuffled():
    labels = np.repeat([0, 1], 50)
    deal = Partition(np.arange(100), np.array([0, 100]))
    train, held = holdout(deal, labels, 0.1, rng())
    assert held.counts(labels, 2).tolist() == [[5, 5]]
    assert (np.diff(labels[train.client(0)]) != 0).sum() > 10  # label-sorted would change once
    other = holdout(deal, labels, 0.1, rng(1))[1]
    assert set(held.indices) != set(other.indices)


def test_no_sample_of_another_client_enters_the_hold_out_of_a_sorted_partition():
    labels = np.repeat(np.arange(10), 100)
    deal = Shards(2).deal(labels, 10, rng())
    _, held = holdout(deal, labels, 0.1, rng())
    classes = (deal.counts(labels, 10) > 0).sum(axis=1)
    assert ((held.counts(labels, 10) > 0).sum(axis=1) == classes).all()  # the tail of a list would give one class


@examine(max_examples=200, deadline=None)
@given(
    weights=st.lists(st.floats(1e-200, 1e6), min_size=1, max_size=30),
    minimum=st.integers(0, 3),
    extra=st.integers(0, 99),
)
def test_apportioned_numbers_sum_to_the_total_and_respect_the_minimum(weights, minimum, extra):
    total = minimum * len(weights) + extra
    numbers = apportion(np.array(weights), total, minimum)
    assert numbers.sum() == total and numbers.min() >= minimum


def test_apportioning_by_hand():
    # Shares 1.6, 3.2, 3.2 of 8: floors 1, 3, 3, and the one left goes to the largest remainder, 0.6.
    assert apportion(np.array([1.0, 2.0, 2.0]), 8).tolist() == [2, 3, 3]
    # 0.08 of 8 lies under the minimum 2; the other 6 are divided 1 : 1.
    assert apportion(np.array([0.01, 0.5, 0.5]), 8, 2).tolist() == [2, 3, 3]
