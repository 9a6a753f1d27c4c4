"""Clients trained together against the same clients one by one with automatic differentiation, in float64."""

import dataclasses
import math
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from chains import MODELS, case, line, near
from torch import Tensor, nn

from fedlens import Local
from fedlens.local import Diverged, Optimizer
from fedlens.local.chain.chain import chain_of
from fedlens.models.mlp import mlp
from fedlens.tree import Layout

ALL = pytest.mark.parametrize("model", MODELS)
LOCALS = {
    "sgd": Local(lr=0.3),
    "momentum": Local(lr=0.3, momentum=0.9, nesterov=True),
    "adam": Local(lr=0.02, optimizer="adam"),
    "decay": Local(lr=0.3, weight_decay=0.1),
    "clip": Local(lr=0.3, clip_norm=0.2),
    "everything": Local(lr=0.02, optimizer="adamw", weight_decay=0.1, clip_norm=0.2),
}


@ALL
@pytest.mark.parametrize("local", LOCALS.values(), ids=LOCALS)
def test_every_client_ends_where_it_ends_alone(model, local):
    ragged = case(model)
    together = ragged.chain.train(*ragged.given, local.lr, Optimizer(local))
    for client, batches in enumerate(ragged.clients):
        alone = ragged.alone(client, local)
        assert near(together.weights[client] - ragged.start, alone.vector - ragged.start), client
        assert near(together.losses[client, : len(batches)], torch.tensor(alone.losses, dtype=torch.float64))
        assert together.losses[client, len(batches) :].isnan().all()


def test_the_clients_of_the_tests_are_ragged():
    lengths = [[len(batch) for batch in batches] for batches in case().clients]
    assert len({len(one) for one in lengths}) > 3 and {size for one in lengths for size in one} == {1, 3, 4}


@ALL
def test_a_methods_correction_is_given_the_clients_that_still_train(model):
    ragged = case(model)
    own = torch.randn(len(ragged.clients), ragged.start.numel(), dtype=torch.float64) / 10
    common = torch.randn(ragged.start.numel(), dtype=torch.float64) / 10

    def prox(gradient: Tensor, weights: Tensor) -> Tensor:
        return gradient + 0.5 * (weights - ragged.start)

    local = Local(lr=0.2, momentum=0.5)
    drawn = ragged.chain.train(*ragged.given, 0.2, Optimizer(local), prox)
    varied = ragged.chain.train(*ragged.given, 0.2, Optimizer(local), lambda g, w: g - own[: len(w)] + common)
    for client in range(len(ragged.clients)):
        alone = ragged.alone(client, local, prox).vector
        assert near(drawn.weights[client] - ragged.start, alone - ragged.start)
        alone = ragged.alone(client, local, lambda g, w, c=own[client]: g - c + common).vector
        assert near(varied.weights[client] - ragged.start, alone - ragged.start)


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_kept_optimisers_continue_and_stop_with_their_client(name):
    ragged, local = case(), LOCALS[name]
    whole = ragged.chain.train(*ragged.given, local.lr, Optimizer(local))
    for client in range(len(ragged.clients)):
        alone = ragged.alone(client, local).optimizer
        assert set(whole.states) == set(alone)
        assert all(near(whole.states[key][client], alone[key]) for key in alone)
    # The first client's visit in two parts, beside a second that takes the same number of steps.
    batches = ragged.clients[0]
    halves = [dataclasses.replace(ragged, clients=[part, part]) for part in (batches[:4], batches[4:])]
    first = halves[0].chain.train(*halves[0].given, local.lr, Optimizer(local))
    _, *given = halves[1].given
    second = halves[1].chain.train(first.weights[0], *given, local.lr, Optimizer(local), states=first.states)
    assert near(second.weights[1] - ragged.start, whole.weights[0] - ragged.start)


def test_optimisers_that_counted_different_steps_are_declined():
    ragged, local = case(), LOCALS["adam"]
    states = ragged.chain.train(*ragged.given, local.lr, Optimizer(local)).states
    with pytest.raises(ValueError, match="that agree"):
        ragged.chain.train(*ragged.given, local.lr, Optimizer(local), states=states)


