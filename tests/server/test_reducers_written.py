"""A reducer as a user writes it: a value, a table, a short text; and what a wrong one is told."""

from __future__ import annotations

import pytest

from fedlens.errors import ConfigurationError
from fedlens.server import Bulyan, GeometricMedian, Krum, Mean, Median, MultiKrum, NormClip, Server, TrimmedMean


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("mean", Mean()),
        ("median", Median()),
        ("trimmed-mean", TrimmedMean(0.1)),
        ("trimmed-mean:0.2", TrimmedMean(0.2)),
        ("trimmed-mean:0", TrimmedMean(0.0)),
        (" krum : 2 ", Krum(2)),
        ("multi-krum:2", MultiKrum(2)),
        ("bulyan:0", Bulyan(0)),
        ("geometric-median:8", GeometricMedian(8)),
        ("norm-clip", NormClip(None)),
        ("norm-clip:5", NormClip(5.0)),
        ({"kind": "multi-krum", "keep": 3}, MultiKrum(1, 3)),
        ({"kind": "geometric-median", "eps": 0.1}, GeometricMedian(50, 0.1)),
        (Krum(2), Krum(2)),
    ],
)
def test_every_way_to_write_a_reducer_means_the_same(written, meant):
    assert Server(reduce=written).reduce == meant
    assert Server().reduce == Mean()


@pytest.mark.parametrize(
    ("written", "where", "what", "do"),
    [
        ("medain", "Server.reduce", "'medain' is not a known reducer", "did you mean 'median'?"),
        ("xyzzy", "Server.reduce", "'xyzzy' is not a known reducer", "one of: mean, median"),
        ({"kind": "bulian"}, "Server.reduce", "no such kind", "Did you mean 'bulyan'?"),
        ({"kind": "krum", "attacker": 1}, "Server.reduce.attacker", "'attacker' is not a known key", "'attackers'"),
        ("median:2", "Server.reduce", "'median' takes no parameter", "write 'median'"),
        ("krum:", "Server.reduce", "'krum:' ends after the colon", "a value for attackers"),
        ("krum:two", "Server.reduce", "'two' in 'krum:two' is not a number", "a number for attackers"),
        ("krum:-1", "Server.reduce.attackers", "greater than or equal to 0", ""),
        ("krum:1.5", "Server.reduce.attackers", "valid integer", ""),
        ("trimmed-mean:0.5", "Server.reduce.part", "less than 0.5", ""),
        ("norm-clip:0", "Server.reduce.norm", "greater than 0", ""),
        ({"kind": "multi-krum", "keep": 0}, "Server.reduce.keep", "greater than or equal to 1", ""),
    ],
)
def test_a_wrong_reducer_is_told_with_its_place_and_what_to_write(written, where, what, do):
    with pytest.raises(ConfigurationError) as refused:
        Server(reduce=written)
    (problem,) = refused.value.problems
    assert problem.where == where and what in problem.what and do in problem.do
