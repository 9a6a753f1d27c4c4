"""Types that numbers fit into, and updates that look like noise."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fedlens.diagnosis.probes.rounds.looks import narrow
from fedlens.diagnosis.watch import watching
from fedlens.diagnosis.watch.noise import Last, noise_of
from fedlens.diagnosis.watch.trained import Begun

SHAPES = {"a": (40, 30), "b": (20, 40), "c": (80,)}


def drawn(seed: int = 0, scales: tuple[float, ...] = (1.0, 1.0, 1.0)) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = zip(SHAPES.items(), scales, strict=True)
    return {name: scale * torch.randn(shape, generator=generator) for (name, shape), scale in shapes}


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_state_that_was_rounded_to_a_narrow_type_is_told(kind: torch.dtype) -> None:
    rounded = {name: value.to(kind).float() for name, value in drawn().items()}
    assert narrow(rounded, tuple(SHAPES)) == str(kind).removeprefix("torch.")
    assert narrow(rounded | {"a": drawn()["a"]}, tuple(SHAPES)) == ""


def test_full_precision_zeros_and_narrow_entries_themselves_are_not_told() -> None:
    assert narrow(drawn(), tuple(SHAPES)) == ""
    assert narrow({name: torch.zeros(shape) for name, shape in SHAPES.items()}, tuple(SHAPES)) == ""
    assert narrow({name: value.half() for name, value in drawn().items()}, tuple(SHAPES)) == ""


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_one_spread_is_told_with_its_spread(seed: int) -> None:
    noise = {name: 0.3 * value for name, value in drawn(seed).items()}
    assert noise_of(noise) == pytest.approx(0.3, rel=0.05)
    assert noise_of(drawn(seed, scales=(1.0, 1.0, 1.8))) == 0.0  # entries differ, as in gradients


def test_signs_sparse_updates_and_still_ones_are_no_noise() -> None:
    assert noise_of({name: value.sign() for name, value in drawn().items()}) == 0.0
    assert noise_of({name: value * (value > 2) for name, value in drawn().items()}) == 0.0
    assert noise_of({name: 0 * value for name, value in drawn().items()}) == 0.0
    assert noise_of({"a": drawn()["a"]}) == 0.0


def test_layers_of_one_spread_whose_rows_or_biases_differ_are_no_noise() -> None:
    draw = torch.Generator().manual_seed(3)
    layers = {name: torch.randn(48, 48, generator=draw) for name in "abc"}
    assert noise_of(layers) > 0
    assert noise_of({**layers, "bias": 1.6 * torch.randn(48, generator=draw)}) == 0.0
    rows = torch.linspace(0.6, 1.4, 48)[:, None]  # some outputs learn more than others
    assert noise_of({name: rows * value for name, value in layers.items()}) == 0.0


def trained(change: Callable[[nn.Module], dict[str, Tensor]]) -> float | None:
    """What is told of noise where a network is trained for four steps and `change` makes the upload of it."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 4))
    received = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with watching(received) as watch:
        for _ in range(4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.randn(32, 20)), torch.randint(4, (32,))).backward()
            optimizer.step()
        returned = change(model)
    return watch.told(returned).added


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def noisy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value + 0.02 * torch.randn_like(value) for name, value in weights(model).items()}


def in_place(model: nn.Module) -> dict[str, Tensor]:
    with torch.no_grad():
        for one in model.parameters():
            one += 0.02 * torch.randn_like(one)
    return weights(model)


@pytest.mark.parametrize("change", [noisy, in_place])
def test_noise_after_the_last_step_is_told_on_a_copy_and_in_place(
    change: Callable[[nn.Module], dict[str, Tensor]],
) -> None:
    assert trained(change) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    "change",
    [
        weights,
        lambda model: {name: value.half().float() for name, value in weights(model).items()},
        lambda model: {name: value * 0.9 for name, value in weights(model).items()},
        lambda model: {name: value.clamp(-0.1, 0.1) for name, value in weights(model).items()},
        lambda model: {name: (value * 64).round() / 64 for name, value in weights(model).items()},
    ],
    ids=["untouched", "half", "scaled", "clamped", "rounded"],
)
def test_what_else_is_done_to_weights_is_no_noise(change: Callable[[nn.Module], dict[str, Tensor]]) -> None:
    assert trained(change) == 0.0


def test_a_part_of_the_trained_change_is_no_noise_however_evenly_it_is_spread() -> None:
    """As a mean of what was sent and what was trained, where training moves all entries alike (Adam)."""
    sent, change = drawn(1), drawn(2)
    begun = {at: Begun(nn.Parameter(sent[name] + change[name]), sent[name]) for at, name in enumerate(SHAPES)}
    last = Last()
    last.keep({id(one.parameter): one for one in begun.values()})
    parts, names = list(begun.values()), list(SHAPES)
    half = {name: sent[name] + 0.5 * change[name] for name in SHAPES}
    noisy = {name: sent[name] + change[name] + 0.5 * drawn(3)[name] for name in SHAPES}
    assert last.told(parts, names, sent, half)["added"] == 0.0
    assert last.told(parts, names, sent, noisy)["added"] == pytest.approx(0.5, rel=0.1)


def test_what_was_sent_beyond_the_trained_is_told_of_the_numbers_that_were_sent() -> None:
    sent, change = drawn(1), drawn(2)
    parts = [Begun(nn.Parameter(sent[name] + change[name]), sent[name]) for name in SHAPES]
    last, kept = Last(), {name: change[name] * (change[name].abs() > 1) for name in SHAPES}
    last.keep({id(one.parameter): one for one in parts})
    for memory, beyond in ((0.0, 0.0), (0.5, 0.5)):
        back = {name: sent[name] + (1 + memory) * kept[name] for name in SHAPES}
        assert last.told(parts, list(SHAPES), sent, back)["beyond"] == pytest.approx(beyond, abs=1e-3)
        update = {name: (1 + memory) * kept[name] for name in SHAPES}
        assert last.told(parts, list(SHAPES), sent, update)["beyond"] == pytest.approx(beyond, abs=1e-3)
