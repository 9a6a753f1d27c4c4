"""Counterfactuals of a reference: each changes one thing, or is None where there is no such thing to change."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedlens.diagnosis.trials.course import Setup, taught
from fedlens.errors import FedlensError
from fedlens.local import Local
from fedlens.local.statistics import has_batch_norm
from fedlens.methods import METHODS, fedavg, fedavgm
from fedlens.methods.method import add_update
from fedlens.models.norm import batch_norms, swap_norm
from fedlens.runs import Federation
from fedlens.runs.federation import Lent
from fedlens.server import Central, Communication, Plain

GROUPS = (8, 4, 2, 1)  # the first that divides all channels
UNEQUAL = 0.1  # part by which the examples of two courses may differ and still be called equal
CHANNELS, UNITS, SIDE = (16, 32), 64, 5  # of a small network: two convolutions, a hidden layer; the least image
NO_BOUND = 1e6  # of an update, where clipping is off and the noise stays what it was

Turn = Callable[[Setup], Setup | None]


class Knob(NamedTuple):
    """`turn` changes one thing; `cost`: of its course, in courses of the reference."""

    turn: Turn
    cost: Callable[[Setup], float] = lambda setup: 1.0


def _iid(setup: Setup) -> Setup:
    return dataclasses.replace(setup, twin=Federation.redealt)


def _pooled_samples(setup: Setup) -> Setup:
    """As many examples a round as the cohort sees, in batches of the same size."""

    def twin(federation: Federation) -> Federation:
        samples = federation.samples_per_round()
        batch = _batch(federation, samples)
        return taught(federation.pooled(max(1, round(samples / batch)), batch), setup.lent)

    return dataclasses.replace(setup, twin=twin)


def _pooled_depth(setup: Setup) -> Setup:
    """As many steps as one client takes, in batches of the same size."""

    def twin(federation: Federation) -> Federation:
        batch = _batch(federation, federation.samples_per_round())
        return taught(federation.pooled(federation.depth_per_round(), batch), setup.lent)

    return dataclasses.replace(setup, twin=twin)


def _pooled_wall(setup: Setup) -> Setup:
    """As many steps as one client takes, on batches of all that the cohort sees meanwhile."""

    def twin(federation: Federation) -> Federation:
        depth = federation.depth_per_round()
        batch = min(max(1, round(federation.samples_per_round() / depth)), len(federation.deal.indices))
        return taught(federation.pooled(depth, batch), setup.lent)

    return dataclasses.replace(setup, twin=twin)


def _small_network(setup: Setup) -> Setup | None:
    """A small network of the doctor's on as many pooled examples a round as the cohort sees, at a usual rate."""
    module, local = small_network(setup.lent), setup.experiment.local
    if module is None or not setup.examiner.inputs.is_floating_point():  # rows of tokens are no values
        return None
    work = Local(optimizer="adam", lr=2e-3, batch=local.batch, epochs=local.epochs, steps=local.steps)
    small = setup.on(module).with_(local=work, method=fedavg())
    return _pooled_samples(dataclasses.replace(small, lent=dataclasses.replace(small.lent, loss=None)))


def small_network(lent: Lent) -> nn.Module | None:
    """Two convolutions of stride 2 for images, a hidden layer for rows; None for inputs of another form, or tokens."""
    train = lent.split.train
    shape, classes = tuple(train.images.shape[1:]), len(train.classes)
    draw = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
        if len(shape) == 1:
            return nn.Sequential(nn.Linear(shape[0], UNITS), nn.ReLU(), nn.Linear(UNITS, classes))
        if len(shape) != 3 or min(shape[1:]) < SIDE:
            return None
        first, second = CHANNELS
        height, width = ((one + 1) // 2 for one in shape[1:])
        height, width = (height + 1) // 2, (width + 1) // 2
        return nn.Sequential(
            nn.Conv2d(shape[0], first, 3, stride=2, padding=1), nn.GroupNorm(4, first), nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1), nn.GroupNorm(4, second), nn.ReLU(),
            nn.Flatten(), nn.Linear(second * height * width, classes),
        )  # fmt: skip
    finally:
        torch.random.set_rng_state(draw)


def _batch(federation: Federation, samples: int) -> int:
    batch = federation.experiment.local.batch
    return min(samples if batch == "all" else batch, len(federation.deal.indices))


def _group_norm(setup: Setup) -> Setup | None:
    layers = batch_norms(setup.lent.module)
    if not layers:
        return None
    shared = math.gcd(*(layer.num_features for layer in layers.values()))
    groups = next(count for count in GROUPS if shared % count == 0)
    return setup.on(swap_norm(copy.deepcopy(setup.lent.module), "group", groups))


def _batch_norm(setup: Setup) -> Setup | None:
    module = copy.deepcopy(setup.lent.module)
    named = [(path, part) for path, part in module.named_modules() if path and isinstance(part, nn.GroupNorm)]
    if not named or setup.experiment.privacy.mechanism is not None:
        return None
    for path, part in named:
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, _heir(part))
    return setup.on(module)


class _AnyBatchNorm(_BatchNorm):
    """Batch norm over everything but channels, whatever the shape."""

    def _check_input_dim(self, input: object) -> None:
        return None


def _heir(layer: nn.GroupNorm) -> nn.Module:
    heir = _AnyBatchNorm(layer.num_channels, eps=layer.eps, affine=layer.affine)
    if layer.affine:
        heir.weight, heir.bias = layer.weight, layer.bias
    return heir


