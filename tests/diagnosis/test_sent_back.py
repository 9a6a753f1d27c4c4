"""What comes back from a client beside what it trained: by hand, and heard at a whole visit."""

import math

import pytest
import torch
from torch import Tensor, nn

from fedlens.diagnosis.evidence.rounds import SentBack
from fedlens.diagnosis.watch import watching
from fedlens.diagnosis.watch.trained import Begun, sent_back

SENT = {"w": torch.tensor([1.0, 2.0, 3.0, 4.0])}
MOVED = torch.tensor([3.0, 0.0, 4.0, 0.0])  # of length 5


def told(back: dict[str, Tensor], end: Tensor | None = None) -> SentBack | None:
    end = SENT["w"] + MOVED if end is None else end
    return sent_back([Begun(end, SENT["w"])], ["w"], SENT, back)


def of_weights(back: Tensor) -> tuple[float, float]:
    found = told({"w": back})
    assert found is not None
    return found.weights, found.weights_aside


def test_what_is_sent_as_it_is_has_coefficient_one_and_nothing_aside() -> None:
    assert of_weights(SENT["w"] + MOVED) == (1.0, 0.0)
    found = told({"w": MOVED.clone()})
    assert found is not None and (found.update, found.update_aside) == (1.0, 0.0)


def test_multiples_and_what_lies_aside_are_told_apart() -> None:
    assert of_weights(SENT["w"] - 2 * MOVED) == (-2.0, 0.0)
    across = torch.tensor([0.0, 10.0, 0.0, 0.0])
    assert of_weights(SENT["w"] + 3 * MOVED + across) == (3.0, pytest.approx(2.0))  # 10 by 5
    assert of_weights(SENT["w"]) == (0.0, 0.0)


def test_sums_know_the_same_numbers_again() -> None:
    found = told({"w": SENT["w"] + MOVED})
    assert found is not None and found.sum == found.sum_end == 17.0 and found.sum_change == 7.0


def test_nothing_is_said_where_nothing_moved_or_nothing_is_finite() -> None:
    assert told({"w": SENT["w"]}, end=SENT["w"].clone()) is None
    assert told({"w": SENT["w"] * math.nan}) is None
    assert told({"w": torch.zeros(2)}) is None and told({}) is None


@pytest.mark.parametrize("light", [True, False])
def test_a_whole_visit_is_heard(light: bool) -> None:
    torch.manual_seed(0)
    net = nn.Linear(4, 3)
    received = {name: value.detach().clone() for name, value in net.state_dict().items()}
    with watching(received, light=light) as heard:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        nn.functional.cross_entropy(net(torch.randn(8, 4)), torch.arange(8) % 3).backward()
        optimizer.step()
    turned = {name: 2 * received[name] - value for name, value in net.state_dict().items()}
    found = heard.told(turned).sent_back
    assert found is not None and found.weights == pytest.approx(-1, abs=1e-3) and found.weights_aside < 1e-3
    assert heard.told(turned).label_counts == (() if light else (3, 3, 2))


def test_weights_that_are_made_anew_at_every_step_are_known_after_the_last_one() -> None:
    torch.manual_seed(0)
    net = nn.Linear(4, 3)
    received = {name: value.detach().clone() for name, value in net.state_dict().items()}
    weights, inputs, labels = dict(received), torch.randn(24, 4), torch.arange(24) % 3
    with watching(received) as heard:
        for rows in torch.arange(24).split(8):
            leaves = {name: value.requires_grad_(True) for name, value in weights.items()}
            loss = nn.functional.cross_entropy(torch.func.functional_call(net, leaves, (inputs[rows],)), labels[rows])
            steps = torch.autograd.grad(loss, list(leaves.values()))
            weights = {name: leaves[name].detach() - 0.1 * step for name, step in zip(leaves, steps, strict=True)}
    twice = {name: received[name] - 2 * (weights[name] - received[name]) for name in received}
    found = heard.told(twice).sent_back
    assert found is not None
    assert (found.weights, found.weights_aside) == (pytest.approx(-2, rel=1e-3), pytest.approx(0, abs=1e-3))
