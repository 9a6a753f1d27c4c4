"""Who does what in a round."""

import numpy as np
import pytest

from fedlens import IID, Local, Server, Shards
from fedlens.engine import Federated, Pooled
from fedlens.engine.plan import Passes
from fedlens.partition import Quantity

LABELS = np.arange(100) % 5


def plan(partition=IID(), local=Local(epochs=2, batch=4), server=Server(), seed=0) -> Federated:  # noqa: B008
    deal = partition.deal(LABELS, 10, np.random.default_rng(0))
    return Federated(deal, 4, 20, local, server, seed)


def test_a_cohort_has_distinct_clients_and_every_client_is_drawn_equally_often():
    drawn = np.concatenate([[visit.client for visit in plan().visits(round)] for round in range(1, 1001)])
    assert all(len({v.client for v in plan().visits(round)}) == 4 for round in range(1, 21))
    counts = np.bincount(drawn, minlength=10)
    # 1000 rounds of 4 out of 10: mean 400, standard deviation sqrt(1000 * 0.4 * 0.6) = 15.5; five of them are 78.
    assert abs(counts - 400).max() < 78


def test_each_epoch_passes_once_over_all_examples_in_another_order():
    visit = plan().visits(3)[0]
    examples = plan().partition.client(visit.client)
    half = len(visit.batches) // 2
    first, second = np.concatenate(visit.batches[:half]), np.concatenate(visit.batches[half:])
    assert sorted(first) == sorted(second) == sorted(examples)
    assert first.tolist() != second.tolist()
    assert [len(batch) for batch in visit.batches[:half]] == [4, 4, 2]  # the short batch is kept


def test_batches_depend_on_seed_round_and_client_and_on_nothing_else():
    one, again = plan().visits(5)[1], plan().visits(5)[1]
    assert all((a == b).all() for a, b in zip(one.batches, again.batches, strict=True))
    other = plan(seed=1)
    assert [v.client for r in range(1, 9) for v in plan().visits(r)] != [
        v.client for r in range(1, 9) for v in other.visits(r)
    ]


def test_a_client_weighs_by_its_examples_or_as_one():
    sizes = plan(Quantity()).partition.sizes
    assert all(visit.weight == sizes[visit.client] for visit in plan(Quantity()).visits(1))
    assert {visit.weight for visit in plan(Quantity(), server=Server("uniform")).visits(1)} == {1.0}


def test_the_rate_follows_the_clients_size_where_it_is_asked_to():
    quantity = plan(Quantity(), Local(lr=0.1, scale_lr_by_size=True))
    sizes = quantity.partition.sizes
    for visit in quantity.visits(2):
        assert visit.rate == pytest.approx(0.1 * sizes[visit.client] / sizes.mean())


def test_pooled_rounds_cut_one_long_training_into_pieces():
    indices = np.arange(10)
    pooled = Pooled(indices, steps=2, rounds=6, local=Local(batch=4), seed=3)
    cut = [batch for round in range(1, 7) for batch in pooled.visits(round)[0].batches]
    whole = list(Passes(indices, 4, 12, 3, "pooled"))
    assert all((a == b).all() for a, b in zip(cut, whole, strict=True))
    # 12 steps are four passes of three batches (4, 4, 2), each over all ten examples.
    assert all(sorted(np.concatenate(cut[i : i + 3])) == list(range(10)) for i in (0, 3, 6, 9))


def test_shards_deal_two_classes_to_a_client():
    deal = plan(Shards(2)).partition
    assert (deal.counts(LABELS, 5) > 0).sum(1).max() <= 2