@pytest.mark.parametrize("local", [LOCALS["sgd"], LOCALS["momentum"]], ids=["sgd", "momentum"])
def test_a_client_that_diverges_shows_its_step_and_leaves_the_others_alone(local):
    ragged = case()
    sound = ragged.chain.train(*ragged.given, local.lr, Optimizer(local))
    client, step = 2, 1
    ragged.inputs[ragged.clients[client][step][0]] = math.nan
    late = next(n for n, at in enumerate(ragged.clients[client]) if ragged.inputs[at].isnan().any())
    broken = ragged.chain.train(*ragged.given, local.lr, Optimizer(local))
    others = [at for at in range(len(ragged.clients)) if at != client]
    assert torch.equal(broken.weights[others], sound.weights[others])
    assert torch.equal(broken.losses[others].nan_to_num(), sound.losses[others].nan_to_num())
    assert broken.losses[client].isfinite().tolist().index(False) == late
    with pytest.raises(Diverged) as told:
        ragged.alone(client, local)
    assert told.value.step == late + 1


def test_outputs_are_the_modules():
    ragged = case("three-layers")
    outputs = ragged.chain.outputs(ragged.start, ragged.inputs)
    assert outputs.shape == (60, 3) and near(outputs, ragged.module(ragged.inputs).detach())
    other = ragged.chain.outputs(2 * ragged.start, ragged.inputs)
    assert not near(other, outputs)


def test_training_in_float32_is_near_the_loop_in_float32():
    ragged = case()
    start, inputs, labels, chunk = ragged.given
    together = ragged.chain.train(start.float(), inputs.float(), labels, chunk, 0.3, Optimizer(Local(lr=0.3)))
    alone = ragged.alone(0, Local(lr=0.3)).vector
    assert together.weights.dtype == torch.float32
    assert (together.weights[0] - alone).norm() < 1e-5 * alone.norm()


def seen(module: nn.Module) -> bool:
    return chain_of(module, Layout.of(module)) is not None


@pytest.mark.parametrize(
    "module",
    [
        mlp((1, 28, 28), 10, norm=False, dropout=0.0),
        nn.Sequential(nn.Linear(4, 3)),
        nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(inplace=True), nn.Linear(5, 3)),
        line(4, 5, 6, 7, 3).float(),
    ],
    ids=["mlp", "logistic", "no-bias", "deep"],
)
def test_fully_connected_models_are_recognised(module):
    assert seen(module)


class Own(nn.Sequential):
    """A sequence that may do anything in its forward."""


class Doubled(nn.Linear):
    """A layer that may, too."""


def hooked(attach) -> nn.Module:
    module = line(4, 5, 3)
    attach(module)
    return module


def frozen(module: nn.Sequential) -> None:
    module[1].bias.requires_grad_(False)


def replaced(module: nn.Sequential) -> None:
    module[1].forward = lambda x: F.linear(x, module[1].weight)


def twice() -> nn.Sequential:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


def tied() -> nn.Sequential:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    module[2].weight = module[0].weight
    return module


def with_buffer() -> nn.Sequential:
    module = line(4, 3)
    module.register_buffer("seen", torch.zeros(1))
    return module


OTHERS = {
    "linear": nn.Linear(4, 3),
    "subclass": Own(OrderedDict(fc=nn.Linear(4, 3))),
    "sub-layer": nn.Sequential(Doubled(4, 3)),
    "batch-norm": mlp((1, 4, 4), 3, norm=True, dropout=0.0),
    "dropout": mlp((1, 4, 4), 3, norm=False, dropout=0.1),
    "tanh": nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
    "no-rectifier": nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)),
    "rectified-logits": nn.Sequential(nn.Linear(4, 3), nn.ReLU()),
    "nested": nn.Sequential(nn.Sequential(nn.Linear(4, 5), nn.ReLU()), nn.Linear(5, 3)),
    "other-flatten": nn.Sequential(nn.Flatten(0), nn.Linear(4, 3)),
    "late-flatten": nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(5, 3)),
    "convolution": nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)),
    "does-not-fit": nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(6, 3)),
    "bfloat16": line(4, 3).bfloat16(),
    "frozen": hooked(frozen),
    "forward-hook": hooked(lambda module: module[1].register_forward_hook(lambda *_: None)),
    "pre-hook": hooked(lambda module: module.register_forward_pre_hook(lambda *_: None)),
    "backward-hook": hooked(lambda module: module[2].register_full_backward_hook(lambda *_: None)),
    "gradient-hook": hooked(lambda module: module[1].weight.register_hook(lambda gradient: gradient)),
    "own-forward": hooked(replaced),
    "used-twice": twice(),
    "tied": tied(),
    "buffer": with_buffer(),
}


@pytest.mark.parametrize("module", OTHERS.values(), ids=OTHERS)
def test_every_other_module_is_left_to_automatic_differentiation(module):
    assert not seen(module)
