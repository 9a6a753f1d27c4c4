"""Types that numbers fit into, and updates that look like noise."""

import pytest
import torch

from fedlens.diagnosis.probes.rounds.looks import narrow, noise_of

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
