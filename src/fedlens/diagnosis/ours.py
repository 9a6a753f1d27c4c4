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
from fedlens.diagnosis.patient import Subject
from fedlens.engine.sequential import CLIP, Outcome
from fedlens.engine.trainer import Delivery
from fedlens.errors import ConfigurationError
from fedlens.local.evaluate import in_batches
from fedlens.methods import Reduced, Server
from fedlens.methods.method import add_update
from fedlens.runs import Experiment, load_experiment
from fedlens.runs.federation import Federation
from fedlens.runs.loop import untrained
from fedlens.runs.prepare import prepare
from fedlens.runs.store import Journal
from fedlens.server import Plain
from fedlens.server.collect import for_the_rest
from fedlens.tree import Tree


class OwnJob:
    """One run of an experiment, a visit at a time. States hold weights; what a method keeps beside stays inside.

    Uploads are the weights that the server reads: after the client's bound, codec and attack.
    """

    def __init__(self, federation: Federation, log: Sequence[float] | None = None) -> None:
        experiment = federation.experiment
        self.federation, self.log = federation, log
        self.clients, self.cohort = experiment.clients.count, experiment.clients.cohort
        self.rounds, self.classes = experiment.rounds, federation.classes
        self.declared = declared(experiment)
        self.server: Mapping[str, Tensor] = untrained(federation).server
        self.memory: dict[int, Mapping[str, Tensor]] = {}
        self.sent: dict[int, Delivery] = {}

    def init(self) -> State:
        """The model before the first round."""
        return self.federation.start.state_dict()

    def sample(self, round: int) -> Sequence[int]:
        """The plan's cohort; selections that ask clients for losses are taken as uniform."""
        return [visit.client for visit in self.federation.plan.visits(round, lambda clients: np.zeros(len(clients)))]

    def fit(self, client: int, received: State, round: int) -> Upload:
        """One visit, as every engine makes it."""
        federation, trainer = self.federation, self.federation.engine.trainer
        tree, visit = self.tree(received), federation.plan.visit(client, round)  # type: ignore[attr-defined]
        sends = {name: self.server[name] for name in trainer.method.sends}
        clip = float(self.server[CLIP]) if CLIP in self.server else math.inf
        delivery = trainer.visit(tree, sends, visit, self.memory.get(client, {}), clip)
        self.sent[client] = delivery
        if delivery.memory:
            self.memory[client] = {name: value.clone() for name, value in delivery.memory.items()}
        change = torch.cat([delivery.upload["update"], delivery.rest])
        state = tree.with_(tree.vector + change, delivery.integers).state_dict()
        return Upload({name: value.clone() for name, value in state.items()}, visit.examples, {"client": float(client)})

    def aggregate(self, current: State, uploads: Sequence[Upload], round: int) -> State:
        """The server's step on these uploads, with what else the method had its clients send."""
        federation, engine = self.federation, self.federation.engine
        tree, outcome = self.tree(current), Outcome(for_the_rest(engine.rule))
        trained = tree.layout.trained
        for upload in uploads:
            client = int(upload.metrics.get("client", 0))
            known = self.sent.get(client) or next(iter(self.sent.values()))
            update, rest = (self.tree(upload.state).vector - tree.vector).tensor_split([trained])
            integers = {name: upload.state[name] for name in tree.integers}
            delivery = dataclasses.replace(
                known, upload={**known.upload, "update": update}, rest=rest, integers=integers
            )
            visit = federation.plan.visit(client, round)  # type: ignore[attr-defined]
            weight = federation.experiment.server.weight(int(upload.examples))
            outcome.add(dataclasses.replace(visit, weight=weight), delivery, engine.trainer.method.uniform, engine.rule)
        reduced = engine.reduced(outcome, self.server, round)
        answered = Reduced(reduced, len(uploads) / self.clients)
        server = engine.trainer.method.aggregate(Server(tree.vector[:trained], self.server), answered)
        after = engine.after(outcome, self.server, round)
        self.server = {**server.memory, **after}
        rest = tree.vector[trained:] + outcome.rest.mean()
        return tree.with_(torch.cat([server.weights, rest]), outcome.integers).state_dict()

    def evaluate(self, state: State, round: int) -> Mapping[str, float]:
        """Test accuracy and loss."""
        found = self.federation.engine.evaluate(self.tree(state))
        return {"accuracy": found.accuracy, "loss": found.loss}

    def model(self) -> nn.Module:
        """The network; the engine's own is not given away."""
        return copy.deepcopy(self.federation.module)

    def train_data(self, client: int) -> tuple[Tensor, Tensor]:
        """The client's examples, normalised, without augmentation."""
        data, indices = self.federation.split.train, self.federation.deal.client(client)
        images, labels = data.rows(torch.from_numpy(np.asarray(indices)))
        return data.normalise(images), labels

    def test_data(self) -> tuple[Tensor, Tensor]:
        """The test set, normalised."""
        parts = list(in_batches(self.federation.split.test, torch.float32))
        return torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts])

    def tree(self, state: State) -> Tree:
        """`state` as the engine has it."""
        start = self.federation.start
        vector = torch.cat([state[slot.name].reshape(-1).to(start.vector.dtype) for slot in start.layout.slots])
        return start.with_(vector, {name: state[name] for name in start.integers})


def declared(experiment: Experiment) -> Declared:
    """What an experiment says that it does."""
    e, method = experiment, experiment.method
    mechanism, per_example = e.privacy.mechanism, e.privacy.per_example
    dp = {} if mechanism is None else {"clip": float(mechanism.clip), "noise": float(getattr(mechanism, "noise", 1.0))}
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
        metric="test accuracy",
        partition=str(e.clients.partition.kind),
    )


def own_subject(experiment: Experiment, name: str, log: Sequence[float] | None = None) -> Subject:
    """`experiment` as a subject; its data are loaded once, and other seeds change all that its seed decides."""
    federations: dict[int, Federation] = {}

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
