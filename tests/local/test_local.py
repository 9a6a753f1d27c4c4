"""One client's work: optimisers, rates, evaluation."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedlens import ConfigurationError, Local, Schedule
from fedlens.local import Diverged, Optimizer, Work, evaluate, train
from fedlens.local.evaluate import Evaluation
from fedlens.local.statistics import has_batch_norm
from fedlens.tree import Layout, Tree, bind


def network() -> nn.Module:
    torch.manual_seed(0)
    # No bias before the norm: its gradient is zero but for rounding, which Adam would blow up to whole steps.
    return nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)).double()


def data(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(count, 6, generator=draw, dtype=torch.float64), torch.arange(count) % 3


@pytest.mark.parametrize(
    ("local", "make"),
    [
        (Local(lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        (Local(lr=0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        (Local(lr=0.1, momentum=0.9, nesterov=True), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)),
        (Local(lr=0.01, optimizer="adam"), lambda p: torch.optim.Adam(p, lr=0.01)),
        (
            Local(lr=0.01, optimizer="adamw", weight_decay=0.1),
            lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        ),
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "adamw"],
)
def test_training_equals_pytorchs_optimiser_step_for_step(local, make):
    theirs, ours = network(), bind(network(), torch.float64)
    start = Tree.of(theirs, torch.float64)
    optimizer = make(theirs.parameters())
    inputs, labels = data()
    batches = [(inputs[i : i + 4], labels[i : i + 4]) for i in (0, 4, 8)] * 3
    theirs.train()
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(theirs(x), y).backward()
        optimizer.step()
    trained = train(ours, start, Work(batches, local.lr, seed=0), Optimizer(local))
    expected = Tree.of(theirs, torch.float64)
    assert torch.allclose(trained.vector, expected.vector, rtol=1e-12, atol=1e-14)
    assert trained.integers["1.num_batches_tracked"] == expected.integers["1.num_batches_tracked"] == 9
    assert len(trained.losses) == 9 and trained.losses[-1] < trained.losses[0]


def test_weight_decay_is_decoupled_from_the_gradient():
    weights, gradient = torch.ones(3), torch.zeros(3)
    for optimizer in ("sgd", "adam", "adamw"):
        local = Local(lr=0.5, optimizer=optimizer, weight_decay=0.2)
        moved = weights.clone()
        Optimizer(local).step(moved, gradient.clone(), Optimizer(local).start(moved), 0.5)
        assert torch.allclose(moved, torch.full((3,), 1 - 0.5 * 0.2)), optimizer


def test_the_gradient_is_clipped_by_its_global_norm_and_keeps_its_direction():
    optimizer = Optimizer(Local(lr=1.0, clip_norm=2.0))
    weights = torch.zeros(2, dtype=torch.float64)
    optimizer.step(weights, torch.tensor([30.0, 40.0], dtype=torch.float64), {}, 1.0)
    assert torch.allclose(weights, torch.tensor([-1.2, -1.6], dtype=torch.float64))  # 2 * (3/5, 4/5)
    short = torch.zeros(2)
    optimizer.step(short, torch.tensor([0.3, 0.4]), {}, 1.0)
    assert torch.allclose(short, torch.tensor([-0.3, -0.4]))


def test_one_optimiser_step_serves_a_row_of_clients_at_once():
    local = Local(lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.01, clip_norm=1.0)
    weights, gradients = torch.randn(4, 7), torch.randn(4, 7)
    together = weights.clone()
    Optimizer(local).step(together, gradients.clone(), Optimizer(local).start(together), 0.1)
    for row, gradient, expected in zip(weights, gradients, together, strict=True):
        alone = row.clone()
        Optimizer(local).step(alone, gradient.clone(), Optimizer(local).start(alone), 0.1)
        assert torch.allclose(alone, expected)


def test_an_optimiser_state_that_is_kept_continues_and_a_fresh_one_does_not():
    inputs, labels = data()
    ours, start, local = bind(network(), torch.float64), Tree.of(network(), torch.float64), Local(lr=0.1, momentum=0.9)
    first = train(ours, start, Work([(inputs, labels)] * 2, 0.1, 0), Optimizer(local))
    after = start.with_(first.vector, first.integers)
    kept = train(ours, after, Work([(inputs, labels)], 0.1, 0), Optimizer(local), first.optimizer).vector
    fresh = train(ours, after, Work([(inputs, labels)], 0.1, 0), Optimizer(local)).vector
    whole = train(ours, start, Work([(inputs, labels)] * 3, 0.1, 0), Optimizer(local)).vector
    assert torch.allclose(kept, whole, rtol=1e-12) and not torch.allclose(fresh, whole, rtol=1e-6)


def test_a_loss_that_is_not_finite_stops_at_its_step():
    inputs, labels = data()
    poisoned = inputs.clone()
    poisoned[0, 0] = math.nan
    batches = [(inputs, labels), (inputs, labels), (poisoned, labels)]
    with pytest.raises(Diverged) as caught:
        train(
            bind(network(), torch.float64), Tree.of(network(), torch.float64), Work(batches, 0.1, 0), Optimizer(Local())
        )
    assert (caught.value.step, caught.value.what) == (3, "loss is nan")


@pytest.mark.parametrize(
    ("schedule", "round", "factor"),
    [
        (Schedule(), 50, 1.0),
        (Schedule("step", every=30, gamma=0.1), 30, 1.0),
        (Schedule("step", every=30, gamma=0.1), 31, 0.1),
        (Schedule("step", every=30, gamma=0.1), 61, 0.01),
        (Schedule("cosine"), 1, 1.0),
        (Schedule("cosine"), 51, 0.5),  # half of 100 rounds done: (1 + cos(pi/2)) / 2
        (Schedule("constant", warmup=4), 1, 0.2),
        (Schedule("constant", warmup=4), 4, 0.8),
        (Schedule("constant", warmup=4), 5, 1.0),
        (Schedule("cosine", warmup=50), 76, 0.5),
    ],
)
def test_a_schedule_over_a_hundred_rounds(schedule, round, factor):
    assert schedule.factor(round, 100) == pytest.approx(factor)


def test_the_rate_scaled_by_size_does_not_compound():
    local = Local(lr=0.1, scale_lr_by_size=True)
    assert [local.rate(round, 9, 2.0) for round in (1, 2, 9)] == [pytest.approx(0.2)] * 3
    assert Local(lr=0.1).rate(1, 9, 2.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("local", "examples", "steps"),
    [
        (Local(epochs=2, batch=10), 25, 6),  # 10, 10 and the short 5, twice
        (Local(epochs=2, batch="all"), 25, 2),
        (Local(epochs=3, batch=50), 25, 3),
        (Local(steps=7, batch=10), 25, 7),
    ],
)
def test_the_number_of_local_steps(local, examples, steps):
    assert local.step_count(examples) == steps


def test_options_of_another_optimiser_are_refused():
    with pytest.raises(ConfigurationError, match=r"momentum = 0\.9 has no effect with adam"):
        Local(optimizer="adam", momentum=0.9)
    with pytest.raises(ConfigurationError, match="nesterov needs momentum"):
        Local(nesterov=True)


class Answer(nn.Module):
    """Gives the logits that it was made with."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs


