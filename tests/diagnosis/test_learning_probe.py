"""One batch by heart: what the author's network and loss can and cannot do, and what is healthy and only looks odd."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlens.diagnosis.evidence import Learning
from fedlens.diagnosis.probes.learning import examine_learning
from fedlens.diagnosis.subject.guard import Ailing
from fedlens.diagnosis.subject.patient import Subject
from fedlens.errors import ConfigurationError

SHAPES = {"rows": (20,), "images": (3, 16, 16)}


class Job:
    """A job whose network, loss and data are given; nothing else of it is used here."""

    clients, cohort, rounds, classes = 4, 2, 3, 10

    def __init__(self, network: Callable[[], nn.Module], loss: Any, kind: str, labels: Callable[[Tensor], Tensor]):
        self.model, self.kind, self.labels, self.first = network, kind, labels, network().state_dict()
        self.loss = loss

    def init(self):
        return self.first

    def train_data(self, client: int):
        draw = torch.Generator().manual_seed(client)
        labels = torch.randint(0, 10, (60,), generator=draw)
        return torch.randn(60, *SHAPES[self.kind], generator=draw), self.labels(labels)

    sample = fit = aggregate = evaluate = lambda self, *given: None


def examined(
    network: Callable[[], nn.Module],
    loss: Any = functional.cross_entropy,
    rate: float | None = 0.1,
    kind: str = "rows",
    labels: Callable[[Tensor], Tensor] = lambda labels: labels,
) -> Learning:
    subject = Subject(lambda: Job(network, loss, kind, labels), "job")
    return examine_learning(subject, subject.fresh().facts(), rate, "SGD")


def mlp(*behind: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 10), *behind)


def changed(change: Callable[[nn.Sequential], Any]) -> Callable[[], nn.Module]:
    def made() -> nn.Module:
        network = mlp()
        with torch.no_grad():
            change(network)
        return network

    return made


def test_a_healthy_network_learns_the_batch_and_shows_nothing_odd() -> None:
    found = examined(mlp)
    assert found.first_loss == pytest.approx(math.log(10), abs=0.3)
    assert (found.overfit, found.overfit_n, found.best_rate, found.outputs) == (1.0, 32, 0.1, 10)
    assert found.grows == pytest.approx(0, abs=1e-5)
    assert not (found.zero_gradients or found.frozen or found.constant_init or found.identical)
    assert not (found.sums_to_one or found.log_probabilities or found.nonnegative or found.negative)
    assert set(found.dead) == {"1", "3"} and max(found.dead.values()) < 0.5
    assert found.parameters == 20 * 48 + 48 + 48 * 48 + 48 + 48 * 10 + 10


def test_a_rate_that_is_far_too_small_fails_where_a_usual_one_does_not() -> None:
    found = examined(mlp, rate=1e-6)
    assert found.overfit is not None and found.overfit < 0.6
    assert found.overfit_best == 1.0
    assert examined(mlp, rate=None).overfit is None


def test_probabilities_and_log_probabilities_are_recognised_with_or_without_their_loss() -> None:
    assert examined(lambda: mlp(nn.Softmax(1))).sums_to_one
    healthy = examined(lambda: mlp(nn.LogSoftmax(1)), functional.nll_loss)
    assert healthy.log_probabilities and not healthy.negative and healthy.overfit == 1.0
    assert examined(mlp, functional.nll_loss).negative


def test_a_summed_loss_grows_with_the_batch() -> None:
    found = examined(mlp, lambda outputs, labels: functional.cross_entropy(outputs, labels, reduction="sum"))
    assert found.grows == pytest.approx(1.0)
    assert found.first_loss is not None and found.first_loss / 32 == pytest.approx(math.log(10), abs=0.3)


def test_a_rectifier_behind_the_head_is_seen() -> None:
    assert examined(lambda: mlp(nn.ReLU())).nonnegative


def test_weights_that_stay_alike_are_named_and_a_head_of_zeros_is_not() -> None:
    broken = examined(changed(lambda net: [nn.init.zeros_(one) for one in net.parameters()]))
    assert broken.constant_init == ("0.weight", "2.weight", "4.weight")
    assert broken.identical and "0.weight" in broken.zero_gradients
    parting = examined(changed(lambda net: nn.init.constant_(net[2].weight, 0.1)))  # biases and the head differ
    assert not parting.constant_init and parting.overfit_best == 1.0
    head = examined(changed(lambda net: nn.init.zeros_(net[4].weight)))
    assert not (head.constant_init or head.zero_gradients or head.identical) and head.overfit_best == 1.0
    linear = examined(lambda: nn.utils.skip_init(nn.Linear, 20, 10).apply(lambda one: nn.init.zeros_(one.weight)))
    assert not linear.constant_init


def test_dead_units_are_found_whether_the_rectifier_is_a_module_or_a_function() -> None:
    found = examined(changed(lambda net: nn.init.constant_(net[2].bias, -50.0)))
    assert found.dead["3"] == 1.0 and found.dead["1"] < 0.5

    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(20, 48), nn.Linear(48, 10)
            nn.init.constant_(self.one.bias, -50.0)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.two(functional.relu(self.one(inputs)))

    assert examined(Called).dead == {"": 1.0}


def test_frozen_and_unused_parameters_are_told_apart() -> None:
    found = examined(changed(lambda net: net[0].weight.requires_grad_(False)))
    assert found.frozen == ("0.weight",) and not found.zero_gradients

    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.left = mlp(), nn.Linear(3, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.body(inputs)

    assert examined(Unused).zero_gradients == ("left.bias", "left.weight")


def test_a_bias_before_batch_norm_has_no_gradient_but_rounding() -> None:
    """The mean of the batch is taken out again behind it."""

    def made() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))

    assert examined(made).zero_gradients == ("0.bias",)


def test_maps_that_shrink_to_nothing_before_half_of_the_network_are_measured(monkeypatch) -> None:
    monkeypatch.setattr("fedlens.diagnosis.probes.learning.SECONDS", 0.3)

    def strided(strides: tuple[int, ...]) -> Callable[[], nn.Module]:
        def made() -> nn.Module:
            layers: list[nn.Module] = []
            for at, stride in enumerate(strides):
                layers += [nn.Conv2d(8 if at else 3, 8, 3, stride, 1), nn.BatchNorm2d(8), nn.ReLU()]
            return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))

        return made

    shrunk, fine = examined(strided((2,) * 4 + (1,) * 4), kind="images"), examined(strided((1, 2, 1, 2)), kind="images")
    assert (shrunk.half_way, shrunk.smallest) == ((1, 1), (1, 1))
    assert (fine.half_way, fine.smallest) == ((8, 8), (4, 4))
    assert examined(mlp).half_way is None


def test_labels_are_given_in_the_form_that_the_loss_takes() -> None:
    squares = examined(mlp, lambda outputs, labels: ((outputs - labels) ** 2).mean())
    assert squares.overfit_best is not None and squares.overfit_best >= 0.95
    one_hot = examined(mlp, labels=lambda labels: functional.one_hot(labels, 10).float())
    assert one_hot.overfit == 1.0
    assert examined(mlp, labels=lambda labels: labels.int()).overfit == 1.0


def test_one_module_that_is_handed_out_again_and_again_is_left_as_it_was() -> None:
    shared = mlp()
    before = {name: value.clone() for name, value in shared.state_dict().items()}
    assert examined(lambda: shared).overfit == 1.0
    assert all(torch.equal(value, before[name]) for name, value in shared.state_dict().items())


def test_code_that_fails_is_ailing_and_a_loss_of_no_number_is_only_measured() -> None:
    with pytest.raises(Ailing):
        examined(mlp, lambda outputs, labels: 1 / 0)
    with pytest.raises(Ailing):
        examined(mlp, lambda outputs, labels: torch.tensor(2.3))
    found = examined(mlp, lambda outputs, labels: functional.cross_entropy(outputs, labels) * math.nan)
    assert found.overfit is not None and found.overfit < 0.95
    subject = Subject(lambda: Job(mlp, functional.cross_entropy, "rows", lambda labels: labels), "job")
    facts = subject.fresh().facts()
    with pytest.raises(ConfigurationError):
        examine_learning(subject, type(facts)(**{**vars(facts), "offers": frozenset({"model"})}), 0.1)


def test_of_a_head_that_lacks_classes_the_width_is_told_though_the_loss_refuses_them() -> None:
    def narrow() -> nn.Module:
        return nn.Sequential(nn.Linear(20, 8))

    found = examined(narrow)
    assert (found.outputs, found.parameters, found.overfit) == (8, 20 * 8 + 8, None)
    with pytest.raises(Ailing):
        examined(narrow, lambda outputs, labels: 1 / 0, labels=lambda labels: labels.clamp(max=7))


def test_when_the_time_is_over_early_nothing_is_said_of_what_was_not_learned(monkeypatch) -> None:
    monkeypatch.setattr("fedlens.diagnosis.probes.learning.SECONDS", 0.0)
    found = examined(mlp)
    assert (found.overfit, found.overfit_best, found.best_rate) == (None, None, None)
    assert not found.zero_gradients
