"""From an experiment to a federation: data loaded and dealt, model built, plan drawn, and what does not fit told."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import platform
from functools import partial

import numpy as np
import torch
from torch import nn

from fedlens.data import Split, load
from fedlens.data.hub import cache
from fedlens.engine import (
    Cuda,
    Engine,
    Exchange,
    Federated,
    Network,
    Sender,
    Sequential,
    Settled,
    Trainer,
    Trial,
    Workers,
    check_cuda,
    check_workers,
    cores,
    settle,
    suited,
)
from fedlens.engine.sequential import Dispatch, one_by_one
from fedlens.engine.together import in_groups, together
from fedlens.errors import ConfigurationError, DataError
from fedlens.local.augment import AUGMENTATIONS
from fedlens.local.private import check_examples_are_separate
from fedlens.local.statistics import has_batch_norm
from fedlens.methods import Transfer
from fedlens.models import Cost, build, cost
from fedlens.models.halves import Halves, build_halves
from fedlens.partition import Natural, Partition, holdout
from fedlens.runs.experiment import Experiment
from fedlens.runs.federation import Federation, Lent
from fedlens.seeds import generator, torch_seed
from fedlens.tree import Tree, bind

BACKWARD_TOO = 3  # a step costs a forward pass and, for gradients by input and by weight, twice as much again


def prepare(experiment: Experiment, lent: Lent | None = None) -> Federation:
    """Load, deal and build, or take what is `lent` in place of what the experiment names.

    Raises DataError or ConfigurationError; nothing has been trained or written then.
    """
    split = load(experiment.data) if lent is None else lent.split
    if experiment.data.augment != "none" and (split.train.images.dtype != torch.uint8 or split.train.images.dim() != 4):
        raise ConfigurationError(
            "augmentation needs uint8 images [N, C, H, W]",
            where="data.augment",
            seen=f"{split.train.images.dtype} {list(split.train.images.shape)}",
            do='Set data.augment = "none".',
        )
    if len(split.train.classes) < 2:
        seen = f"one class, {split.train.classes[0]!r}"
        raise DataError("there is nothing to tell apart", where=experiment.data.source, seen=seen, do="Add a class.")
    deal, held = _dealt(experiment, split) if lent is None else (lent.deal, None)
    exchange = _exchange(experiment, split)
    module = _network(experiment, split) if lent is None else copy.deepcopy(lent.module)
    experiment = experiment if lent is None else lent.taught(experiment)
    start = Tree.of(module, experiment.engine.dtype)
    network = cost(module, split.train.shape)
    bound = bind(module, experiment.engine.dtype)
    largest_batch = experiment.local.batch_size(int(deal.sizes.max()))
    _kept_apart(experiment)
    trainer = Trainer(
        bound,
        split.train,
        experiment.local,
        experiment.method,
        experiment.seed,
        _sender(experiment),
        augment=AUGMENTATIONS.get(experiment.data.augment),
        privacy=experiment.privacy.per_example,
    )
    threads = experiment.engine.thread_count(BACKWARD_TOO * network.mflop * largest_batch)
    _keeps_some(trainer)
    _has_statistics(experiment, module)
    _says_little(experiment, module, start)
    plan = _plan(experiment, deal, trainer, start, network)
    settled = Settled(
        dataclasses.replace(experiment.engine, kind="sequential", layout="channels-first", together=1), "as set"
    )
    if exchange is None:
        settled = _settled(experiment, trainer, split, plan, start, threads)
    engine = _engine(experiment, trainer, split, settled.engine)
    server = start if exchange is None else Tree.of(exchange.server.module, experiment.engine.dtype)
    settled = settled._replace(engine=dataclasses.replace(settled.engine, threads=threads))
    return Federation(experiment, split, deal, held, plan, engine, server, start, network, settled, exchange)


def initial_model(experiment: Experiment) -> nn.Module:
    """The experiment's model before the first round; the draw depends on the experiment's seed alone."""
    split = load(experiment.data)
    return _halves(experiment, split).server if isinstance(experiment.method, Transfer) else _drawn(experiment, split)


def _drawn(experiment: Experiment, split: Split) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch_seed(experiment.seed, "init"))
        return build(experiment.model, split.train.shape, len(split.train.classes))


def _network(experiment: Experiment, split: Split) -> nn.Module:
    """What the engine trains."""
    transfers = isinstance(experiment.method, Transfer)
    return _halves(experiment, split).whole() if transfers else _drawn(experiment, split)


def _halves(experiment: Experiment, split: Split) -> Halves:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch_seed(experiment.seed, "init"))
        return build_halves(experiment.model, split.train.shape, len(split.train.classes))


def _exchange(experiment: Experiment, split: Split) -> Exchange | None:
    if not isinstance(experiment.method, Transfer):
        return None
    halves, dtype = _halves(experiment, split), experiment.engine.dtype
    first = Tree.of(halves.client, dtype)
    return Exchange(
        bind(halves.client, dtype),
        bind(halves.server, dtype),
        first,
        split.train,
        experiment.local,
        experiment.method,
        experiment.seed,
        experiment.rounds,
        augment=AUGMENTATIONS.get(experiment.data.augment),
        skip_failures=experiment.clients.on_failure == "skip",
    )


def _dealt(experiment: Experiment, split: Split) -> tuple[Partition, Partition | None]:
    clients, labels = experiment.clients, split.train.labels.numpy()
    kind, column = clients.partition, None
    if isinstance(kind, Natural):
        if kind.column not in split.train.columns:
            have = ", ".join(split.train.columns) or "none"
            raise ConfigurationError(
                f"the data has no column '{kind.column}'",
                where="clients.partition",
                seen=f"columns: {have}",
                do="Name a column of the data, or choose another partition.",
            )
        column = split.train.columns[kind.column]
    deal = kind.deal(labels, clients.count, generator(experiment.seed, "deal"), column)
    deal.check(len(labels), kind.kind)
    if not clients.holdout:
        return deal, None
    train, held = holdout(deal, labels, clients.holdout, generator(experiment.seed, "holdout"))
    if not len(held.indices):
        raise ConfigurationError(
            "no client can spare an example for a hold-out",
            where="clients.holdout",
            seen=f"{clients.holdout} of {int(deal.sizes.max())} examples at most",
            do="Set clients.holdout = 0, or deal to fewer clients.",
        )
    return train, held


def _settled(
    experiment: Experiment, trainer: Trainer, split: Split, plan: Federated, start: Tree, threads: int
) -> Settled:
    """The engine to take, where the experiment leaves it open."""
    e, sizes = experiment, plan.partition.sizes
    first = e.method.server_memory
    received = {name: torch.full_like(start.vector[: start.layout.trained], first[name]) for name in e.method.sends}
    some = np.unique(np.linspace(0, plan.clients - 1, min(plan.clients, e.clients.cohort)).astype(np.int64))
    steps = e.clients.cohort * e.local.step_count(round(float(sizes.mean())))
    facts = (start.layout.slots, split.train.shape, e.method, e.local, e.engine, threads)
    found = e.engine.kind == "cuda" and torch.version.cuda and torch.cuda.is_available()
    gpu = torch.cuda.get_device_name() if found else ""
    machine = (platform.processor(), platform.machine(), cores(), torch.__version__, gpu)
    key = f"{e.model.name} {hashlib.sha256(repr((facts, machine)).encode()).hexdigest()[:16]}"
    cuda, hand = e.engine.kind == "cuda", together(trainer, e.server.reduce)
    trial = Trial(
        lambda engine: _engine(experiment, trainer, split, engine),
        Dispatch(start, received, {}, math.inf if e.privacy.mechanism is None else e.privacy.mechanism.clip),
        [plan.visit(int(client), 1) for client in some],
        steps,
        e.rounds,
        key,
        layouts=len(split.train.shape) == 3 and any(len(slot.shape) == 4 for slot in start.layout.slots),
        chunk=suited(trainer, e.clients.cohort) if cuda else 1 if hand is None else hand.many,
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return settle(e.engine, trial, cache() / "engines.json")
    finally:
        torch.set_num_threads(before)


def _engine(experiment: Experiment, trainer: Trainer, split: Split, settled: Engine) -> Sequential:
    e, trainer = experiment, dataclasses.replace(trainer, compute=settled.compute)
    skip, recalibrate = e.clients.on_failure == "skip", e.server.statistics == "recalibrate"
    assert isinstance(settled.together, int)
    hire = partial(in_groups, many=settled.together) if settled.together > 1 else one_by_one
    parts = (trainer, e.server.reduce, e.clients.cohort, split.test, skip, recalibrate, hire)
    if settled.kind == "cuda":
        check_cuda(split.train, split.test)
        return Cuda(*parts[:-1], together=settled.together)
    if settled.kind == "workers":
        check_workers()
        return Workers(*parts, processes=settled.process_count())
    return Sequential(*parts)


def _kept_apart(experiment: Experiment) -> None:
    """Gradients of single examples are bounded in float32: a bound that is rounded to 8 bits is none."""
    if experiment.privacy.per_example is not None and experiment.engine.precision == "bfloat16":
        do = 'Set engine.precision = "float32".'
        what = "gradients of single examples are not computed in bfloat16"
        raise ConfigurationError(what, where="engine.precision", seen="privacy.per_example is set", do=do)


def _sender(experiment: Experiment) -> Sender:
    draw, clients = generator(experiment.seed, "attackers"), experiment.clients
    attackers = frozenset(int(client) for client in draw.choice(clients.count, clients.attackers, replace=False))
    return Sender(experiment.seed, clients.attack, attackers, experiment.privacy.mechanism, experiment.communication)


def _plan(experiment: Experiment, deal: Partition, trainer: Trainer, start: Tree, network: Cost) -> Federated:
    e = experiment
    plan = Federated(
        deal, e.clients.cohort, e.rounds, e.local, e.server, e.seed, selection=e.clients.selection, network=e.network
    )
    if e.network == Network():
        return plan
    down, up = trainer.traffic(start)
    gradients = 2 if e.method.own or e.method.perturb else 1
    work = gradients * BACKWARD_TOO * network.mflop
    return dataclasses.replace(plan, bytes_down=down, bytes_up=up, mflop_per_example=work)


def _keeps_some(trainer: Trainer) -> None:
    """Where a method keeps a part of the model at the clients, there must be such a part, and another to send."""
    kept, layout, method = trainer.kept, trainer.bound.layout, trainer.method
    if kept is None or (kept.any() and not kept[: layout.trained].all()):
        return
    layers = sorted({slot.name.rpartition(".")[0] for slot in layout.slots})
    what = f"{method.name} finds no part of the model to keep at the clients"
    if kept.any():
        what = f"{method.name} finds no part of the model to share"
    raise ConfigurationError(
        what,
        where="method",
        seen=f"layers {', '.join(layers[:8])}{', ...' if len(layers) > 8 else ''}",
        do="Name the layer of logits with method.head, or choose a model that has such layers.",
    )


def _has_statistics(experiment: Experiment, module: nn.Module) -> None:
    """What is said about running statistics needs batch norm."""
    frozen = experiment.local.freeze_statistics_from is not None
    recalibrated = experiment.server.statistics == "recalibrate"
    if (frozen or recalibrated) and not has_batch_norm(module):
        raise ConfigurationError(
            "the model has no running statistics",
            where="local.freeze_statistics_from" if frozen else "server.statistics",
            seen=f"model.name = {experiment.model.name}, model.norm = {experiment.model.norm}",
            do='Set model.norm = "batch", or leave this setting out.',
        )


def _says_little(experiment: Experiment, module: nn.Module, start: Tree) -> None:
    """What is promised of clients or examples holds for what is bounded, and running statistics are not."""
    privacy = experiment.privacy
    if privacy.per_example is not None:
        check_examples_are_separate(module)
    if privacy.mechanism is not None and (
        start.integers or any(slot.group == "buffers" for slot in start.layout.slots)
    ):
        raise ConfigurationError(
            f"running statistics would leave the clients outside the bound of {privacy.mechanism.kind}",
            where="privacy.mechanism",
            seen=f"model.name = {experiment.model.name} keeps running statistics",
            do='Set model.norm = "group".',
        )
