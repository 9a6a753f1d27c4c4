"""An experiment of fedlens as a job: examined by the same means as anybody's."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedlens.diagnosis.job import Declared, State, Upload
from fedlens.diagnosis.subject.patient import Subject
from fedlens.engine import Federated, Network, Visit, Void
from fedlens.engine.sequential import CLIP, Outcome
from fedlens.engine.trainer import Delivery
from fedlens.errors import ConfigurationError, RunError
from fedlens.local.evaluate import in_batches
from fedlens.methods import Reduced, Server
from fedlens.methods.method import add_update
from fedlens.runs import Experiment, load_experiment
from fedlens.runs.federation import Federation
from fedlens.runs.loop import untrained
from fedlens.runs.measure import on_hold_outs, personal_models
from fedlens.runs.prepare import prepare
from fedlens.runs.store import Journal
from fedlens.seeds import generator
from fedlens.server import LocalLaplace, Plain
from fedlens.server.collect import for_the_rest
from fedlens.tree import Tree


class OwnJob:
    """One run of an experiment, a visit at a time. States hold weights; what a method keeps beside stays inside.

    Uploads are the weights that the server reads: after the client's bound, codec and attack. A copy begins anew, with
    the same data.
    """

    def __init__(self, federation: Federation, log: Sequence[float] | None = None) -> None:
        experiment = federation.experiment
        self.federation, self.log = federation, log
        self.clients, self.cohort = experiment.clients.count, experiment.clients.cohort
        self.rounds, self.classes = experiment.rounds, federation.classes
        self.declared = declared_of(federation)
        self.server: Mapping[str, Tensor] = untrained(federation).server
        self.memory: dict[int, Mapping[str, Tensor]] = {}
        self.sent: dict[int, Delivery] = {}
        self.planned: dict[tuple[int, int], Visit] = {}
        if not federation.engine.trainer.method.one_model:
            self.test_data = None  # type: ignore[assignment, method-assign]  # there is no whole model to test
        if federation.engine.trainer.method.loss is not None:
            self.loss = None  # type: ignore[assignment, method-assign]  # it looks at more than outputs and labels

    def __deepcopy__(self, memo: object) -> OwnJob:
        return OwnJob(self.federation, self.log)

    def init(self) -> State:
        """The model before the first round."""
        return self.federation.start.state_dict()

    def sample(self, round: int) -> Sequence[int]:
        """The plan's cohort; for selections that ask clients for losses these are drawn: there is no model here."""
        drawn = generator(self.federation.experiment.seed, "diagnosis", round)
        visits = self.federation.plan.visits(round, lambda clients: drawn.random(len(clients)))
        self.planned = {(visit.client, round): visit for visit in visits}  # a network may have cut their work
        return [visit.client for visit in visits]

    def fit(self, client: int, received: State, round: int) -> Upload:
        """One visit, as every engine makes it."""
        trainer = self.federation.engine.trainer
        tree, visit = self.tree(received), self.visit(client, round)
        sends: Mapping[str, Tensor] = {name: self.server[name] for name in trainer.method.sends}
        clip = float(self.server[CLIP]) if CLIP in self.server else math.inf
        given, sends, _ = trainer.sender.received(tree, sends, trainer.kept)
        delivery = trainer.visit(given, sends, visit, self.memory.get(client, {}), clip)
        self.sent[client] = delivery
        if delivery.memory:
            self.memory[client] = {name: value.clone() for name, value in delivery.memory.items()}
        change = torch.cat([delivery.upload["update"], delivery.rest])
        state = tree.with_(tree.vector + change, delivery.integers).state_dict()
        return Upload({name: value.clone() for name, value in state.items()}, visit.examples, {"client": float(client)})

    def aggregate(self, current: State, uploads: Sequence[Upload], round: int) -> State:
        """The server's step on these uploads, with what else the method had its clients send."""
        engine, outcome = self.federation.engine, Outcome(for_the_rest(self.federation.engine.rule))
        tree = self.tree(current)
        trained, visits = tree.layout.trained, [self._add(outcome, tree, upload, round) for upload in uploads]
        try:
            if not uploads:
                raise Void("no client took part")
            reduced = engine.reduced(outcome, self.server, round)
        except Void:
            if engine.skip_failures:
                return current
            raise
        answers = len(uploads) if engine.trainer.sender.mechanism is None else engine.expected
        answered = Reduced(reduced, answers / self.clients)
        server = engine.trainer.method.aggregate(Server(tree.vector[:trained], self.server), answered)
        after = engine.after(outcome, self.server, round)
        self.server = {**server.memory, **after}
        rest = tree.vector[trained:] + outcome.rest.mean()
        new = tree.with_(torch.cat([server.weights, rest]), outcome.integers)
        return engine.recalibrated(new, visits).state_dict()

    def _add(self, outcome: Outcome, tree: Tree, upload: Upload, round: int) -> Visit:
        """Add one upload, with its client's last other parts where the method has any; the visit it is of."""
        engine, client = self.federation.engine, int(upload.metrics.get("client", 0))
        known = self.sent.get(client) or next(iter(self.sent.values()), None)
        if known is None:  # a round that nobody trained in: what a client sends beside its update is not known
            self.fit(client, tree.state_dict(), round)
            known = self.sent[client]
        change = self.tree(upload.state).vector - tree.vector
        if not bool(torch.isfinite(change).all()):  # clients refuse to send such a one
            raise RunError("an upload is not finite", where=f"client {client}, round {round}")
        update, rest = change.tensor_split([tree.layout.trained])
        integers = {name: upload.state[name] for name in tree.integers}
        delivery = dataclasses.replace(known, upload={**known.upload, "update": update}, rest=rest, integers=integers)
        visit = self.visit(client, round)
        examples, weight = int(upload.examples), self.federation.experiment.server.weight(int(upload.examples))
        counted = visit if visit.examples == examples else dataclasses.replace(visit, indices=range(examples))
        counted = dataclasses.replace(counted, weight=weight)
        outcome.add(counted, delivery, engine.trainer.method.uniform, engine.rule)
        return visit

    def evaluate(self, state: State, round: int) -> Mapping[str, float]:
        """Test accuracy and loss; where the server has no whole model, the clients' own on their hold-outs."""
        tree, method = self.tree(state), self.federation.engine.trainer.method
        if not method.one_model:
            own = personal_models(self.federation, tree, self.memory)
            found = [one.accuracy for one in on_hold_outs(self.federation, own)]
            return {"personal_accuracy": sum(found) / len(found)}
        seen = self.federation.engine.evaluate(tree)
        return {"accuracy": seen.accuracy, "loss": seen.loss}

    def model(self) -> nn.Module:
        """The network; the engine's own is not given away."""
        return copy.deepcopy(self.federation.module)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """What clients minimise."""
        return nn.functional.cross_entropy(outputs, labels)

    def train_data(self, client: int) -> tuple[Tensor, Tensor]:
        """The client's examples, normalised, without augmentation."""
        data, indices = self.federation.split.train, self.federation.deal.client(client)
        images, labels = data.rows(torch.from_numpy(np.asarray(indices)))
        return data.normalise(images), labels

    def test_data(self) -> tuple[Tensor, Tensor]:
        """The test set, normalised."""
        parts = list(in_batches(self.federation.split.test, torch.float32))
        return torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts])

    def visit(self, client: int, round: int) -> Visit:
        """What `client` does in `round`."""
        plan = self.federation.plan
        assert isinstance(plan, Federated)
        return self.planned.get((client, round)) or plan.visit(client, round)

    def tree(self, state: State) -> Tree:
        """`state` as the engine has it."""
        start = self.federation.start
        vector = torch.cat([state[slot.name].reshape(-1).to(start.vector.dtype) for slot in start.layout.slots])
        return start.with_(vector, {name: state[name] for name in start.integers})