def test_an_evaluation_reads_everything_off_its_confusion_matrix():
    logits = torch.eye(3)[[0, 0, 1, 1]] * 5.0  # answers 0, 0, 1, 1
    labels = torch.tensor([0, 1, 1, 1])
    seen = evaluate(Answer(), iter([(logits[:3], labels[:3]), (logits[3:], labels[3:])]), 3)
    assert seen.confusion.tolist() == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert seen.accuracy == 0.75 and seen.examples == 4
    assert seen.recall[:2] == pytest.approx([1.0, 2 / 3]) and math.isnan(seen.recall[2])
    assert seen.predicted_entropy == pytest.approx(math.log(2) / math.log(3))
    right, wrong = math.log(1 + 2 * math.exp(-5)), math.log(1 + 2 * math.exp(-5)) + 5
    assert seen.loss == pytest.approx((3 * right + wrong) / 4)


def test_a_constant_answer_has_no_entropy():
    assert Evaluation(np.array([[3, 0], [3, 0]]), 0.0).predicted_entropy == 0.0


def test_batch_statistics_normalise_by_the_batch_and_leave_the_running_ones_alone():
    module = network()
    inputs, labels = data(40)
    inputs = inputs * 7 + 3  # far from the running statistics, which are still 0 and 1
    before = {name: value.clone() for name, value in module.state_dict().items()}
    running = evaluate(module, iter([(inputs, labels)]), 3)
    batch = evaluate(module, iter([(inputs, labels)]), 3, statistics="batch")
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    hidden = module[0](inputs)
    normal = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
    expected = F.cross_entropy(module[3](F.relu(normal * module[1].weight + module[1].bias)), labels)
    assert batch.loss == pytest.approx(expected.item(), rel=1e-9)
    assert running.loss != pytest.approx(batch.loss, rel=1e-3)
    assert has_batch_norm(module) and not has_batch_norm(nn.Sequential(nn.GroupNorm(1, 2)))


def test_parameters_norm_parameters_and_buffers_are_three_groups():
    layout = Layout.of(network())
    groups = {slot.name: slot.group for slot in layout.slots}
    assert groups["0.weight"] == "weights" and groups["1.weight"] == groups["1.bias"] == "norm"
    assert groups["1.running_mean"] == groups["1.running_var"] == "buffers"
    assert layout.integers == ("1.num_batches_tracked",)
    assert layout.trained == 6 * 5 + 5 + 5 + 5 * 3 + 3 and layout.size == layout.trained + 10
    assert layout.mask(lambda slot: slot.group == "norm").sum() == 10


def test_a_bound_module_lives_in_its_vector():
    module = network()
    bound = bind(module, torch.float64)
    bound.vector.zero_()
    assert all(bool((value == 0).all()) for name, value in module.state_dict().items() if "tracked" not in name)
    module(data()[0]).sum().backward()
    assert bound.gradient.abs().sum() > 0


def test_frozen_parameters_travel_but_neither_step_nor_decay_moves_them():
    module = network()
    module[3].weight.requires_grad_(False)
    bound, start = bind(module, torch.float64), Tree.of(module, torch.float64)
    slots = {slot.name: slot for slot in start.layout.slots}
    assert slots["3.weight"].group == "frozen" and start.layout.trained == 6 * 5 + 5 + 5 + 3
    local = Local(lr=0.1, weight_decay=0.5)
    trained = train(bound, start, Work([data()] * 3, 0.1, 0), Optimizer(local))
    before, after = start.layout.views(start.vector), start.layout.views(trained.vector)
    assert torch.equal(before["3.weight"], after["3.weight"])
    assert not torch.equal(before["0.weight"], after["0.weight"])
