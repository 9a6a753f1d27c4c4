"""A partition as a user writes it: a value, a table, a short text; and what a wrong one is told."""

from __future__ import annotations

import pytest

from fedlens.errors import ConfigurationError
from fedlens.partition import IID, AnyPartition, Classes, Dirichlet, Natural, Quantity, Shards, UnbalancedShards
from fedlens.settings import Count, settings


@settings
class Group:
    count: Count = 20
    partition: AnyPartition = IID()


@settings
class Whole:
    clients: Group = Group()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("iid", IID()),
        ("shards", Shards(2)),
        ("shards:3", Shards(3)),
        (" dirichlet : 0.1 ", Dirichlet(0.1)),
        ("dirichlet:1", Dirichlet(1.0)),
        ("classes:4", Classes(4)),
        ("quantity:0.5", Quantity(0.5)),
        ("natural:writer", Natural("writer")),
        ("natural:7", Natural("7")),
        ("unbalanced-shards:2", UnbalancedShards(2)),
        ({"kind": "shards", "per_client": 3}, Shards(3)),
        ({"kind": "dirichlet", "alpha": 0.3, "min_size": 5}, Dirichlet(0.3, 5)),
        ({"kind": "iid"}, IID()),
        (Quantity(2.0), Quantity(2.0)),
    ],
)
def test_every_way_to_write_a_partition_means_the_same(written, meant):
    assert Group(partition=written).partition == meant
    assert Whole(clients={"partition": written}).clients.partition == meant


@pytest.mark.parametrize(
    ("written", "where", "what", "do"),
    [
        ({"kind": "shards", "per_clint": 3}, "partition.per_clint", "'per_clint' is not a known key", "'per_client'"),
        ({"kind": "shards", "per_client": 0}, "partition.per_client", "greater than or equal to 1", ""),
        ({"kind": "shard"}, "partition", "no such kind", "Did you mean 'shards'?"),
        ({"kind": "natural"}, "partition.column", "'column' is missing", "Set column"),
        ("shard:2", "partition", "'shard' is not a known partition", "did you mean 'shards'?"),
        ("xyzzy", "partition", "'xyzzy' is not a known partition", "one of: iid, shards"),
        ("iid:2", "partition", "'iid' takes no parameter", "write 'iid'"),
        ("shards:", "partition", "ends after the colon", "a value for per_client"),
        ("shards:two", "partition", "'two' in 'shards:two' is not a number", "a number for per_client"),
        ("shards:2.5", "partition.per_client", "valid integer", ""),
        ("dirichlet:-1", "partition.alpha", "greater than 0", ""),
        ({"kind": "unbalanced-shards", "minimum": 9, "maximum": 3}, "partition", "minimum = 9 is above", "lower"),
    ],
)
def test_a_wrong_partition_is_told_at_its_key_with_the_nearest_name(written, where, what, do):
    with pytest.raises(ConfigurationError) as caught:
        Group(partition=written)
    (problem,) = caught.value.problems
    assert problem.where == f"Group.{where}"
    assert what in problem.what and do in problem.do
    with pytest.raises(ConfigurationError) as caught:
        Whole(clients={"partition": written})
    assert caught.value.problems[0].where == f"Whole.clients.{where}"


def test_a_table_without_kind_is_refused():
    with pytest.raises(ConfigurationError) as caught:
        Group(partition={"per_client": 3})
    assert caught.value.problems[0].where == "Group.partition"
    assert "kind" in str(caught.value)