def declared_of(federation: Federation) -> Declared:
    """What a federation says that it does: as its experiment, with the names of what stays at clients or as it is."""
    experiment, trainer = federation.experiment, federation.engine.trainer
    slots, keeps = federation.start.layout.slots, trainer.method.keeps
    return dataclasses.replace(
        declared(experiment),
        local_entries=tuple(slot.name for slot in slots if keeps is not None and keeps(slot)),
        frozen=tuple(slot.name for slot in slots if slot.group == "frozen"),
        metric="test accuracy" if trainer.method.one_model else "clients' own models on their hold-outs",
    )


def declared(experiment: Experiment) -> Declared:
    """What an experiment says that it does."""
    e, method = experiment, experiment.method
    mechanism, per_example = e.privacy.mechanism, e.privacy.per_example
    dp: dict[str, float] = {}
    if isinstance(mechanism, LocalLaplace):  # its bound is one of absolute values, and noise is in every upload
        dp = {"epsilon": float(mechanism.epsilon)}
    elif mechanism is not None:
        dp = {"clip": float(mechanism.clip), "noise": float(mechanism.noise)}
    if per_example is not None:
        dp |= {"per_example": float(per_example.noise)}
    codec = None if isinstance(e.communication.up, Plain) else e.communication.up.kind
    momentum = float(method.settings["beta"]) if method.name == "fedavgm" else 0.0
    plain = momentum or method.aggregate is add_update
    return Declared(
        weighting=e.server.weights,
        reduce=e.server.reduce.kind,
        server_lr=float(method.settings["server_lr"]) if momentum else 1.0,
        server_optimizer="sgd" if plain else method.name.removeprefix("fed"),
        server_momentum=momentum,
        payload="weights",
        stateful=bool(method.client_memory) or method.personal or e.local.keep_optimizer,
        dp=dp,
        codec=codec,
        method=method.name,
        mu=float(method.settings["mu"]) if "mu" in method.settings else None,
        optimizer=e.local.optimizer,
        lr=e.local.lr,
        batch=None if e.local.batch == "all" else e.local.batch,
        epochs=e.local.epochs,
        steps=e.local.steps,
        min_clients=1 if e.clients.on_failure == "skip" or e.network != Network() else None,
        metric="test accuracy",
        partition=str(e.clients.partition.kind),
    )


def own_subject(experiment: Experiment, name: str, log: Sequence[float] | None = None) -> Subject:
    """`experiment` as a subject; its data are loaded once, and other seeds change all that its seed decides."""
    federations: dict[int, Federation] = {}
    alone = dataclasses.replace(experiment.engine, kind="sequential", together=1)
    experiment = dataclasses.replace(experiment, engine=alone)

    def make(seed: int = 0) -> OwnJob:
        if seed not in federations:
            federations[seed] = prepare(dataclasses.replace(experiment, seed=experiment.seed + seed))
        return OwnJob(federations[seed], log)

    make()
    if federations[0].exchange is not None:
        what, do = "what exchanges knowledge instead of updates has no states to examine", "Read the run's report."
        raise ConfigurationError(what, where="method", seen=experiment.method.name, do=do)
    return Subject(make, name)


def of_run(folder: Path) -> Subject:
    """The experiment of a run folder, with the accuracies that the run recorded as its log."""
    experiment = load_experiment(folder / "experiment.toml")
    rows = Journal(folder).rows()
    found = [row.get("accuracy", row.get("personal_accuracy")) for row in rows]
    return own_subject(experiment, folder.name, [value for value in found if value is not None] or None)
