"""What the server does."""

import copy
import random

import torch
from client import network


class Server:
    def __init__(self, clients, cohort, test, seed):
        self.clients, self.cohort, self.test = clients, cohort, test
        self.random = random.Random(seed)
        self.model = network()
        self.first = copy.deepcopy(self.model.state_dict())

    def init(self):
        return {name: value.clone() for name, value in self.first.items()}

    def sample(self, round):
        return self.random.sample(range(self.clients), self.cohort)

    def aggregate(self, current, uploads, round):
        self.model.load_state_dict(current)
        total = sum(examples for _, examples in uploads)
        average = {name: torch.zeros_like(value) for name, value in current.items()}
        for state, examples in uploads:
            for name in average:
                average[name] += state[name] * (examples / total)
        return copy.deepcopy(self.model.state_dict())

    @torch.no_grad()
    def evaluate(self, state, round):
        model = network()
        model.load_state_dict(state)
        model.eval()
        inputs, labels = self.test
        right = (model(inputs).argmax(dim=1) == labels).float().mean().item()
        return {"accuracy": right}
