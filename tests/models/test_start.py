"""Networks that start from a file, and parameters that do not train."""

import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from fedlens import ConfigurationError, Model
from fedlens.models import build, lasting
from fedlens.models.start import started
from fedlens.tree import Layout

SHAPE = (1, 8, 8)


def small(classes: int = 3, **settings: object) -> nn.Module:
    """small-cnn with batch norm: conv1, norm1, conv2, norm2, head."""
    torch.manual_seed(7)
    return build(Model("small-cnn", **{"norm": "batch", **settings}), SHAPE, classes)


def other() -> dict[str, torch.Tensor]:
    """The state of a small-cnn that has nothing in common with the one that seed 7 draws."""
    torch.manual_seed(1)
    state = build(Model("small-cnn", norm="batch"), SHAPE, 3).state_dict()
    for name, value in state.items():
        if "running" in name:
            value += 0.5
    state["norm1.num_batches_tracked"] += 9
    return {name: value.clone() for name, value in state.items()}


def write(state: dict[str, torch.Tensor], name: str = "s.safetensors") -> str:
    save_file({key: value.contiguous() for key, value in state.items()}, name)
    return name


def told(start: str | None = "s.safetensors", classes: int = 3, **settings: object) -> str:
    with pytest.raises(ConfigurationError) as error:
        small(classes, start=start, **settings)
    assert all(problem.what and problem.where and problem.do for problem in error.value.problems)
    return str(error.value)


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> list[str]:
    assert one.keys() == two.keys()
    return [name for name in one if torch.equal(one[name], two[name])]


def test_every_value_is_taken_counts_and_statistics_too():
    state = other()
    assert len(equal(small(start=write(state)).state_dict(), state)) == len(state)


def test_what_is_fresh_starts_as_it_would_without_a_file():
    state = other()
    begun, plain = small(5, start=write(state), fresh=("head.*",)).state_dict(), small(5).state_dict()
    assert begun["head.weight"].shape == (5, 128)
    for name in state:
        assert torch.equal(begun[name], (plain if name.startswith("head.") else state)[name]), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(dtype):
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in other().items()}
    begun = small(start=write(state)).state_dict()
    assert begun["conv1.weight"].dtype == torch.float32
    assert torch.equal(begun["conv1.weight"], state["conv1.weight"].float())


def test_counts_may_be_absent():
    state = {name: value for name, value in other().items() if "num_batches" not in name}
    assert small(start=write(state)).state_dict()["norm1.num_batches_tracked"] == 0


def test_a_file_may_be_named_from_home(monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    write(other())
    small(start="~/s.safetensors")


def test_names_that_the_file_lacks_are_told_with_the_pattern_that_lets_them_go():
    state = {name: value for name, value in other().items() if not name.startswith("head.") and name != "norm1.bias"}
    write(state)
    text = told()
    assert "model.start: the file lacks names of the model.\n  seen: norm1.bias, head.weight, head.bias\n" in text
    assert 'add to model.fresh: "norm1.bias", "head.*".' in text  # norm1.* would leave out norm1.weight as well
    small(start="s.safetensors", fresh=("norm1.bias", "head.*"))


def test_names_that_the_model_lacks_are_told_and_may_be_left():
    write({**other(), "proxy.weight": torch.zeros(2), "proxy.bias": torch.zeros(2)})
    text = told()
    assert "the file has names that the model lacks" in text and 'model.fresh: "proxy.*".' in text
    small(start="s.safetensors", fresh=("proxy.*",))


def test_a_deeper_network_is_not_taken_for_a_shallower_one():
    write(build(Model("resnet20"), (3, 8, 8), 3).state_dict())
    with pytest.raises(ConfigurationError, match="names that the model lacks") as error:
        build(Model("resnet8", start="s.safetensors"), (3, 8, 8), 3)
    assert "and 68 more" in str(error.value)  # 2 blocks in each of 3 stages, of 2 x (1 + 5) tensors each, less the 4


def test_shapes_that_differ_are_told_with_both():
    write(other())
    text = told(classes=5)
    assert "head.weight: [3, 128], in the model [5, 128]; head.bias: [3], in the model [5]" in text
    assert 'model.fresh: "head.*".' in text


def test_values_that_are_not_finite_are_refused():
    state = other()
    state["conv1.weight"][0, 0, 0, 0] = float("nan")
    state["norm2.running_var"] = state["norm2.running_var"].double() * 1e300  # finite, but not as float32
    write(state)
    assert "values in the file are not finite.\n  seen: conv1.weight, norm2.running_var\n" in told()


def test_numbers_of_another_kind_are_refused():
    state = other()
    state["conv1.weight"] = (state["conv1.weight"] * 100).to(torch.int8)
    write(state)
    assert "another kind.\n  seen: conv1.weight: torch.int8, in the model torch.float32" in told()


def test_a_file_of_another_model_is_told_by_its_names():
    write({f"module.{name}": value for name, value in other().items()})
    text = told()
    assert "nothing can be taken from the file" in text and "lacks" not in text
    assert "the file has module.conv1.weight, module.conv2.weight" in text and "the model has conv1.weight" in text
    write({})
    assert "the file has no names" in told()
    write(other())
    assert "Take names off model.fresh" in told(fresh=("*",))


def test_all_problems_are_told_at_once():
    state = other()
    del state["conv1.weight"]
    state["conv2.weight"] += float("inf")
    write({**state, "proxy": torch.zeros(1)})
    text = told(classes=5, fresh=("haed.*",), freeze=("conv9.*", "norm1.running_mean", "con?2.*"))
    said = ["lacks names", "that the model lacks", "shapes", "not finite", "'haed.*'", "'conv9.*'", "only buffers"]
    assert all(words in text for words in said), text


def test_the_module_is_left_alone_where_anything_is_wrong():
    module = small()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ConfigurationError):
        started(module, Model("small-cnn", start=write(other()), freeze=("conv1.*", "nosuch")))
    assert len(equal(module.state_dict(), before)) == len(before)
    assert all(parameter.requires_grad for parameter in module.parameters())


