"""A step that is taken in the backward pass is the step of plain SGD."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedlens import Local
from fedlens.local import Broken, Diverged, Optimizer, Work, train
from fedlens.local import fused as module_under_test
from fedlens.tree import Tree, bind


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 3, 3),
            flatten=nn.Flatten(),
            wide=nn.Sequential(nn.Linear(108, 20), nn.ReLU()),
            plain=nn.Linear(20, 20, bias=False),
            relu=nn.ReLU(),
            head=nn.Linear(20, 4),
        )
    )


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(1)
    shown = torch.randn(3, 5, 1, 8, 8, generator=draw, dtype=torch.float64)
    return [(one, torch.randint(0, 4, (5,), generator=draw)) for one in shown]


def trained(module: nn.Module, **changes: object) -> torch.Tensor:
    bound = bind(module, torch.float64)
    start = Tree(bound.layout, bound.vector.clone(), {})
    return train(bound, start, Work(batches(), 0.1, 0, **changes), Optimizer(Local())).vector


def by_hand(module: nn.Module) -> torch.Tensor:
    module = module.double()
    for inputs, labels in batches():
        gradients = torch.autograd.grad(F.cross_entropy(module(inputs), labels), list(module.parameters()))
        with torch.no_grad():
            for weight, gradient in zip(module.parameters(), gradients, strict=True):
                weight -= 0.1 * gradient
    return Tree.of(module, torch.float64).vector


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    monkeypatch.setattr("fedlens.local.fused.LARGE", 1)


def fusible(module: nn.Module) -> int:
    return len(list(module_under_test._large(module)))


def test_large_layers_take_the_same_steps_as_by_hand():
    assert fusible(net()) == 3
    torch.testing.assert_close(trained(net()), by_hand(net()), rtol=1e-13, atol=1e-15)


def test_layers_are_as_they_were_afterwards():
    module = net()
    trained(module)
    assert not any("forward" in vars(part) for part in module.modules())


class Own(nn.Module):
    """Reads its weight beside the layer: nothing of it may change within a backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Flatten(), nn.Linear(64, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images)) + 0.01 * self.head.weight.square().sum()


def test_layers_that_other_code_may_read_are_left_alone():
    twice = nn.Linear(64, 64)
    tied = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 4))
    tied[2].weight = tied[1].weight
    hooked = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    hooked[1].register_forward_hook(lambda *_: None)
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    frozen[1].bias.requires_grad_(False)
    assert [fusible(m) for m in (Own(), hooked, frozen)] == [0, 0, 0]
    assert fusible(nn.Sequential(nn.Flatten(), twice, nn.ReLU(), twice, nn.Linear(64, 4))) == 1
    assert fusible(tied) == 1
    torch.manual_seed(0)
    own = Own()
    torch.manual_seed(0)
    torch.testing.assert_close(trained(own), by_hand(Own()), rtol=1e-13, atol=1e-15)


def test_a_loss_that_is_not_finite_moves_nothing_and_is_told():
    with pytest.raises(Diverged) as caught:
        module = net()
        with torch.no_grad():
            module.head.bias[0] = float("inf")
        trained(module)
    assert caught.value.step == 1


def test_a_layer_that_does_not_fit_is_told_as_broken():
    with pytest.raises(Broken):
        trained(nn.Sequential(nn.Flatten(), nn.Linear(63, 4)))
