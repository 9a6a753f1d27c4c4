"""Per-example gradients: against a plain loop of single backward passes, their bounds and their noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlens.errors import ConfigurationError
from fedlens.local import private
from fedlens.local.private import PerExample, check_examples_are_separate, clipped_sum, gradient
from fedlens.tree import Bound, bind

HUGE = 1e9


def network(dtype: torch.dtype = torch.float64, frozen: bool = False) -> Bound:
    """A convolution, group norm and a linear layer; the norm's parameters lie last in the layout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, 3)]
        module = nn.Sequential(*layers)
    if frozen:
        module[0].bias.requires_grad_(False)
    return bind(module, dtype)


def batch(count: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(count, 2, 4, 4, generator=draw).to(dtype), torch.arange(count) % 3


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def loop(bound: Bound, inputs: Tensor, labels: Tensor, loss=None) -> tuple[list[float], Tensor]:
    """Losses, and gradients [B, T], of one ordinary backward pass for each example."""
    losses, rows = [], []
    for one, label in zip(inputs.split(1), labels.split(1), strict=True):
        bound.gradient.zero_()
        outputs = bound.module(one)
        value = F.cross_entropy(outputs, label) if loss is None else loss(outputs, label, one)
        value.backward()
        losses.append(value.item())
        rows.append(bound.gradient.clone())
    return losses, torch.stack(rows)


def clipped_rows(rows: Tensor, clip: float) -> Tensor:
    return rows / (rows.norm(dim=1, keepdim=True) / clip).clamp(min=1)


def weighted(outputs: Tensor, labels: Tensor, inputs: Tensor) -> Tensor:
    """A loss that looks at all it is given."""
    return F.cross_entropy(outputs, labels) + (inputs.mean((1, 2, 3)) * outputs.square().mean(1)).mean()


@pytest.mark.parametrize("frozen", [False, True], ids=["all", "a frozen parameter"])
@pytest.mark.parametrize("loss", [None, weighted], ids=["cross-entropy", "own loss"])
@pytest.mark.parametrize("clip", [0.5, 2.0, HUGE])
def test_the_clipped_sum_equals_a_loop_of_single_examples(clip, loss, frozen):
    bound, (inputs, labels) = network(frozen=frozen), batch()
    losses, rows = loop(bound, inputs, labels, loss)
    assert clip == HUGE or (rows.norm(dim=1) > clip).any()  # some are clipped, or the case shows nothing
    value, total = clipped_sum(bound, inputs, labels, loss, clip)
    torch.testing.assert_close(total, clipped_rows(rows, clip).sum(0), rtol=0, atol=1e-10)
    assert total.shape == (bound.layout.trained,) and value == pytest.approx(np.mean(losses), abs=1e-10)


def test_without_noise_and_under_a_huge_clip_it_is_the_ordinary_mean_gradient():
    bound, (inputs, labels) = network(), batch()
    F.cross_entropy(bound.module(inputs), labels).backward()
    value, mean = gradient(bound, inputs, labels, None, PerExample(clip=HUGE, noise=0.0), 6, rng())
    torch.testing.assert_close(mean, bound.gradient, rtol=0, atol=1e-10)
    assert value == pytest.approx(F.cross_entropy(bound.module(inputs), labels).item())


def test_weights_and_stored_gradients_are_left_alone():
    bound, (inputs, labels) = network(), batch()
    bound.gradient.fill_(7)
    before = bound.vector.clone()
    _, total = clipped_sum(bound, inputs, labels, None, 1.0)
    assert torch.equal(bound.vector, before) and torch.equal(bound.gradient, torch.full_like(bound.gradient, 7))
    assert not total.requires_grad


def test_a_batch_taken_in_parts_gives_the_same(monkeypatch):
    bound, (inputs, labels) = network(), batch(7)
    value, total = clipped_sum(bound, inputs, labels, None, 1.0)
    monkeypatch.setattr(private, "TOGETHER", 3 * bound.layout.trained)  # 3 + 3 + 1 examples
    parts, summed = clipped_sum(bound, inputs, labels, None, 1.0)
    torch.testing.assert_close(summed, total, rtol=0, atol=1e-12)
    assert parts == pytest.approx(value, abs=1e-12)


def test_a_short_batch_is_divided_by_the_expected_size():
    bound, (inputs, labels) = network(), batch(3)
    _, total = clipped_sum(bound, inputs, labels, None, 1.0)
    _, mean = gradient(bound, inputs, labels, None, PerExample(clip=1.0, noise=0.0), 8, rng())
    torch.testing.assert_close(mean, total / 8, rtol=0, atol=1e-15)


def test_one_example_removed_moves_the_sum_by_at_most_the_clip():
    clip = 0.05
    bound, (inputs, labels) = network(), batch()
    norms = loop(bound, inputs, labels)[1].norm(dim=1)
    assert (norms > clip).all()  # so that each is clipped, and moves the sum by exactly clip
    _, total = clipped_sum(bound, inputs, labels, None, clip)
    for gone in range(len(inputs)):
        kept = torch.arange(len(inputs)) != gone
        moved = (total - clipped_sum(bound, inputs[kept], labels[kept], None, clip)[1]).norm().item()
        assert moved == pytest.approx(clip, rel=1e-9) and moved <= clip * (1 + 1e-12)


def test_one_example_changed_moves_the_sum_by_at_most_twice_the_clip():
    clip = 0.05
    bound, (inputs, labels) = network(), batch()
    _, total = clipped_sum(bound, inputs, labels, None, clip)
    largest = 0.0
    for changed in range(len(inputs)):
        others, theirs = inputs.clone(), labels.clone()
        others[changed] *= 1e6  # an outlier, and another label
        theirs[changed] = (theirs[changed] + 1) % 3
        moved = (total - clipped_sum(bound, others, theirs, None, clip)[1]).norm().item()
        largest = max(largest, moved)
        assert moved <= 2 * clip * (1 + 1e-12)
    assert largest > clip  # more than a removal can: the factor 2 is needed


def test_one_example_is_within_the_clip_in_float32_too():
    bound, (inputs, labels) = network(torch.float32), batch(dtype=torch.float32)
    for clip in (1e-3, 0.03, 0.1):
        for one, label in zip(inputs.split(1), labels.split(1), strict=True):
            assert clipped_sum(bound, one, label, None, clip)[1].norm(dtype=torch.float64).item() <= clip


def test_the_noise_has_the_derived_deviation():
    # sigma = 1.5, C = 0.2, L = 10: the sum gets 0.3, the mean 0.03. The deviation of n = 90,300 normal draws is off by
    # 1/sqrt(2n) of itself, 0.24 %; five of those are 1.2 %.
    bound = bind(nn.Linear(300, 300), torch.float64)
    inputs, labels = torch.ones(2, 300, dtype=torch.float64), torch.tensor([0, 1])
    _, quiet = gradient(bound, inputs, labels, None, PerExample(clip=0.2, noise=0.0), 10, rng(1))
    _, noisy = gradient(bound, inputs, labels, None, PerExample(clip=0.2, noise=1.5), 10, rng(1))
    noise = noisy - quiet
    assert noise.std().item() == pytest.approx(0.03, rel=0.012)
    assert abs(noise.mean().item()) < 5 * 0.03 / math.sqrt(noise.numel())
    assert torch.equal(noisy, gradient(bound, inputs, labels, None, PerExample(clip=0.2, noise=1.5), 10, rng(1))[1])


def test_every_step_draws_noise_of_its_own():
    bound, (inputs, labels), draw = network(), batch(), rng(2)
    privacy = PerExample(clip=0.1, noise=1.0)
    one, two = (gradient(bound, inputs, labels, None, privacy, 6, draw)[1] for _ in range(2))
    assert not torch.isclose(one, two).any()


def test_every_example_has_a_dropout_mask_of_its_own():
    # Inputs are ones: a gradient of the weights is zero in the columns that its mask drops. Were the mask shared, half
    # of the columns of the sum would be zero; of 64 masks none drops the same column but with chance 2^-64.
    bound = bind(nn.Sequential(nn.Dropout(0.5), nn.Linear(20, 2, bias=False)), torch.float64)
    inputs, labels = torch.ones(64, 20, dtype=torch.float64), torch.zeros(64, dtype=torch.int64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first = clipped_sum(bound, inputs, labels, None, HUGE)[1]
        torch.manual_seed(3)
        again = clipped_sum(bound, inputs, labels, None, HUGE)[1]
    assert torch.equal(first, again)
    assert (first.view(2, 20) != 0).all() and first.view(2, 20)[0].unique().numel() > 1


def test_a_parameter_used_twice_counts_once():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(3, 3, bias=False)
            self.two = self.one
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * self.two(torch.tanh(self.one(x)))

    bound = bind(Tied(), torch.float64)
    inputs, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(4)).double(), torch.tensor([0, 1, 2, 0])
    rows = loop(bound, inputs, labels)[1]
    _, total = clipped_sum(bound, inputs, labels, None, 0.7)
    torch.testing.assert_close(total, clipped_rows(rows, 0.7).sum(0), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.LazyBatchNorm2d(),
        nn.InstanceNorm2d(4, track_running_stats=True),
    ],
    ids=repr,
)
def test_layers_with_statistics_of_a_batch_are_refused(layer):
    with pytest.raises(ConfigurationError) as told:
        check_examples_are_separate(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(layer)))
    (problem,) = told.value.problems
    assert problem.where == "privacy.per_example" and "'1.0'" in problem.seen and type(layer).__name__ in problem.seen
    assert 'model.norm = "group"' in problem.do


def test_layers_that_look_at_one_example_are_accepted():
    check_examples_are_separate(nn.Sequential(nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.InstanceNorm2d(4)))


@pytest.mark.parametrize("wrong", [{"clip": 0.0, "noise": 1.0}, {"clip": 1.0, "noise": -1.0}, {"noise": 1.0}])
def test_settings_without_a_bound_or_with_less_than_no_noise_are_refused(wrong):
    with pytest.raises(ConfigurationError):
        PerExample(**wrong)
