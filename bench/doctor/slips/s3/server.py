"""The head in the middle."""

import random

import torch
from client import Network


class Server:
    def __init__(self, clients, cohort, test, seed, trainers):
        self.clients, self.cohort, self.test = clients, cohort, test
        self.random, self.trainers = random.Random(seed), trainers
        self.first = Network().state_dict()

    def init(self):
        return {name: value.clone() for name, value in self.first.items()}

    def sample(self, round):
        return self.random.sample(range(self.clients), self.cohort)

    def aggregate(self, current, uploads, round):
        total = sum(examples for _, examples in uploads)
        following = dict(current)
        for name in current:
            if name.startswith("head."):
                following[name] = sum(state[name] * (examples / total) for state, examples in uploads)
        return following

    @torch.no_grad()
    def evaluate(self, state, round):
        inputs, labels = self.test
        found = []
        for trainer in self.trainers.each:
            own = {name: value.clone() for name, value in trainer.model.state_dict().items()}
            network = Network().eval()
            network.load_state_dict({**own, **{name: state[name] for name in state if name.startswith("head.")}})
            found.append((network(inputs).argmax(dim=1) == labels).float().mean().item())
        return {"accuracy": sum(found) / len(found)}
