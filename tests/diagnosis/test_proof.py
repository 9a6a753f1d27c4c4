"""When a remedy is proven: intervals hold what they promise, and shares of a gap have one too."""

import math
import statistics

import numpy as np
import pytest

from fedlens.diagnosis.repair.proof import MANY, gain, interval, share


def test_intervals_are_those_of_the_t_distribution():
    low, high = interval([0.1, 0.2, 0.3])
    assert (low + high) / 2 == pytest.approx(0.2) and high - 0.2 == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert interval([0.2]) == (-math.inf, math.inf)


def test_six_gains_of_very_different_size_are_a_proof_and_five_are_not():
    uneven = [0.6, *[0.02] * 5]
    assert interval(uneven)[0] < 0
    found = gain([0.0] * MANY, uneven)
    assert found.proven and (found.low, found.high) == (0.02, 0.6) and "of the median" in str(found)
    assert not gain([0.0] * 5, uneven[:5]).proven
    assert not gain([0.0] * MANY, [*uneven[:5], -0.001]).proven


def test_a_gain_below_a_point_is_none():
    assert not gain([0.5] * 3, [0.505, 0.506, 0.507]).proven
    assert gain([0.5] * 3, [0.55, 0.56, 0.57]).proven


def test_without_an_effect_hardly_anything_is_proven():
    draw = np.random.default_rng(0)
    rows = draw.normal(0, 0.1, (2000, MANY))
    first = [gain([0.0] * 3, row[:3]) for row in rows]
    pairs = zip(first, rows, strict=True)
    both = [one.proven or (min(row[:3]) > 0 and gain([0.0] * MANY, row).proven) for one, row in pairs]
    assert statistics.fmean(both) < 0.05


def test_the_share_of_a_gap_has_an_interval_that_covers_it():
    draw, inside = np.random.default_rng(1), 0
    for _ in range(1000):
        before = draw.normal(0.5, 0.02, 3)
        gap = draw.normal(0.3, 0.02, 3)
        found = share(before, before + 0.9 * gap + draw.normal(0, 0.01, 3), before + gap)
        inside += found.low < 0.9 < found.high
    assert 0.92 < inside / 1000 < 0.98


def test_where_every_seed_recovers_the_same_part_the_share_is_sure():
    found = share([0.1, 0.2, 0.3], [0.55, 0.55, 0.6], [0.6, 0.5889, 0.6333])
    assert found.mean == pytest.approx(0.9, abs=1e-3) and found.high - found.low < 0.01
    assert math.isnan(share([0.5] * 3, [0.6] * 3, [0.505] * 3).mean)
    assert share([0.1], [0.2], [0.3, 0.4]) == (pytest.approx(0.5), -math.inf, math.inf)
