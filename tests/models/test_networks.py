"""The built-in networks: their sizes, their norms, what they take and refuse, what they cost."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fedlens.errors import ConfigurationError
from fedlens.models import MODELS, Model, build, cost
from fedlens.models.mobilenet import Inverted
from fedlens.models.resnet import Basic, Bottleneck

NORMS = ("batch", "group", "layer", "none")
LARGE = ("resnet56", "resnet18", "resnet50")  # built of the same blocks as resnet8 and the one large model tried below
DISTINCT = [name for name in MODELS if name not in ("resnet20", "resnet56")]  # those are resnet8 with more blocks
NORMED = [name for name in DISTINCT if name != "logistic"]  # which has no layer for a norm to stand after


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@functools.cache
def free(model: Model, shape: tuple[int, ...], classes: int = 10) -> nn.Module:
    """The model on the meta device, where large ones cost nothing; made once, so tests must not change it."""
    with torch.device("meta"):
        return build(model, shape, classes)


def norm_layers(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, (_NormBase, nn.GroupNorm, nn.LayerNorm))]


def trained_once(module: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    outputs = module.train()(torch.randn(2, *shape))
    F.cross_entropy(outputs, torch.tensor([0, 1])).backward()
    return outputs


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("logistic", 784 * 10 + 10),
        ("mlp", 784 * 200 + 200 + 200 * 10 + 10),  # 159,010
        ("cnn", 1_663_370),  # McMahan et al. 2017, section 3
        ("cifar-cnn", 1_626_442),  # 896 + 18,496 + 64 * 14 * 14 * 128 + 128 + 1,290
        ("lenet", 62_006),  # 456 + 2,416 + 48,120 + 10,164 + 850
        ("small-cnn", 144 + 32 + 4608 + 64 + 128 * 10 + 10),  # 8 x 8 pooled twice is 2 x 2 of 32 channels: 128
        ("resnet8", 78_042),
        ("resnet20", 272_474),
        ("resnet56", 855_770),
        ("resnet18", 11_173_962),
        ("resnet50", 23_520_842),
        ("mobilenet-mnist", 13_322),  # 352 + (288 + 64 + 2048 + 128) + (576 + 128 + 8192 + 256) + 1290
        ("mobilenetv2", 2_236_682),  # the paper's 3,504,872 with a head of 1280 x 10 + 10 for 1280 x 1000 + 1000
    ],
)
def test_every_model_has_the_parameters_its_source_counts(name, parameters):
    assert cost(free(Model(name), MODELS[name].shape), MODELS[name].shape).parameters == parameters


def test_every_model_of_the_table_is_counted_above():
    marks = test_every_model_has_the_parameters_its_source_counts.pytestmark
    assert {case[0] for mark in marks for case in mark.args[1]} == set(MODELS)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_resnet8_and_resnet50_count_the_same_with_batch_and_group_norm(norm):
    for name, parameters in (("resnet8", 78_042), ("resnet50", 23_520_842)):
        assert sum(p.numel() for p in free(Model(name, norm=norm), (3, 32, 32)).parameters()) == parameters


def test_resnet8_with_group_norm_has_29_tensors_and_no_buffers():
    # stem 3; stage 1: 2 x (conv, scale, shift) = 6; stages 2 and 3: 9 each with the projection; head 2
    state = build(Model("resnet8", norm="group"), (3, 32, 32), 10).state_dict()
    assert len(state) == 3 + 6 + 9 + 9 + 2 == 29


@pytest.mark.parametrize(
    ("name", "norm"),
    [(name, norm) for name in MODELS if name not in LARGE for norm in (NORMS if name != "logistic" else ["none"])],
)
def test_every_model_trains_with_every_norm_it_takes(name, norm):
    shape = MODELS[name].shape
    module = build(Model(name, norm=norm, groups=2), shape, 10)
    assert trained_once(module, shape).shape == (2, 10)
    for path, parameter in module.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all(), path


@pytest.mark.parametrize("norm", ["group", "none"])
@pytest.mark.parametrize("name", LARGE)
def test_large_models_train_on_small_images(name, norm):
    module = build(Model(name, norm=norm), (3, 8, 8), 10)
    assert torch.isfinite(trained_once(module, (3, 8, 8))).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters())


@pytest.mark.parametrize("name", NORMED)
def test_each_norm_leaves_no_trace_of_the_others(name):
    kinds = {norm: norm_layers(free(Model(name, norm=norm, groups=2), MODELS[name].shape)) for norm in NORMS}
    assert kinds["none"] == []
    assert kinds["batch"] and all(isinstance(layer, _NormBase) for layer in kinds["batch"])
    assert len(kinds["batch"]) == len(kinds["group"]) == len(kinds["layer"])
    assert {layer.num_groups for layer in kinds["group"]} == {2}
    assert {layer.num_groups for layer in kinds["layer"]} == {1}


@pytest.mark.parametrize("name", NORMED)
def test_a_layer_has_a_bias_exactly_where_no_norm_follows_it(name):
    shape = MODELS[name].shape
    for norm in ("group", "none"):
        layers = free(Model(name, norm=norm, groups=2), shape).named_modules()
        biased = {p: m.bias is not None for p, m in layers if isinstance(m, (nn.Conv2d, nn.Linear))}
        assert biased.pop("head")
        assert set(biased.values()) == {norm == "none"}


@pytest.mark.parametrize(("name", "norm"), [(name, entry.norm) for name, entry in MODELS.items()])
def test_norm_left_unset_is_the_models_own(name, norm):
    unset, named = (free(Model(name, norm=choice), MODELS[name].shape) for choice in (None, norm))
    assert str(unset) == str(named)


def test_batch_and_group_forms_start_from_the_same_weights():
    states = []
    for norm in ("batch", "group"):
        torch.manual_seed(3)
        states.append(build(Model("resnet8", norm=norm), (3, 32, 32), 10).state_dict())
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())


def test_residual_convolutions_start_as_he_2015_says():
    weight = build(Model("resnet18"), (3, 32, 32), 10).get_submodule("stages.stage4.0.conv1").weight
    assert weight.shape == (512, 256, 3, 3)
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(("block", "width"), [(Basic, 4), (Bottleneck, 1)])
def test_a_residual_block_whose_branch_is_zero_is_a_rectifier(block, width):
    images = torch.randn(2, 4, 5, 5)
    inner = block(4, width, 1, True)
    nn.init.zeros_((inner.norm2 if block is Basic else inner.norm3).weight)
    assert torch.equal(inner(images), images.relu())


@pytest.mark.parametrize("name", ["resnet8", "resnet50"])
def test_residual_blocks_without_norm_start_with_a_zero_branch_and_still_tell_images_apart(name):
    module = build(Model(name, norm="none"), (3, 8, 8), 10)
    last = "conv3" if name == "resnet50" else "conv2"
    weights = [p for path, p in module.named_parameters() if path.startswith("stages") and f"{last}.weight" in path]
    assert len(weights) == (16 if name == "resnet50" else 3)
    assert not any(weight.any() for weight in weights)
    outputs = module(torch.randn(2, 3, 8, 8))
    assert (outputs[0] - outputs[1]).abs().max() > 0.01


@pytest.mark.parametrize("name", ["mobilenet-mnist", "mobilenetv2"])
def test_mobilenets_without_norm_start_with_outputs_that_tell_images_apart(name):
    outputs = build(Model(name, norm="none"), MODELS[name].shape, 10)(torch.randn(2, *MODELS[name].shape))
    assert 0.01 < (outputs[0] - outputs[1]).abs().max() < 10


def test_inverted_residuals_add_their_input_only_where_shapes_agree():
    images = torch.randn(2, 4, 6, 6)
    for out, stride, expected in ((4, 1, images), (6, 1, torch.zeros(2, 6, 6, 6)), (4, 2, torch.zeros(2, 4, 3, 3))):
        block = Inverted(4, out, 6, stride, True)
        nn.init.zeros_(block.inner.project.norm.weight)
        assert torch.equal(block(images), expected)


def test_groups_that_do_not_divide_are_told_by_layer_with_those_that_do():
    with pytest.raises(ConfigurationError) as told:
        build(Model("resnet8", norm="group", groups=32), (3, 32, 32), 10)
    text = str(told.value)
    assert "32 groups do not divide the 16 channels of layer 'norm'" in text
    assert "1, 2, 4, 8, 16." in text
    with pytest.raises(ConfigurationError, match=r"6 channels of layer 'norm1'(.|\n)*: 1, 2\."):
        build(Model("lenet", norm="group"), (3, 32, 32), 10)


def test_the_layer_that_groups_do_not_divide_is_named_by_its_path():
    with pytest.raises(ConfigurationError, match=r"24 channels of layer 'stage2\.0\.inner\.project\.norm'"):
        build(Model("mobilenetv2", norm="group", groups=16), (3, 32, 32), 10)


@pytest.mark.parametrize(
    ("name", "mflop"),
    [
        ("resnet8", 25.0),
        ("cnn", 24.5),
        ("cifar-cnn", 33.7),
        ("mobilenet-mnist", 1.89),
        ("resnet50", 2596),
        ("mlp", 2 * 159_000 / 1e6 - 2e-4),
    ],
)
def test_forward_work_is_what_was_measured(name, mflop):
    assert cost(free(Model(name), MODELS[name].shape), MODELS[name].shape).mflop == pytest.approx(mflop, rel=2e-3)


def test_cost_counts_frozen_parameters_and_floating_buffers_and_changes_nothing():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    module[0].weight.requires_grad_(False)
    module[1].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = cost(module, (1, 4, 4))
    assert found.parameters == (36 + 4) + 8 + 34
    assert found.trainable == found.parameters - 36
    assert found.buffers == 4 + 4 + 1  # the count of batches is an integer and is not sent
    assert found.update_bytes == 4 * (found.parameters + 8)
    assert found.mflop == pytest.approx(2 * (36 * 4 + 32) / 1e6)
    assert module.training and not module[1].training and not module[0].weight.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_cost_of_a_network_that_needs_values_is_computed_with_values():
    class Testing(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1)) if x.sum().item() == 0 else x

    assert cost(Testing(4, 3), (1, 2, 2)).mflop == pytest.approx(2 * 12 / 1e6)


@pytest.mark.parametrize("name", [name for name in DISTINCT if name != "cifar-cnn"])
def test_dropout_adds_one_layer_before_the_head_and_none_at_zero(name):
    shape = MODELS[name].shape
    without, with_it = free(Model(name), shape), free(Model(name, dropout=0.5), shape)
    dropped = [part for part in with_it.modules() if isinstance(part, nn.Dropout)]
    assert [part.p for part in dropped] == [0.5]
    assert not any(isinstance(part, nn.Dropout) for part in without.modules())
    assert [n for n, _ in without.named_parameters()] == [n for n, _ in with_it.named_parameters()]


def test_cifar_cnn_drops_half_as_much_after_pooling_and_nothing_unless_asked():
    layers = {rate: free(Model("cifar-cnn", dropout=rate), (3, 32, 32)) for rate in (0.0, 0.5)}
    assert not any(isinstance(part, nn.Dropout) for part in layers[0.0])
    kinds = [type(part).__name__ for part in layers[0.5]]
    assert kinds == [
        *("Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d", "Dropout", "Flatten", "Linear", "ReLU", "Dropout", "Linear")
    ]
    assert [part.p for part in layers[0.5] if isinstance(part, nn.Dropout)] == [0.25, 0.5]


def test_logistic_regression_is_one_linear_map_of_the_pixels_and_takes_no_norm():
    module, images = build(Model("logistic"), (2, 3, 4), 5), torch.randn(7, 2, 3, 4)
    torch.testing.assert_close(module(images), images.reshape(7, 24) @ module.head.weight.T + module.head.bias)
    for norm in ("batch", "group", "layer"):
        with pytest.raises(ConfigurationError, match=r"no hidden layer to normalise(.|\n)*Leave norm unset"):
            build(Model("logistic", norm=norm), (1, 28, 28), 10)


@pytest.mark.parametrize("name", ["logistic", "mlp", "cnn", "cifar-cnn", "resnet8", "mobilenet-mnist"])
def test_dropout_changes_training_and_not_evaluation(name):
    module, images = build(Model(name, dropout=0.5), MODELS[name].shape, 10), torch.randn(2, *MODELS[name].shape)
    assert not torch.equal(module(images), module(images))
    module.eval()
    assert torch.equal(module(images), module(images))


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.smallest > 1])
def test_images_one_pixel_below_the_least_are_refused_with_what_fits(name):
    least = MODELS[name].smallest
    free(Model(name, groups=2), (1, least, least))
    for shape in ((1, least - 1, least), (1, least, least - 1)):
        with pytest.raises(ConfigurationError) as told:
            build(Model(name), shape, 10)
        assert f"'{name}' cannot take images of shape {shape}" in str(told.value)
        assert f"{least} x {least}" in str(told.value)
        assert "resnet8" in str(told.value)


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.smallest == 1])
def test_models_that_promise_to_take_one_pixel_take_it(name):
    free(Model(name), (1, 1, 1))


@pytest.mark.parametrize("shape", [(28, 28), (1, 0, 28), (3, 32, 32, 3)])
def test_shapes_that_are_not_channels_height_width_are_refused(shape):
    with pytest.raises(ConfigurationError):
        build(Model("cnn"), shape, 10)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LARGE])
def test_oblong_images_with_other_channels_and_classes_are_taken(name):
    assert free(Model(name, groups=2), (2, 24, 36), 7)(torch.zeros(3, 2, 24, 36, device="meta")).shape == (3, 7)


def test_an_unknown_name_offers_the_nearest_and_the_list():
    with pytest.raises(ConfigurationError) as told:
        build(Model("resnet9"), (3, 32, 32), 10)
    assert "there is no model 'resnet9'" in str(told.value)
    assert "Did you mean 'resnet" in str(told.value)
    assert all(name in str(told.value) for name in MODELS)


def test_building_takes_no_random_numbers_beyond_the_initial_weights():
    torch.manual_seed(0)
    build(Model("mlp"), (1, 4, 4), 3)
    after = torch.rand(1)
    torch.manual_seed(0)
    nn.Linear(16, 200), nn.Linear(200, 3)
    assert torch.equal(after, torch.rand(1))
