"""The doctor's own client: one visit of fedlens' trainer on the author's data, sent in the author's form."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from fedlens.diagnosis.evidence import Facts
from fedlens.diagnosis.job import State, Upload
from fedlens.diagnosis.subject.patient import Sent
from fedlens.diagnosis.trials.declared import buffers_of, experiment, understood
from fedlens.diagnosis.trials.lend import Ward
from fedlens.diagnosis.trials.parts import payload
from fedlens.diagnosis.trials.settings import Assumed
from fedlens.engine import Federated
from fedlens.methods import fedavg
from fedlens.runs import prepare
from fedlens.runs.experiment import Privacy
from fedlens.server import Communication
from fedlens.tree import Tree


class Client:
    """Starts from what it receives, shuffles, and sends in the form of `like`, an upload of the author's.

    It has the job's declared local method and codec (or `communication`), without what clients would have to remember
    of a method; privacy is the server's.
    """

    def __init__(
        self,
        ward: Ward,
        facts: Facts,
        assumed: Assumed,
        like: Sent,
        seed: int = 0,
        communication: Communication | None = None,
    ) -> None:
        self.ward, self.facts, self.like = ward, facts, like
        take = understood(facts.declared, assumed.local, buffers=buffers_of(ward.lent))
        method = fedavg() if take.method.client_memory or take.method.sends else take.method
        plain = dataclasses.replace(take, method=method, privacy=Privacy())
        plain = plain if communication is None else dataclasses.replace(plain, communication=communication)
        parts = {"cohort": facts.cohort, "rounds": max(1, facts.rounds), "seed": seed}
        self.federation = prepare(experiment(plain, assumed.local, ward.lent, simple=True, **parts), ward.lent)
        self.place = {client: at for at, client in enumerate(ward.clients)}
        start = ward.patient.init
        self.payload = payload(facts, start, {n: v for n, v in like.upload.state.items() if n in start})
        self.memory: dict[int, dict[str, Tensor]] = {}

    def __call__(self, client: int, received: State, round: int) -> Sent:
        """One visit; a client without examples sends back what it received."""
        if client not in self.place:
            return self._sent(received, received, 0.0)
        plan, trainer = self.federation.plan, self.federation.engine.trainer
        assert isinstance(plan, Federated)
        tree, visit = self._tree(received), plan.visit(self.place[client], round)
        done = trainer.visit(tree, {}, visit, self.memory.get(client, {}))
        self.memory[client] = dict(done.memory)
        new = tree.with_(tree.vector + torch.cat([done.upload["update"], done.rest]), done.integers)
        return self._sent(received, {**received, **new.state_dict()}, float(visit.examples))

    def _tree(self, received: State) -> Tree:
        start = self.federation.start
        vector = start.vector.clone()
        for name, view in start.layout.views(vector).items():
            if name in received:
                view.copy_(received[name])
        return start.with_(vector, {name: received.get(name, value).clone() for name, value in start.integers.items()})

    def _sent(self, received: State, new: State, examples: float) -> Sent:
        sent = {}
        for name, sample in self.like.upload.state.items():
            value = new.get(name, sample)
            if self.payload == "update":
                value = value - received[name] if name in received else torch.zeros_like(sample)
            sent[name] = value.detach().to(sample.dtype).clone()
        return self.ward.patient.sent(Upload(sent, examples), self.like.raw)
