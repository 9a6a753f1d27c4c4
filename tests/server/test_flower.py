"""The same updates through Flower's aggregation functions: another reading of the same papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedlens.server import Bulyan, Krum, Median, MultiKrum, TrimmedMean

pytest.importorskip("flwr", reason="Flower is not installed: pip install flwr")
theirs = pytest.importorskip("flwr.server.strategy.aggregate", reason="this Flower has no strategy.aggregate")

SEEDS = range(5)
# (clients, attackers that lie far off)
COHORTS = [(7, 1), (8, 1), (11, 2), (15, 3)]


def uploads(m: int, attackers: int, seed: int, dtype: type = np.float64) -> list[list[np.ndarray]]:
    """`m` models of two layers, [3, 4] and [5]; the last `attackers` far away in a direction of their own."""
    rng = np.random.default_rng(seed)
    made = [[rng.normal(size=(3, 4)).astype(dtype), rng.normal(size=5).astype(dtype)] for _ in range(m)]
    for i, model in enumerate(made[m - attackers :]):
        model[0] += 50 * (i + 1)
    return made


def results(models: list[list[np.ndarray]]) -> list[tuple[list[np.ndarray], int]]:
    """As Flower takes them. Equal numbers of examples: its Multi-Krum weighs the chosen by theirs, ours does not."""
    return [(model, 10) for model in models]


def flat(model: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([layer.ravel() for layer in model]))


def ours(rule: object, models: list[list[np.ndarray]]) -> torch.Tensor:
    vectors = torch.stack([flat(model) for model in models])
    return rule.reduce(vectors, torch.full((len(models),), 10.0))


def same(rule: object, models: list[list[np.ndarray]], their_model: list[np.ndarray]) -> None:
    torch.testing.assert_close(ours(rule, models), flat(their_model), rtol=1e-6, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("m", "f"), COHORTS)
def test_medians_and_trimmed_means_agree(m, f, seed, dtype):
    models = uploads(m, f, seed, dtype)
    same(Median(), models, theirs.aggregate_median(results(models)))
    for part in (0.0, 0.1, 0.2, 0.4):
        same(TrimmedMean(part), models, theirs.aggregate_trimmed_avg(results(models), part))


def test_a_trimmed_part_that_floating_point_rounds_down_differs():
    # int(0.29 * 100) is 28 in floating point, so Flower drops 28 at either end where 29 are written. Values i^2.
    models = [[np.array([float(i * i)])] for i in range(100)]
    squares = torch.arange(100.0, dtype=torch.float64) ** 2
    their_mean = theirs.aggregate_trimmed_avg(results(models), 0.29)[0].item()
    assert their_mean == pytest.approx(squares[28:72].mean().item())
    assert ours(TrimmedMean(0.29), models).item() == pytest.approx(squares[29:71].mean().item())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("m", "f"), COHORTS)
def test_krum_and_multi_krum_agree(m, f, seed, dtype):
    models = uploads(m, f, seed, dtype)
    same(Krum(f), models, theirs.aggregate_krum(results(models), f, 0))
    for keep in (1, 3, m - f):
        same(MultiKrum(f, keep), models, theirs.aggregate_krum(results(models), f, keep))


def test_multi_krum_counts_every_chosen_client_once_where_flower_counts_examples():
    models = uploads(7, 1, 0)
    weighted = [(model, 1 + i) for i, model in enumerate(models)]
    their_model = flat(theirs.aggregate_krum(weighted, 1, 6))  # of all honest clients i, weighed by 1 + i
    honest = torch.stack([flat(model) for model in models[:6]])
    torch.testing.assert_close(their_model, (honest * torch.arange(1.0, 7)[:, None]).sum(0) / 21)
    torch.testing.assert_close(ours(MultiKrum(1), models), honest.mean(0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("m", "f"), COHORTS)
def test_bulyan_agrees(m, f, seed, dtype):
    # Both score by the nearest one where n - f - 2 are none, and take the first of equal scores.
    models = uploads(m, f, seed, dtype)
    same(Bulyan(f), models, theirs.aggregate_bulyan(results(models), f, theirs.aggregate_krum, to_keep=0))
