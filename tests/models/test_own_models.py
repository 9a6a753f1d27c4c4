"""Networks of the user's own, and norm layers put into them."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from fedlens.errors import ConfigurationError
from fedlens.models import Model, build, swap_norm

SHAPE = (3, 8, 8)

FILE = """
import torch
from torch import nn

def both(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
def only_classes(classes, width=4):
    return nn.Sequential(nn.Conv2d(3, width, 8), nn.Flatten(), nn.Linear(width, classes))
def nothing(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(5))
def everything(**given): return both(**given)
def normed(classes):
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, eps=0.01), nn.Flatten(), nn.Linear(216, classes))
def positional(shape, /): return both(shape, 5)
def greedy(shape, classes, width): return both(shape, classes)
def broken(): raise ValueError("the moon is full")
def a_string(): return "resnet8"
def ours_misspelt():
    from fedlens.models import Model, build
    return build(Model("resnet9"), (3, 8, 8), 5)
def grey(classes): return nn.Conv2d(1, classes, 8)
def two_outputs():
    class Two(nn.Linear):
        def forward(self, x): return x, x
    return Two(2, 2)
class Noisy(nn.Linear):
    def forward(self, x): return super().forward(x.flatten(1)) + torch.rand(1)
def noisy(classes): return Noisy(192, classes)
number = 7
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the user's file, as the current one; what is imported from it is forgotten afterwards."""
    (tmp_path / "mine_nets.py").write_text(FILE)
    (tmp_path / "mine_broken.py").write_text("import a_package_nobody_has\n")
    (tmp_path / "mine_exits.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]


def told(model: Model, classes: int = 5) -> str:
    with pytest.raises(ConfigurationError) as error:
        build(model, SHAPE, classes)
    return str(error.value)


@pytest.mark.parametrize("function", ["both", "only_classes", "nothing", "everything", "normed"])
def test_a_function_is_given_what_its_signature_takes(here, function):
    module = build(Model(f"mine_nets:{function}"), SHAPE, 5)
    assert module(torch.zeros(2, *SHAPE)).shape == (2, 5)
    assert all(part.training for part in module.modules())


def test_the_check_of_a_network_that_draws_numbers_takes_none_of_the_callers(here):
    torch.manual_seed(0)
    build(Model("mine_nets:noisy"), SHAPE, 5)
    after = torch.rand(1)
    torch.manual_seed(0)
    nn.Linear(192, 5)
    assert torch.equal(after, torch.rand(1))


def test_norm_left_unset_leaves_a_users_network_alone(here):
    assert isinstance(build(Model("mine_nets:normed"), SHAPE, 5)[1], nn.BatchNorm2d)


def test_norm_asked_for_is_put_into_a_users_network(here):
    group = build(Model("mine_nets:normed", norm="group", groups=3), SHAPE, 5)[1]
    assert isinstance(group, nn.GroupNorm) and group.num_groups == 3 and group.eps == 0.01
    assert isinstance(build(Model("mine_nets:normed", norm="none"), SHAPE, 5)[1], nn.Identity)


def test_groups_that_do_not_divide_a_users_layer_name_it(here):
    assert "8 groups do not divide the 6 channels of layer '1'" in told(Model("mine_nets:normed", norm="group"))


def test_norm_asked_for_where_nothing_can_be_swapped_is_refused(here):
    assert "'mine_nets:both' has no BatchNorm layer" in told(Model("mine_nets:both", norm="group"))
    build(Model("mine_nets:both", norm="none"), SHAPE, 5)


def test_dropout_that_a_users_network_would_ignore_is_refused(here):
    assert "would ignore it" in told(Model("mine_nets:both", dropout=0.1))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine_absent:net", ["there is no module 'mine_absent'", "looked in"]),
        ("mine_nets.sub:net", ["there is no module 'mine_nets.sub'"]),
        ("mine_broken:net", ["importing 'mine_broken' failed", "a_package_nobody_has", "mine_broken.py:1"]),
        ("mine_exits:net", ["importing 'mine_exits' failed", "SystemExit"]),
        ("mine_nets:boths", ["module 'mine_nets' has no 'boths'", "Did you mean 'both'?", "mine_nets.py"]),
        ("mine_nets:number", ["'mine_nets:number' is not a function", "int: 7"]),
        ("mine_nets:", ["does not name a function", "package.module:function"]),
        ("mine-nets:both", ["does not name a function"]),
        ("mine_nets:greedy", ["needs arguments that it is not given", "width"]),
        ("mine_nets:positional", ["needs arguments that it is not given", "shape"]),
        ("mine_nets:broken", ["'mine_nets:broken' failed", "ValueError: the moon is full", "mine_nets.py:"]),
        ("mine_nets:ours_misspelt", ["there is no model 'resnet9'", "Did you mean"]),
        ("mine_nets:a_string", ["did not return a torch.nn.Module", "str: 'resnet8'"]),
        ("mine_nets:grey", ["cannot take images of shape (3, 8, 8)", "RuntimeError"]),
        ("mine_nets:two_outputs", ["does not give one logit a class", "tuple"]),
    ],
)
def test_what_is_wrong_with_a_users_path_is_told(here, name, words):
    text = told(Model(name))
    assert all(word in text for word in words), text
    assert text.startswith("model.name: ")
    assert "do:" in text


def test_a_users_network_with_the_wrong_number_of_outputs_is_refused(here):
    assert "shape [2, 5] for 2 images" in told(Model("mine_nets:nothing"), classes=6)


def test_swapping_keeps_parameters_epsilon_mode_and_frozenness():
    layer = nn.BatchNorm2d(4, eps=0.5)
    nn.init.constant_(layer.weight, 3.0)
    layer.bias.requires_grad_(False)
    module = nn.ModuleDict({"inner": nn.Sequential(nn.Conv2d(1, 4, 1), layer.eval())})
    swapped = swap_norm(module, "layer", 8)["inner"][1]
    assert swapped.num_groups == 1 and swapped.eps == 0.5 and not swapped.training
    assert swapped.weight is layer.weight and not swapped.bias.requires_grad


def test_swapping_a_norm_without_scale_gives_one_without_scale():
    assert swap_norm(nn.Sequential(nn.BatchNorm1d(4, affine=False)), "group", 2)[0].weight is None


def test_a_norm_used_in_two_places_stays_one():
    shared = nn.BatchNorm2d(4)
    module = nn.Sequential(shared, nn.ReLU(), shared)
    swap_norm(module, "group", 2)
    assert isinstance(module[0], nn.GroupNorm) and module[0] is module[2]


def test_a_module_that_is_itself_a_norm_is_replaced():
    assert isinstance(swap_norm(nn.BatchNorm2d(4), "group", 2), nn.GroupNorm)


def test_a_refused_swap_changes_nothing():
    module = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(6))
    with pytest.raises(ConfigurationError, match=r"layer '1'(.|\n)*: 1, 2\."):
        swap_norm(module, "group", 4)
    assert all(isinstance(layer, nn.BatchNorm2d) for layer in module)


def test_group_norm_after_a_swap_treats_each_image_alone():
    module = swap_norm(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), "group", 2)
    images = torch.randn(5, 1, 6, 6)
    assert torch.allclose(module(images)[:1], module(images[:1]), atol=1e-6)


@pytest.mark.parametrize("wrong", [{"norm": "instance"}, {"groups": 0}, {"dropout": 1.0}, {"depth": 3}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigurationError):
        Model("resnet8", **wrong)