def _recalibrated(setup: Setup) -> Setup | None:
    if not has_batch_norm(setup.lent.module):
        return None
    return setup.with_(server=dataclasses.replace(setup.experiment.server, statistics="recalibrate"))


def rate_times(factor: float) -> Turn:
    """The local rate times `factor`."""
    return lambda setup: at_rate(setup, setup.experiment.local.lr * factor)


def at_rate(setup: Setup, rate: float) -> Setup:
    """With the local rate `rate`."""
    return setup.with_(local=dataclasses.replace(setup.experiment.local, lr=rate))


def _steps_times(factor: float) -> Turn:
    """Local steps times `factor` in rounds divided by it: the same examples in all."""

    def turn(setup: Setup) -> Setup | None:
        local, rounds = setup.experiment.local, setup.experiment.rounds
        now = local.step_count(round(float(setup.lent.deal.sizes.mean())))
        steps, changed = round(now * factor), round(rounds / factor)
        if not steps or not changed or abs(steps * changed / (now * rounds) - 1) > UNEQUAL:
            return None
        if local.steps is None and float(local.epochs * factor).is_integer():
            work = dataclasses.replace(local, epochs=round(local.epochs * factor))
        else:
            work = dataclasses.replace(local, steps=steps)
        return setup.with_(local=work, rounds=changed, evaluate_every=changed)

    return turn


def _everybody(setup: Setup) -> Setup | None:
    clients = setup.experiment.clients
    if clients.cohort == clients.count:
        return None
    return setup.with_(clients=dataclasses.replace(clients, cohort=clients.count))


def _codec_off(setup: Setup) -> Setup | None:
    if isinstance(setup.experiment.communication.up, Plain):
        return None
    return setup.with_(communication=Communication())


def _feedback(setup: Setup) -> Setup | None:
    sent = setup.experiment.communication
    if isinstance(sent.up, Plain) or sent.error_feedback:
        return None
    try:
        return setup.with_(communication=dataclasses.replace(sent, error_feedback=True))
    except FedlensError:
        return None


def _noise_off(setup: Setup) -> Setup | None:
    mechanism = setup.experiment.privacy.mechanism
    if not isinstance(mechanism, Central) or not mechanism.noise:
        return None
    changed = dataclasses.replace(mechanism, noise=0.0)
    return setup.with_(privacy=dataclasses.replace(setup.experiment.privacy, mechanism=changed))


def _clip_off(setup: Setup) -> Setup | None:
    """No bound, and the same noise."""
    mechanism = setup.experiment.privacy.mechanism
    if not isinstance(mechanism, Central):
        return None
    changed = Central(noise=mechanism.noise * mechanism.clip / NO_BOUND, clip=NO_BOUND)
    return setup.with_(privacy=dataclasses.replace(setup.experiment.privacy, mechanism=changed))


def _server_momentum(setup: Setup) -> Setup | None:
    method, step = setup.experiment.method, fedavgm(beta=0.9)
    if method.aggregate is not add_update:
        return None
    return setup.with_(method=dataclasses.replace(method, aggregate=step.aggregate, server_memory=step.server_memory))


def _method(name: str) -> Turn:
    """Another algorithm in the place of plain averaging."""

    def turn(setup: Setup) -> Setup | None:
        e, method = setup.experiment, METHODS[name]()
        known = e.method.name == "fedavg" and e.method.aggregate is add_update
        if not known or (setup.lent.loss is not None and method.loss is not None):
            return None
        try:
            return setup.with_(method=method)
        except FedlensError:
            return None

    return turn


def _proximal_off(setup: Setup) -> Setup | None:
    return setup.with_(method=METHODS["fedavg"]()) if setup.experiment.method.name == "fedprox" else None


def _longer(factor: int) -> Turn:
    return lambda setup: setup.with_(rounds=factor * setup.experiment.rounds)


def _depth(setup: Setup) -> float:
    """The part of the cohort's work that one client does."""
    return 1.0 / setup.experiment.clients.cohort


def _cohorts(setup: Setup) -> float:
    return setup.experiment.clients.count / setup.experiment.clients.cohort


KNOBS: dict[str, Knob] = {
    "iid": Knob(_iid),
    "pooled-samples": Knob(_pooled_samples),
    "pooled-depth": Knob(_pooled_depth, _depth),
    "pooled-wall": Knob(_pooled_wall),
    "small-network": Knob(_small_network),
    "norm-group": Knob(_group_norm),
    "norm-batch": Knob(_batch_norm),
    "recalibrated": Knob(_recalibrated, lambda setup: 1.3),
    "lr*3": Knob(rate_times(3.0)),
    "lr/3": Knob(rate_times(1 / 3)),
    "lr*10": Knob(rate_times(10.0)),
    "lr/10": Knob(rate_times(0.1)),
    "fewer-steps": Knob(_steps_times(0.5)),
    "more-steps": Knob(_steps_times(2.0)),
    "full-participation": Knob(_everybody, _cohorts),
    "codec-off": Knob(_codec_off),
    "feedback": Knob(_feedback),
    "noise-off": Knob(_noise_off),
    "clip-off": Knob(_clip_off),
    "mu=0": Knob(_proximal_off),
    "server-momentum": Knob(_server_momentum),
    "scaffold": Knob(_method("scaffold"), lambda setup: 1.2),
    "fednova": Knob(_method("fednova")),
    "fedlc": Knob(_method("fedlc"), lambda setup: 1.2),
    "more-rounds": Knob(_longer(2), lambda setup: 2.0),
}
