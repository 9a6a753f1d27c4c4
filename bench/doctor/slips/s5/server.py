"""What the server does."""

import random

import torch
from client import network


class Server:
    def __init__(self, clients, cohort, held, seed):
        self.clients, self.cohort, self.held = clients, cohort, held
        self.random = random.Random(seed)
        self.first = network().state_dict()

    def init(self):
        return {name: value.clone() for name, value in self.first.items()}

    def sample(self, round):
        return self.random.sample(range(self.clients), self.cohort)

    def aggregate(self, current, uploads, round):
        total = sum(examples for _, examples in uploads)
        mean = {}
        for name, value in current.items():
            weighted = sum(state[name] * (examples / total) for state, examples in uploads)
            mean[name] = weighted.to(value.dtype)
        return mean

    @torch.no_grad()
    def evaluate(self, state, round):
        model = network()
        model.load_state_dict(state)
        model.eval()
        found = [(model(inputs).argmax(dim=1) == labels).float().mean().item() for inputs, labels in self.held]
        return {"validation_accuracy": sum(found) / len(found)}
