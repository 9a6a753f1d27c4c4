"""An experiment made ready: data loaded and dealt, model built, plan drawn. And its counterfactual twins."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fedlens.data import Split, load
from fedlens.engine import Federated, Plan, Pooled, Sequential, Trainer, Visit
from fedlens.engine.plan import passes
from fedlens.errors import ConfigurationError, DataError
from fedlens.local import Local
from fedlens.local.augment import AUGMENTATIONS
from fedlens.local.statistics import has_batch_norm
from fedlens.methods import fedavg
from fedlens.models import Cost, build, cost
from fedlens.partition import Natural, Partition, holdout, redeal
from fedlens.runs.experiment import Experiment
from fedlens.seeds import generator, torch_seed
from fedlens.server import Mean
from fedlens.tree import Tree, bind

BACKWARD_TOO = 3  # a step costs a forward pass and, for gradients by input and by weight, twice as much again


@dataclass(frozen=True)
class Federation:
    """Everything a loop needs. `held`: each client's local hold-out, where there is one; `deal`: what trains."""

    experiment: Experiment
    split: Split
    deal: Partition
    held: Partition | None
    plan: Plan
    engine: Sequential
    start: Tree
    network: Cost
    threads: int

    @property
    def classes(self) -> int:
        return len(self.split.train.classes)

    @property
    def module(self) -> nn.Module:
        """The module that the engine trains; its contents change from client to client."""
        return self.engine.trainer.bound.module

    def counts(self) -> np.ndarray:
        """Training examples of each class at each client, i64 [K, C]."""
        return self.deal.counts(self.split.train.labels.numpy(), self.classes)

    def samples_per_round(self) -> int:
        """Examples that pass through training in a round, on average over clients."""
        local, cohort = self.experiment.local, self.experiment.clients.cohort
        if local.steps is None:
            return round(cohort * local.epochs * float(self.deal.sizes.mean()))
        return round(cohort * local.steps * float(np.mean([local.batch_size(int(n)) for n in self.deal.sizes])))

    def depth_per_round(self) -> int:
        """Sequential steps of one client in a round, on average over clients."""
        return max(1, round(float(np.mean([self.experiment.local.step_count(int(n)) for n in self.deal.sizes]))))

    def tuning(self, client: int, epochs: int) -> Visit:
        """`epochs` epochs at `client` after the last round, at the last round's rate."""
        e, indices = self.experiment, self.deal.client(client)
        local = dataclasses.replace(e.local, epochs=epochs, steps=None)
        size, steps = local.batch_size(len(indices)), local.step_count(len(indices))
        batches = passes(indices, size, lambda number: generator(e.seed, "tune", client, number), 0, steps)
        return Visit(client, e.rounds + 1, indices, tuple(batches), local.rate(e.rounds, e.rounds), 1.0)

    def redealt(self) -> Federation:
        """The same examples and sizes, dealt again IID."""
        deal = redeal(self.deal, generator(self.experiment.seed, "redeal"))
        held = None if self.held is None else redeal(self.held, generator(self.experiment.seed, "redeal-held"))
        return dataclasses.replace(self._twin(_federated(self.experiment, deal), deal), held=held)

    def pooled(self, steps: int, batch: int) -> Federation:
        """One client who holds everything that trains, and takes `steps` steps of `batch` examples a round."""
        e = self.experiment
        local = dataclasses.replace(e.local, batch=batch, keep_optimizer=True, scale_lr_by_size=False)
        return self._twin(Pooled(np.sort(self.deal.indices), steps, e.rounds, local, e.seed), self.deal, local=local)

    def alone(self, client: int) -> Federation:
        """One client training on its own examples, for as many rounds as it is drawn on average."""
        e = self.experiment
        indices = self.deal.client(client)
        rounds = max(1, round(e.rounds * e.clients.cohort / e.clients.count))
        schedule = e.local.schedule
        shorter = dataclasses.replace(
            schedule,
            every=max(1, round(schedule.every * rounds / e.rounds)),
            warmup=round(schedule.warmup * rounds / e.rounds),
        )
        local = dataclasses.replace(e.local, keep_optimizer=True, scale_lr_by_size=False, schedule=shorter)
        plan = Pooled(indices, local.step_count(len(indices)), rounds, local, e.seed)
        twin = self._twin(plan, self.deal, local=local)
        held = None if self.held is None else self.held.only(client)
        return dataclasses.replace(twin, experiment=dataclasses.replace(e, evaluate_every=rounds), held=held)

    def _twin(self, plan: Plan, deal: Partition, local: Local | None = None) -> Federation:
        engine = self.engine
        if local is not None:
            # Training without a federation is plain, whatever the method under study does.
            trainer = dataclasses.replace(engine.trainer, local=local, method=fedavg(), attackers=frozenset())
            engine = dataclasses.replace(engine, trainer=trainer, rule=Mean(), recalibrate=False)
        return dataclasses.replace(self, plan=plan, deal=deal, engine=engine)


def prepare(experiment: Experiment) -> Federation:
    """Load, deal and build. Raises DataError or ConfigurationError; nothing has been trained or written then."""
    split = load(experiment.data)
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
    deal, held = _dealt(experiment, split)
    module = _drawn(experiment, split)
    start = Tree.of(module, experiment.engine.dtype)
    network = cost(module, split.train.shape)
    bound = bind(module, experiment.engine.dtype)
    largest_batch = experiment.local.batch_size(int(deal.sizes.max()))
    trainer = Trainer(
        bound,
        split.train,
        experiment.local,
        experiment.method,
        experiment.seed,
        experiment.clients.attack,
        augment=AUGMENTATIONS.get(experiment.data.augment),
        attackers=_attackers(experiment),
    )
    engine = Sequential(
        trainer,
        experiment.server.reduce,
        skip_failures=experiment.clients.on_failure == "skip",
        recalibrate=experiment.server.statistics == "recalibrate",
    )
    threads = experiment.engine.thread_count(BACKWARD_TOO * network.mflop * largest_batch)
    _keeps_some(trainer)
    _has_statistics(experiment, module)
    return Federation(experiment, split, deal, held, _federated(experiment, deal), engine, start, network, threads)


def initial_model(experiment: Experiment) -> nn.Module:
    """The experiment's model before the first round; the draw depends on the experiment's seed alone."""
    return _drawn(experiment, load(experiment.data))


def _drawn(experiment: Experiment, split: Split) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch_seed(experiment.seed, "init"))
        return build(experiment.model, split.train.shape, len(split.train.classes))


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


def _attackers(experiment: Experiment) -> frozenset[int]:
    draw = generator(experiment.seed, "attackers")
    chosen = draw.choice(experiment.clients.count, experiment.clients.attackers, replace=False)
    return frozenset(int(client) for client in chosen)


def _federated(experiment: Experiment, deal: Partition) -> Federated:
    e = experiment
    return Federated(deal, e.clients.cohort, e.rounds, e.local, e.server, e.seed)


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
