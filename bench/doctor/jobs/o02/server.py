"""What the server does."""

import random

import torch
from client import network


class Server:
    def __init__(self, clients, cohort, test, seed):
        self.clients, self.cohort, self.test = clients, cohort, test
        self.random = random.Random(seed)
        self.first = network().state_dict()

    def init(self):
        return {name: value.clone() for name, value in self.first.items()}

    def sample(self, round):
        return self.random.sample(range(self.clients), self.cohort)

    def aggregate(self, current, uploads, round):
        total = sum(examples for _, examples in uploads)
        mean = {name: value.clone() for name, value in uploads[0][0].items()}
        for state, examples in uploads[1:]:
            for name in mean:
                mean[name] += state[name] * examples / total
        return mean

    @torch.no_grad()
    def evaluate(self, state, round):
        model = network()
        model.load_state_dict(state)
        model.eval()
        inputs, labels = self.test
        right = (model(inputs).argmax(dim=1) == labels).float().mean().item()
        return {"accuracy": right}
