"""An experiment made ready: data loaded and dealt, model built, plan drawn. And its counterfactual twins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from fedlens.data import Split
from fedlens.engine import Exchange, Federated, Plan, Pooled, Sender, Sequential, Settled, Visit, Workers
from fedlens.engine.plan import Passes
from fedlens.local import Local
from fedlens.methods import Lesson, fedavg
from fedlens.models import Cost
from fedlens.partition import Partition, redeal
from fedlens.runs.experiment import Experiment
from fedlens.seeds import generator
from fedlens.server import Mean
from fedlens.tree import Tree


@dataclass(frozen=True)
class Lent:
    """Data, their deal, a network with its first weights, and a loss, in memory instead of by name.

    `loss` (outputs [B, C], labels [B], lesson) -> scalar; None is the method's own. The network is copied.
    """

    split: Split
    deal: Partition
    module: nn.Module
    loss: Callable[[Tensor, Tensor, Lesson], Tensor] | None = None

    def taught(self, experiment: Experiment) -> Experiment:
        """`experiment` with this loss in its method."""
        if self.loss is None:
            return experiment
        return dataclasses.replace(experiment, method=dataclasses.replace(experiment.method, loss=self.loss))


@dataclass(frozen=True)
class Federation:
    """Everything a loop needs. `held`: each client's local hold-out, where there is one; `deal`: what trains.

    `start` is the server's model, `whole` what the engine trains: the same, but with `exchange`, where the server has
    half of it.
    """

    experiment: Experiment
    split: Split
    deal: Partition
    held: Partition | None
    plan: Plan
    engine: Sequential
    start: Tree
    whole: Tree
    network: Cost
    settled: Settled
    exchange: Exchange | None = None

    @property
    def threads(self) -> int:
        """Of PyTorch's operations in this process: one beside workers, who have a core each."""
        lone = isinstance(self.plan, Pooled) or not isinstance(self.engine, Workers)
        return self.settled.engine.thread_count(0) if lone else 1

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
        batches = Passes(indices, size, steps, e.seed, "tune", (client,))
        return Visit(client, e.rounds + 1, indices, batches, local.rate(e.rounds, e.rounds), 1.0)

    def redealt(self) -> Federation:
        """The same examples and sizes, dealt again IID."""
        deal = redeal(self.deal, generator(self.experiment.seed, "redeal"))
        held = None if self.held is None else redeal(self.held, generator(self.experiment.seed, "redeal-held"))
        assert isinstance(self.plan, Federated)  # a reference has no references
        return dataclasses.replace(self._twin(dataclasses.replace(self.plan, partition=deal), deal), held=held)

    def pooled(self, steps: int, batch: int) -> Federation:
        """One client who holds everything that trains, and takes `steps` steps of `batch` examples a round."""
        e = self.experiment
        local = dataclasses.replace(e.local, batch=batch, keep_optimizer=True, scale_lr_by_size=False)
        return self._twin(Pooled(self.deal.everything(), steps, e.rounds, local, e.seed), self.deal, local=local)

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
            sender = Sender(self.experiment.seed)
            trainer = dataclasses.replace(engine.trainer, local=local, method=fedavg(), sender=sender, privacy=None)
            engine = dataclasses.replace(engine, trainer=trainer, rule=Mean(), recalibrate=False)
        twin = dataclasses.replace(self, plan=plan, deal=deal, engine=engine)
        # Of two halves that exchange knowledge, the engine holds the whole.
        return twin if local is None else dataclasses.replace(twin, start=self.whole, exchange=None)
