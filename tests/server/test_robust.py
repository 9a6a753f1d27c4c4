"""Rules that make one upload of many: hand-derived numbers, what they withstand, what they refuse."""

from __future__ import annotations

import statistics

import pytest
import torch
from torch import Tensor

from fedlens.errors import ConfigurationError, RunError
from fedlens.server import (
    REDUCERS,
    Bulyan,
    GeometricMedian,
    Krum,
    Mean,
    Median,
    MultiKrum,
    NormClip,
    Sum,
    TrimmedMean,
)
from fedlens.server.krum import squared_distances

ALL = [Mean(), Median(), TrimmedMean(0.2), Krum(), MultiKrum(), Bulyan(), GeometricMedian(), NormClip()]
ROBUST = [Median(), TrimmedMean(0.2), Krum(), MultiKrum(), Bulyan(), GeometricMedian()]
UNWEIGHTED = [Median(), TrimmedMean(0.2), Krum(), MultiKrum(), Bulyan()]


def kind_of(rule: object) -> str:
    return rule.kind if hasattr(rule, "kind") else str(rule)


def rows(*values: list[float] | float) -> Tensor:
    """[m, P] in float64; a number is a row of one."""
    return torch.tensor([value if isinstance(value, list) else [value] for value in values], dtype=torch.float64)


def ones(vectors: Tensor) -> Tensor:
    return torch.ones(len(vectors), dtype=torch.float64)


