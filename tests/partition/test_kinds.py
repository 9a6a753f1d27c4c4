"""Every kind of partition: what must hold for all of them, and what each one promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examine
from hypothesis import strategies as st

from fedlens.errors import ConfigurationError, FedlensError
from fedlens.partition import (
    IID,
    PARTITIONS,
    Classes,
    Dirichlet,
    Natural,
    Quantity,
    Shards,
    UnbalancedShards,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def balanced(each, classes=10):
    """`each` labels of each class, in a scrambled order."""
    return rng(99).permutation(np.repeat(np.arange(classes), each))


KINDS = {
    "iid": st.just(IID()),
    "shards": st.builds(Shards, st.integers(1, 4)),
    "unbalanced-shards": st.builds(UnbalancedShards, st.just(1), st.integers(1, 30), st.integers(20, 60)),
    "dirichlet": st.builds(Dirichlet, st.sampled_from([0.01, 0.1, 1.0, 100.0]), st.integers(1, 3)),
    "classes": st.builds(Classes, st.integers(1, 4)),
    "quantity": st.builds(Quantity, st.sampled_from([0.0, 0.5, 2.0, 200.0]), st.integers(1, 3)),
    "natural": st.just(Natural("writer")),
}


def test_the_examined_kinds_are_all_kinds():
    assert set(KINDS) == set(PARTITIONS)


@pytest.mark.parametrize("name", KINDS)
@examine(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_sample_is_dealt_once_and_counts_are_exact(name, data):
    kind = data.draw(KINDS[name])
    clients = data.draw(st.integers(1, 20))
    labels = np.array(data.draw(st.lists(st.integers(0, 4), min_size=4 * clients + 60, max_size=4 * clients + 80)))
    labels[:20] = np.repeat(np.arange(4), 5)  # four classes are present
    column = np.arange(len(labels)) % clients
    if name == "classes":  # it refuses a class with fewer samples than holders
        labels = np.sort(np.arange(len(labels)) % 5)
        clients = min(clients, len(labels) // 5)
    deal = kind.deal(labels, clients, rng(1), column)
    assert len(deal) == clients and deal.sizes.min() >= 1
    assert deal.check(len(labels), name) is deal
    assert len(set(deal.indices.tolist())) == len(deal.indices)
    counts = deal.counts(labels, 5)
    for client in range(clients):
        assert counts[client].tolist() == [(labels[deal.client(client)] == c).sum() for c in range(5)]
    if name != "classes":
        assert len(deal.indices) == len(labels)
    again = kind.deal(labels, clients, rng(1), column)
    assert np.array_equal(deal.indices, again.indices) and np.array_equal(deal.offsets, again.offsets)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "natural"])
def test_another_seed_deals_otherwise(name):
    labels = balanced(200)
    first, second = (PARTITIONS[name]().deal(labels, 20, rng(seed)) for seed in (1, 2))
    assert not np.array_equal(first.indices, second.indices)
    order = [set(first.client(i).tolist()) == set(second.client(i).tolist()) for i in range(20)]
    assert not any(order), "the clients are the same sets in another order"


@pytest.mark.parametrize("name", [name for name in KINDS if name != "natural"])
def test_a_deal_leaves_the_labels_alone_and_any_number_type_will_do(name):
    labels = balanced(100)
    before = labels.copy()
    deal = PARTITIONS[name]().deal(labels, 10, rng())
    assert np.array_equal(labels, before)
    assert deal.indices.dtype == deal.offsets.dtype == np.int64


def test_iid_clients_differ_by_one_sample_at_most():
    assert IID().deal(balanced(10), 7, rng()).sizes.tolist() == [15, 15, 14, 14, 14, 14, 14]  # 100 = 2 * 15 + 5 * 14


def test_a_client_of_two_shards_holds_at_most_two_classes_where_shards_divide_classes():
    labels = balanced(100)  # 1000 samples in 20 shards of 50: every shard lies inside one class of 100
    deal = Shards(2).deal(labels, 10, rng())
    assert (deal.sizes == 100).all()
    assert (deal.counts(labels, 10) > 0).sum(axis=1).max() <= 2


def test_a_shard_is_a_draw_from_its_class_and_not_a_piece_of_the_file():
    deal = Shards(2).deal(np.repeat([0, 1], 100), 5, rng())  # in the order of the file, shards would be runs
    steps = [np.diff(deal.client(i)) for i in range(5)]
    assert all((step != 1).sum() > 10 for step in steps)


def test_a_shard_across_a_boundary_adds_one_class_at_most():
    labels = balanced(100)
    deal = Shards(2).deal(labels, 7, rng())  # 14 shards of 71 or 72: some straddle two classes
    assert (deal.counts(labels, 10) > 0).sum(axis=1).max() <= 4
    assert deal.sizes.sum() == 1000 and np.ptp(deal.sizes) <= 2


def test_unbalanced_shards_deal_whole_shards_and_all_of_them():
    labels = balanced(200)  # 2000 samples, 1000 shards of 2
    deal = UnbalancedShards().deal(labels, 100, rng())
    assert (deal.sizes % 2 == 0).all() and deal.sizes.sum() == 2000
    assert deal.sizes.min() >= 2
    # 1 .. 30 scaled by 1000 / (100 * 15.5) = 0.645: from 1 to about 19.4 shards of 2 samples.
    assert 30 <= deal.sizes.max() <= 46


def test_dirichlet_follows_its_moments():
    # p ~ Dir(a, ..., a) over K clients has mean 1/K and variance (1/K)(1 - 1/K)/(K a + 1); K = 5, a = 1: 0.16/6.
    labels = balanced(1000, classes=400)
    shares = Dirichlet(1.0).deal(labels, 5, rng()).counts(labels, 400) / 1000
    assert shares.mean() == pytest.approx(0.2)
    assert shares.var() == pytest.approx(0.16 / 6, rel=0.15)


def test_a_large_alpha_is_nearly_iid_and_a_small_one_is_not():
    labels = balanced(1000)
    even, skewed = (Dirichlet(alpha).deal(labels, 10, rng()).counts(labels, 10) for alpha in (1e4, 0.01))
    assert np.abs(even - 100).max() <= 15
    assert (skewed > 0).sum(axis=1).mean() < 5


def test_dirichlet_tops_small_clients_up_from_the_largest():
    labels = balanced(100)
    deal = Dirichlet(0.001, min_size=20).deal(labels, 40, rng())
    assert deal.sizes.min() == 20 and deal.sizes.sum() == 1000
    tight = Dirichlet(0.001, min_size=25).deal(labels, 40, rng())
    assert (tight.sizes == 25).all()  # 40 * 25 = 1000: nothing else fits


def test_every_client_has_exactly_its_classes_and_every_class_a_holder():
    labels = balanced(100)
    for clients, each in ((20, 3), (5, 2), (4, 3), (10, 1), (3, 10)):
        counts = Classes(each).deal(labels, clients, rng()).counts(labels, 10)
        assert ((counts > 0).sum(axis=1) == each).all()
        assert (counts.sum(axis=0) == 100).all(), "a class was left over"
        for share in counts.T:
            assert np.ptp(share[share > 0]) <= 1, "a class was not divided evenly"


def test_classes_nobody_holds_stay_unused():
    labels = balanced(100)
    assert len(Classes(2).deal(labels, 3, rng()).indices) == 600  # 3 clients * 2 classes * 100 samples


def test_classes_that_do_not_occur_are_not_dealt():
    labels = np.repeat([3, 7], 50)
    counts = Classes(2).deal(labels, 5, rng()).counts(labels, 10)
    assert (counts[:, [3, 7]] == 10).all()


def test_classes_are_dealt_in_blocks_as_well_as_at_once(monkeypatch):
    labels = balanced(100)
    monkeypatch.setattr("fedlens.partition.classes.CELLS", 35)  # three clients at a time
    counts = Classes(2).deal(labels, 17, rng()).counts(labels, 10)
    assert ((counts > 0).sum(axis=1) == 2).all() and counts.sum() == 1000


def test_quantity_without_sigma_is_equal_and_with_it_is_log_normal():
    labels = balanced(10_000)
    assert np.ptp(Quantity(0.0).deal(labels, 30, rng()).sizes) <= 1
    logs = np.log(Quantity(1.0).deal(labels, 1000, rng()).sizes)
    assert logs.std() == pytest.approx(1.0, rel=0.1)


def test_natural_clients_are_the_distinct_values_in_order():
    column = np.array(["b", "a", "c", "a", "b", "a"])
    deal = Natural("writer").deal(np.zeros(6, dtype=np.int64), 3, rng(), column)
    assert [deal.client(i).tolist() for i in range(3)] == [[1, 3, 5], [0, 4], [2]]
    mixed = np.array(["b", None, "c", "a", "b", "a"], dtype=object)
    assert len(Natural("writer").deal(np.zeros(6, dtype=np.int64), 4, rng(), mixed)) == 4


def test_natural_clients_whose_samples_lie_together_are_taken_as_they_lie():
    class Together:
        offsets = np.array([0, 2, 3, 7])

        def __len__(self):
            return 7

    deal = Natural("writer").deal(np.zeros(7, dtype=np.int64), 3, rng(), Together())
    assert deal.indices == range(7) and deal.offsets is Together.offsets
    with pytest.raises(ConfigurationError, match="3 distinct values for 4 clients"):
        Natural("writer").deal(np.zeros(7, dtype=np.int64), 4, rng(), Together())
    with pytest.raises(ConfigurationError, match="7 values for 9 samples"):
        Natural("writer").deal(np.zeros(9, dtype=np.int64), 3, rng(), Together())


LABELS = balanced(10)  # 100 samples of 10 classes

REFUSED = [
    (IID(), 101, "101 clients cannot share 100 samples", "fewer clients"),
    (IID(), 0, "0 clients cannot share 100 samples", ""),
    (Shards(2), 51, "100 samples cannot be cut into 102 shards", "per_client to 1 or less"),
    (UnbalancedShards(), 10, "100 samples cannot be cut into 1000 shards", "shards to 100 or less"),
    (UnbalancedShards(3, 5, 50), 20, "need 60 shards", "shards to 60 or more"),
    (Dirichlet(min_size=11), 10, "10 clients with at least 11 samples each cannot share 100", "smaller min_size"),
    (Quantity(min_size=11), 10, "10 clients with at least 11 samples each cannot share 100", "smaller min_size"),
    (Classes(11), 10, "cannot hold 11 classes of 10", "per_client to 10 or less"),
    (Classes(10), 11, "class 0 has 10 samples for the 11 clients", "fewer clients"),
    (Natural("site"), 10, "the data have no column 'site'", "Name a column"),
]


@pytest.mark.parametrize(("kind", "clients", "what", "do"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_cannot_be_dealt_is_refused_with_numbers_and_a_way_out(kind, clients, what, do):
    with pytest.raises(ConfigurationError) as caught:
        kind.deal(LABELS, clients, rng())
    problem = caught.value.problems[0]
    assert what in problem.what and do in problem.do
    assert problem.where.startswith(kind.kind) and caught.value.exit_code == 2


def test_natural_names_both_numbers_when_the_clients_are_not_the_values():
    with pytest.raises(ConfigurationError, match=r"'site' has 3 distinct values for 5 clients") as caught:
        Natural("site").deal(LABELS, 5, rng(), np.arange(100) % 3)
    assert "Set clients.count to 3" in str(caught.value)
    with pytest.raises(ConfigurationError, match="7 values for 100 samples"):
        Natural("site").deal(LABELS, 5, rng(), np.arange(7))


def test_parameters_are_checked_when_they_are_written():
    for wrong in (lambda: Shards(0), lambda: Dirichlet(-1.0), lambda: Quantity(-0.1), lambda: UnbalancedShards(5, 2)):
        with pytest.raises(FedlensError):
            wrong()
