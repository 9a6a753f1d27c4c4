"""Layouts change nothing but rounding; bfloat16 changes passes and leaves weights, gradients and losses in float32."""

import pytest
import torch
from small import conv_bn_without_dropout, experiment
from torch import nn

from fedlens import ConfigurationError, Engine
from fedlens.local.compute import Compute
from fedlens.runs import prepare
from fedlens.runs.loop import State, advance

LAST = Compute(channels_last=True)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_reaches_the_layers_also_for_one_channel(channels):
    seen = []
    conv = nn.Conv2d(channels, 4, 3).double()
    conv.register_forward_hook(lambda _, given, made: seen.append((given[0], made)))
    images = torch.randn(2, channels, 6, 6, dtype=torch.float64)
    outputs = LAST.forward(conv, images)
    given, made = seen[0]
    assert torch.equal(given, images) and given.stride(1) == 1
    assert made.is_contiguous(memory_format=torch.channels_last) and not made.is_contiguous()
    torch.testing.assert_close(outputs, conv(images), rtol=1e-12, atol=1e-12)


def test_channels_first_is_channels_first_whatever_augmentation_leaves():
    images = torch.randn(2, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    assert Compute().forward(lambda inputs: inputs, images).is_contiguous()


def test_inputs_that_are_no_images_stay_as_they_are():
    rows = torch.randn(3, 5)
    assert LAST.forward(lambda inputs: inputs, rows) is rows


def final(**engine: object) -> State:
    settings = Engine(**{"kind": "sequential", "layout": "channels-first", "threads": 1, **engine})
    return list(advance(prepare(experiment(model={"name": "small:conv_bn_without_dropout"}, engine=settings))))[-1]


def test_a_run_in_channels_last_is_the_same_run_to_the_rounding_of_float64():
    first, last = (final(layout=layout, precision="float64") for layout in ("channels-first", "channels-last"))
    torch.testing.assert_close(first.tree.vector, last.tree.vector, rtol=1e-12, atol=1e-12)
    assert first.row["accuracy"] == last.row["accuracy"]


def test_bfloat16_computes_passes_in_it_and_keeps_everything_else_in_float32():
    module = conv_bn_without_dropout((3, 8, 8), 3)
    seen = []
    module.conv.register_forward_hook(lambda _, given, made: seen.append(made.dtype))
    outputs = Compute(bfloat16=True).forward(module, torch.randn(4, 3, 8, 8))
    outputs.sum().backward()
    assert seen == [torch.bfloat16] and outputs.dtype == torch.float32
    assert {p.grad.dtype for p in module.parameters()} == {torch.float32}


def test_a_run_in_bfloat16_differs_by_the_rounding_of_eight_bits_and_no_more():
    exact, rounded = final(), final(precision="bfloat16")
    assert rounded.tree.vector.dtype == torch.float32
    moved = (exact.tree.vector - rounded.tree.vector).norm() / exact.tree.vector.norm()
    assert 1e-5 < moved < 0.05  # 2^-9 a product, over some forty steps
    assert abs(exact.row["loss_last"] - rounded.row["loss_last"]) < 0.05


def test_gradients_of_single_examples_are_not_taken_in_bfloat16():
    privacy = {"per_example": {"clip": 1.0, "noise": 1.0}}
    with pytest.raises(ConfigurationError, match="not computed in bfloat16"):
        prepare(experiment(model={"name": "logistic"}, privacy=privacy, engine=Engine(precision="bfloat16")))