def noise(m: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(m, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(one: Tensor, other: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


# By hand


def test_the_mean_is_weighted():
    same(Mean().reduce(rows([0, 0], [4, 8]), torch.tensor([1.0, 3.0])), rows([3, 6])[0])


def test_the_mean_is_the_sum_of_the_server_to_the_bit():
    vectors, weights = noise(6, 50).float(), torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    total = Sum()
    for vector, weight in zip(vectors, weights, strict=True):
        total.add(vector, float(weight))
    assert torch.equal(Mean().reduce(vectors, weights), total.mean())


def test_the_median_is_taken_coordinate_by_coordinate():
    vectors = rows([1, 10], [2, -5], [9, 0])
    same(Median().reduce(vectors, ones(vectors)), rows([2, 0])[0])  # none of the three rows


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two():
    vectors = rows([1, 10], [2, -5], [9, 0], [4, 2])  # 1 2 4 9 -> 3; -5 0 2 10 -> 1
    same(Median().reduce(vectors, ones(vectors)), rows([3, 1])[0])


def test_the_trimmed_mean_drops_the_ends_of_every_coordinate():
    vectors = rows([4, 7], [100, -90], [1, 8], [9, 6], [2, 99])
    # part 0.2 of 5 is one at either end: (2 + 4 + 9) / 3 and (6 + 7 + 8) / 3
    same(TrimmedMean(0.2).reduce(vectors, ones(vectors)), rows([5, 7])[0])


@pytest.mark.parametrize(("part", "m", "dropped"), [(0.1, 10, 1), (0.19, 10, 1), (0.2, 10, 2), (0.29, 100, 29)])
def test_the_trimmed_part_is_counted_as_written_in_decimals(part, m, dropped):
    # 0.29 * 100 is 28.999999999999996 in floating point. Of the values i^2, the mean without both ends tells the count.
    vectors = torch.arange(m, dtype=torch.float64)[:, None] ** 2
    same(TrimmedMean(part).reduce(vectors, ones(vectors)), vectors[dropped : m - dropped].mean(0), atol=1e-9)


def test_a_trimmed_mean_of_part_0_is_the_plain_mean():
    vectors = noise(5, 9)
    same(TrimmedMean(0.0).reduce(vectors, ones(vectors)), Mean().reduce(vectors, ones(vectors)))


# On a line at 0 1 3 6 100 with f = 1 the nearest 5 - 1 - 2 = 2 count:
#   0: 1 + 9 = 10    1: 1 + 4 = 5    3: 4 + 9 = 13    6: 9 + 25 = 34    100: 94^2 + 97^2
LINE = rows(6, 0, 100, 1, 3)


def test_krum_is_the_row_that_lies_nearest_its_neighbours():
    same(Krum(1).reduce(LINE, ones(LINE)), rows(1)[0])


def test_krum_hands_out_a_copy():
    vectors = LINE.clone()
    Krum(1).reduce(vectors, ones(vectors)).zero_()
    assert torch.equal(vectors, LINE)


def test_krum_takes_the_first_of_equal_scores():
    # f = 0 and m = 3: one neighbour counts; all three scores are 1
    same(Krum(0).reduce(rows(2, 1, 0), ones(rows(2, 1, 0))), rows(2)[0])
    same(Krum(0).reduce(rows(0, 1, 2), ones(rows(0, 1, 2))), rows(0)[0])


@pytest.mark.parametrize(
    ("keep", "mean"), [(1, 1), (2, (1 + 0) / 2), (3, (1 + 0 + 3) / 3), (None, (1 + 0 + 3 + 6) / 4), (5, 110 / 5)]
)
def test_multi_krum_is_the_mean_of_the_best(keep, mean):
    same(MultiKrum(1, keep).reduce(LINE, ones(LINE)), rows(mean)[0])


def test_bulyan_chooses_again_among_the_remaining_and_averages_around_the_median():
    # On a line at 0 1 3 5 10 15 100, f = 1: theta = 5 are chosen, beta = 3 averaged. Scores and the choice:
    #   of 7, 4 nearest: 0: 135   1: 102   3: 66   5: 70   10: 180   15: 25 + 100 + 144 + 196 = 465      -> 3
    #   of 6, 3 nearest: 0: 126   1: 98            5: 66   10: 131   15: 25 + 100 + 196 = 321            -> 5
    #   of 5, 2 nearest: 0: 101   1: 82                    10: 106   15: 25 + 196 = 221                  -> 1
    #   of 4, 1 nearest: 0: 100                            10: 25    15: 25, a tie                       -> 10
    #   of 3, 0 nearest, so 1: 0: 225                                15: 225, a tie   100: 85^2          -> 0
    # 0 1 3 5 10 has the median 3, and 3 1 5 are nearest: 9 / 3. The second coordinate is -2 times the first: the order
    # of all distances stays.
    first = rows(0, 1, 3, 5, 10, 15, 100)
    vectors = torch.cat([first, -2 * first], dim=1)
    same(Bulyan(1).reduce(vectors, ones(vectors)), rows([3, -6])[0])


def bulyan_as_written(models: list[list[float]], f: int) -> list[float]:
    """Bulyan of plain lists, as slow as it reads."""
    left, chosen, theta = list(models), [], len(models) - 2 * f
    while len(chosen) < theta:
        count = max(1, len(left) - f - 2)
        away = [sorted(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in left) for x in left]
        scores = [sum(row[1 : 1 + count]) for row in away]  # row[0] is the distance to itself
        chosen.append(left.pop(scores.index(min(scores))))
    found = []
    for values in zip(*chosen, strict=True):
        median = statistics.median(values)
        found.append(statistics.fmean(sorted(values, key=lambda value, m=median: abs(value - m))[: theta - 2 * f]))
    return found


@pytest.mark.parametrize(("m", "f"), [(7, 1), (8, 1), (11, 2), (13, 2)])
def test_bulyan_is_what_its_steps_say(m, f):
    for seed in range(5):
        vectors = noise(m, 6, seed)
        same(Bulyan(f).reduce(vectors, ones(vectors)), rows(bulyan_as_written(vectors.tolist(), f))[0])


def test_bulyan_without_attackers_is_the_plain_mean():
    vectors = noise(5, 9)  # theta = m, beta = m
    same(Bulyan(0).reduce(vectors, ones(vectors)), vectors.mean(0))


def test_the_geometric_median_of_points_on_a_line_is_the_middle_one():
    vectors = rows([0, 0], [10, 20], [1, 2])
    same(GeometricMedian().reduce(vectors, ones(vectors)), rows([1, 2])[0], atol=1e-5)


def test_the_geometric_median_of_an_equilateral_triangle_is_its_centroid():
    vectors = rows([0, 0], [2, 0], [1, 3**0.5])
    same(GeometricMedian().reduce(vectors, ones(vectors)), rows([1, 1 / 3**0.5])[0], atol=1e-6)


def test_the_geometric_median_of_a_tall_triangle_sees_every_side_under_120_degrees():
    # Base (-1, 0) (1, 0), top (0, 3): half the angle over the base is 60 degrees at height 1 / tan 60 = 1 / sqrt 3. The
    # centroid, where the search begins, is at height 1.
    vectors = rows([-1, 0], [1, 0], [0, 3])
    same(GeometricMedian().reduce(vectors, ones(vectors)), rows([0, 1 / 3**0.5])[0], atol=1e-5)


def test_the_geometric_median_goes_where_more_than_half_the_weight_lies():
    vectors = rows([0, 0], [1, 2], [10, 20])
    found = GeometricMedian().reduce(vectors, torch.tensor([1.0, 1.0, 3.0]))
    same(found, rows([10, 20])[0], atol=1e-5)


def test_more_weiszfeld_steps_come_nearer():
    vectors = rows([-1, 0], [1, 0], [0, 3])
    errors = [abs(GeometricMedian(n).reduce(vectors, ones(vectors))[1].item() - 3**-0.5) for n in (1, 4, 16)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize("norm", [5.0, None])
def test_norm_clip_shortens_what_is_too_long_and_then_weighs(norm):
    vectors = rows([3, 4], [0, 10], [0, 1])  # lengths 5 10 1, their median 5: (0, 10) becomes (0, 5)
    same(NormClip(norm).reduce(vectors, ones(vectors)), rows([1, 10 / 3])[0])
    same(NormClip(norm).reduce(vectors, torch.tensor([1.0, 2.0, 1.0])), rows([3 / 4, (4 + 10 + 1) / 4])[0])


def test_norm_clip_leaves_short_uploads_and_zeros_alone():
    vectors = noise(4, 6)
    vectors[0] = 0
    same(NormClip(1e3).reduce(vectors, ones(vectors)), vectors.mean(0))
    assert not NormClip().reduce(torch.zeros(3, 4), torch.ones(3)).any()


# All alike


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", ALL, ids=kind_of)
def test_equal_rows_reduce_to_that_row(rule, dtype):
    row = noise(1, 40).to(dtype)
    found = rule.reduce(row.repeat(7, 1), torch.arange(1, 8))
    assert found.dtype == dtype and found.shape == (40,)
    torch.testing.assert_close(found, row[0])


@pytest.mark.parametrize(
    ("rule", "m"), [(rule, 9) for rule in ALL if not isinstance(rule, Bulyan)] + [(Bulyan(3), 15)], ids=kind_of
)
def test_the_order_of_the_rows_changes_nothing(rule, m):
    # Bulyan's last choice takes f - 1 distances: with one, two mutual nearest neighbours tie, and the first wins.
    vectors, weights = noise(m, 30), torch.arange(1.0, m + 1)
    order = torch.randperm(m, generator=torch.Generator().manual_seed(1))
    same(rule.reduce(vectors[order], weights[order]), rule.reduce(vectors, weights), atol=1e-9)


@pytest.mark.parametrize("rule", ALL, ids=kind_of)
def test_the_uploads_are_left_as_they_came(rule):
    vectors, weights = noise(7, 30), torch.ones(7)
    before = vectors.clone()
    rule.reduce(vectors, weights)
    assert torch.equal(vectors, before)


@pytest.mark.parametrize("rule", ALL, ids=kind_of)
def test_a_model_wider_than_one_piece_of_columns_is_reduced_as_a_whole(rule, monkeypatch):
    vectors, weights = noise(7, 41), torch.arange(1.0, 8)
    whole = rule.reduce(vectors, weights)
    monkeypatch.setattr("fedlens.server.reduce.COLUMNS", 4)
    monkeypatch.setattr("fedlens.server.krum.COLUMNS", 4)
    same(rule.reduce(vectors, weights), whole)


@pytest.mark.parametrize("rule", UNWEIGHTED, ids=kind_of)
def test_some_rules_ignore_the_weights(rule):
    vectors = noise(7, 30)
    assert torch.equal(rule.reduce(vectors, torch.arange(1.0, 8)), rule.reduce(vectors, torch.ones(7)))


@pytest.mark.parametrize("rule", [Mean(), GeometricMedian(), NormClip()], ids=kind_of)
def test_to_the_other_rules_weights_matter_but_not_their_scale(rule):
    vectors, weights = noise(7, 30), torch.arange(1.0, 8)
    weighted = rule.reduce(vectors, weights)
    assert (weighted - rule.reduce(vectors, torch.ones(7))).abs().max() > 0.01
    same(rule.reduce(vectors, weights * 100), weighted, atol=1e-9)


def test_distances_stay_exact_far_from_the_origin():
    # 1e8 + 0 and 1e8 + 3: ||x||^2 + ||y||^2 - 2xy would lose the 9 among numbers of 1e16.
    found = squared_distances(rows(1e8, 1e8 + 3, 1e8 + 3))
    assert found.tolist() == [[0, 9, 9], [9, 0, 0], [9, 0, 0]]


# What they withstand


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", ROBUST, ids=kind_of)
def test_one_of_seven_moved_to_a_million_is_ignored_where_the_mean_is_not(rule, dtype):
    vectors = noise(7, 30).to(dtype)
    honest = vectors[:6]
    vectors[6] = 1e6
    spread = honest.amax(0) - honest.amin(0)
    assert ((rule.reduce(vectors, torch.ones(7)) - honest.mean(0)).abs() <= spread).all()
    assert (Mean().reduce(vectors, torch.ones(7)) > 1e5).all()


def test_norm_clip_bounds_what_one_upload_can_do():
    vectors = noise(7, 30)
    clean = NormClip(2.0).reduce(vectors, torch.ones(7))
    vectors[6] = 1e6
    # Two vectors of length 2 at most are 4 apart, and one of seven counts a seventh.
    assert (NormClip(2.0).reduce(vectors, torch.ones(7)) - clean).norm() <= 4 / 7 + 1e-9
    vectors[6] = 1e12
    assert NormClip().reduce(vectors, torch.ones(7)).norm() <= vectors[:6].norm(dim=1).max()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("rule", UNWEIGHTED, ids=kind_of)
def test_one_upload_that_is_not_finite_is_ignored_by_rules_that_sort_or_choose(rule, bad):
    vectors = noise(7, 30)
    vectors[2] = bad
    assert rule.reduce(vectors, torch.ones(7)).isfinite().all()


# What they refuse


@pytest.mark.parametrize(
    ("rule", "least"),
    [
        (Mean(), 1),
        (Median(), 1),
        (GeometricMedian(), 1),
        (NormClip(), 1),
        (TrimmedMean(0.0), 1),
        (TrimmedMean(0.1), 10),
        (TrimmedMean(0.3), 4),
        (TrimmedMean(0.49), 3),
        (Krum(0), 3),
        (Krum(1), 5),
        (Krum(3), 9),
        (MultiKrum(2), 7),
        (MultiKrum(1, keep=8), 8),
        (Bulyan(0), 3),
        (Bulyan(1), 7),
        (Bulyan(2), 11),
    ],
    ids=str,
)
def test_a_cohort_below_what_a_rule_needs_is_refused_before_the_run(rule, least):
    rule.check(least)
    with pytest.raises(ConfigurationError) as refused:
        rule.check(least - 1)
    told = str(refused.value)
    assert (
        rule.kind in told and f"at least {least} upload" in told and f"seen: {least - 1} in" in told and "do:" in told
    )


def test_the_refusal_says_how_many_attackers_are_possible():
    with pytest.raises(
        ConfigurationError, match=r"krum needs at least 9 uploads for 3 attackers \(2f \+ 3\)"
    ) as refused:
        Krum(3).check(8)
    assert "set attackers to 2" in str(refused.value)
    with pytest.raises(ConfigurationError, match="set attackers to 0"):
        Bulyan(1).check(6)
    with pytest.raises(ConfigurationError, match=r"Set part to 0\.143 or more, or to 0"):
        TrimmedMean(0.1).check(7)
    TrimmedMean(0.143).check(7)


@pytest.mark.parametrize("rule", [Krum(1), MultiKrum(1), Bulyan(1)], ids=kind_of)
def test_too_few_uploads_in_a_round_are_refused_there(rule):
    with pytest.raises(RunError, match="needs at least"):
        rule.reduce(noise(4, 3), torch.ones(4))


@pytest.mark.parametrize("rule", ALL, ids=kind_of)
def test_no_upload_at_all_is_refused(rule):
    with pytest.raises(RunError):
        rule.reduce(torch.zeros(0, 3), torch.zeros(0))


def test_a_trimmed_mean_survives_a_client_that_fails():
    # Planned for 10 of which it drops one at either end; 9 came, and a tenth of 9 is nobody.
    vectors = noise(9, 3)
    same(TrimmedMean(0.1).reduce(vectors, ones(vectors)), vectors.mean(0))


def test_the_table_names_every_kind():
    assert {kind: cls.__name__ for kind, cls in REDUCERS.items()} == {
        "mean": "Mean",
        "median": "Median",
        "trimmed-mean": "TrimmedMean",
        "krum": "Krum",
        "multi-krum": "MultiKrum",
        "bulyan": "Bulyan",
        "geometric-median": "GeometricMedian",
        "norm-clip": "NormClip",
    }
    assert all(cls().kind == kind for kind, cls in REDUCERS.items())
