"""The halves of knowledge transfer: their sizes, where they are cut, and the norm that is asked for in both."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fedlens.errors import ConfigurationError
from fedlens.models import Model
from fedlens.models.halves import HALVES, Halves, build_halves

CIFAR = (3, 32, 32)


@functools.cache
def free(model: Model) -> Halves:
    """The halves on the meta device, where large ones cost nothing; made once, so tests must not change them."""
    with torch.device("meta"):
        return build_halves(model, CIFAR, 10)


def seeded(model: Model, shape: tuple[int, ...] = (1, 8, 8)) -> Halves:
    torch.manual_seed(0)
    return build_halves(model, shape, 10)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "client", "server"),
    [
        # Stem 3*16*9 + 32 = 464. Bottlenecks on 16: (256 + 32) + (2304 + 32) + (1024 + 128) + shortcut (1024 + 128)
        # = 4928, then (1024 + 32) + (2304 + 32) + (1024 + 128) = 4544. Head 64*10 + 10 = 650. In all 10,586.
        # Server: ResNet-50 has 23,520,842; its stem 3*64*9 + 128 = 1856 goes, and its first block reads 16 channels
        # and not 64: 48*64 less in conv1, 48*256 less in the shortcut, 15,360.
        ("resnet8/resnet49", 10_586, 23_520_842 - 1_856 - 15_360),  # 23,503,626, as source 003 uses
        ("resnet8/resnet55", 10_586, 591_322 - 464),  # the bottleneck ResNet-56 of He et al. 2020 has 591,322
        ("resnet8/resnet19", 10_586, 272_474 - 464),
        # Basic block on 16: 2 * (2304 + 32) = 4672; head 16*10 + 10 = 170; resnet8 has 78,042.
        ("resnet4/resnet7", 464 + 4_672 + 170, 78_042 - 464),
    ],
)
def test_every_pair_has_the_parameters_its_source_counts(name, client, server):
    halves = free(Model(name))
    assert (size(halves.client), size(halves.server)) == (client, server)
    assert size(halves.client.extractor) == 464


def test_every_pair_of_the_table_is_counted_above():
    marks = test_every_pair_has_the_parameters_its_source_counts.pytestmark
    assert {case[0] for mark in marks for case in mark.args[1]} == set(HALVES)


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize(("norm", "groups"), [("batch", 8), ("group", 2), ("group", 8), ("layer", 8), ("none", 8)])
def test_the_norm_asked_for_stands_in_both_halves_and_no_other(name, norm, groups):
    halves = free(Model(name, norm=norm, groups=groups))
    for half in (halves.client, halves.client.extractor, halves.server):
        layers = [part for part in half.modules() if isinstance(part, (_NormBase, nn.GroupNorm, nn.LayerNorm))]
        assert bool(layers) == (norm != "none")
        if norm == "batch":
            assert all(isinstance(part, nn.BatchNorm2d) for part in layers)
        else:
            expected = groups if norm == "group" else 1
            assert all(isinstance(part, nn.GroupNorm) and part.num_groups == expected for part in layers)
    if norm != "none":
        usual = free(Model(name, norm="batch"))
        assert size(halves.client) == size(usual.client) and size(halves.server) == size(usual.server)


@pytest.mark.parametrize("name", HALVES)
def test_a_client_sends_16_maps_of_the_image_size_and_both_halves_answer_with_logits(name):
    halves, images = free(Model(name)), torch.zeros(2, *CIFAR, device="meta")
    features = halves.client.extractor(images)
    assert features.shape == (2, 16, 32, 32)  # 64 KB an image in float32
    assert halves.client(images).shape == halves.server(features).shape == halves.whole()(images).shape == (2, 10)


def test_the_clients_answer_is_its_classifiers_answer_to_what_it_sends():
    halves, images = seeded(Model("resnet4/resnet7")), torch.randn(3, 1, 8, 8)
    assert torch.equal(halves.client(images), halves.client.classifier(halves.client.extractor(images)))


def test_the_whole_network_is_the_clients_extractor_under_the_servers_half():
    halves = seeded(Model("resnet4/resnet7"))
    whole, images = halves.whole(), torch.randn(3, 1, 8, 8)
    assert torch.equal(whole(images), halves.server(halves.client.extractor(images)))
    nn.init.zeros_(halves.server.head.weight)
    assert torch.equal(whole(images), halves.server.head.bias.expand(3, 10))  # it shares its parameters with them


def test_all_norms_start_from_the_same_weights_under_one_seed():
    drawn = [seeded(Model("resnet4/resnet7", norm=norm)) for norm in ("batch", "group", "layer")]
    for half in ("client", "server"):
        first, *others = (list(getattr(halves, half).parameters()) for halves in drawn)
        assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
def test_both_halves_take_a_gradient_in_every_parameter(norm):
    halves = seeded(Model("resnet4/resnet7", norm=norm))
    images, labels = torch.randn(4, 1, 8, 8), torch.arange(4)
    F.cross_entropy(halves.client(images), labels).backward()
    F.cross_entropy(halves.server(halves.client.extractor(images).detach()), labels).backward()
    for half in (halves.client, halves.server):
        # Without norm the last convolution of a block starts at zero, so that nothing reaches the ones before it yet.
        reached = [name for name, p in half.named_parameters() if p.grad is not None and p.grad.isfinite().all()]
        assert reached == [name for name, _ in half.named_parameters()]
        assert half.get_parameter(reached[-1]).grad.abs().sum() > 0


def test_dropout_stands_before_both_heads():
    halves = seeded(Model("resnet4/resnet7", dropout=0.5))
    assert isinstance(halves.client.classifier.dropout, nn.Dropout) and isinstance(halves.server.dropout, nn.Dropout)
    assert seeded(Model("resnet4/resnet7")).server.dropout is None


@pytest.mark.parametrize(
    ("model", "shape", "words"),
    [
        (Model("resnet8-resnet49"), CIFAR, "Did you mean 'resnet8/resnet49'?"),
        (Model("resnet8"), CIFAR, "resnet8/resnet19"),
        (Model("resnet4/resnet7"), (64,), "Give images as (C, H, W)"),
        (Model("resnet4/resnet7", norm="group", groups=3), CIFAR, "1, 2, 4, 8, 16"),
    ],
)
def test_what_no_pair_can_be_built_from_is_told_with_a_way_out(model, shape, words):
    with pytest.raises(ConfigurationError) as told, torch.device("meta"):
        build_halves(model, shape, 10)
    assert words in str(told.value)