WHOLE = save({"a": torch.zeros(3, 4)})


@pytest.mark.parametrize("content", [b"", b"junk" * 30, WHOLE[:20], WHOLE[:-5], WHOLE + b"x"])
def test_a_torn_file_is_told(content):
    Path("s.safetensors").write_bytes(content)
    assert "model.start: not a whole safetensors file.\n  seen: s.safetensors: " in told()


def test_a_pickle_is_not_opened():
    torch.save(other(), "s.pt")
    assert "safetensors.torch.save_file" in told("s.pt")


def test_an_absent_file_is_told_with_the_nearest_one():
    write(other(), "base.safetensors")
    assert "there is no such file.\n  seen: bas.safetensors\n  do:   Did you mean 'base.safetensors'?" in told(
        "bas.safetensors"
    )
    assert "model.safetensors of a finished run" in told("nowhere/x.safetensors")
    Path("run").mkdir()
    write(other(), "run/model.safetensors")
    assert "a folder is no file to start from.\n  seen: run\n  do:   Did you mean 'run/model.safetensors'?" in told(
        "run"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_told():
    Path(write(other())).chmod(0)
    assert "the file cannot be read" in told()


def test_a_tensor_under_two_names_may_be_saved_under_one():
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    module = nn.Sequential(OrderedDict(first=first, second=second))
    write({"first.weight": torch.eye(4)})
    started(module, Model(start="s.safetensors"))
    assert torch.equal(second.weight, torch.eye(4))


def test_frozen_parameters_land_in_the_frozen_group_and_nothing_else_does():
    groups = {slot.name: slot.group for slot in Layout.of(small(freeze=("conv1.*", "norm?.weight"))).slots}
    frozen = {name for name, group in groups.items() if group == "frozen"}
    assert frozen == {"conv1.weight", "norm1.weight", "norm2.weight"}
    assert groups["norm1.bias"] == "norm" and groups["norm1.running_mean"] == "buffers"


def test_patterns_that_match_nothing_are_told_with_the_nearest_one():
    assert "model.freeze: 'conv1' matches no name of the model's parameters.\n  do:   Did you mean 'conv1.*'?" in told(
        None, freeze=("conv1",)
    )
    assert "Did you mean 'head.weight'?" in told(None, freeze=("head.wieght",))
    assert "There are: conv1.*, conv2.*, head.*, norm1.* and 1 more." in told(None, freeze=("zzz",))
    write(other())
    assert "model.fresh: 'haed.*' matches no name of the model or the file" in told(fresh=("haed.*",))


def test_freezing_everything_is_refused():
    assert "model.freeze: nothing is left to train" in told(None, freeze=("*",))
    assert "nothing is left to train" in told(None, freeze=("conv*", "norm*", "head.*"))


def test_one_pattern_alone_is_a_list_of_one():
    assert Model(freeze="conv1.*").freeze == ("conv1.*",) == Model(freeze=["conv1.*"]).freeze
    with pytest.raises(ConfigurationError, match=r"Model\.freeze"):
        Model(freeze=3)


def test_fresh_without_a_file_is_refused():
    with pytest.raises(ConfigurationError, match="fresh has no effect without start"):
        Model(fresh=("head.*",))


def test_a_link_is_followed_once_and_for_all():
    Path("runs/one").mkdir(parents=True)
    Path("runs/latest").symlink_to("one")
    here = Path.cwd().resolve()
    assert lasting(Model(start="runs/latest/model.safetensors")).start == "runs/one/model.safetensors"
    assert lasting(Model(start=f"{here}/runs/latest/m")).start == f"{here}/runs/one/m"
    assert lasting(Model(start="nosuch/m")).start == "nosuch/m"
    assert lasting(Model()) == Model()
