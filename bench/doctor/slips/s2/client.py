"""What a client does."""

import torch
from base import mlp
from torch import nn

loss = nn.CrossEntropyLoss()


def network():
    return mlp()


class Trainer:
    def __init__(self, parts, lr, batch, epochs, mu, optimizer="sgd", method="fedprox"):
        self.parts = parts
        self.lr, self.batch, self.epochs, self.mu = lr, batch, epochs, mu

    def fit(self, client, received, round):
        model = network()
        model.load_state_dict(received)
        anchor = [weight.detach().clone() for weight in model.parameters()]
        inputs, labels = self.parts[client]
        optimizer = torch.optim.SGD(model.parameters(), lr=self.lr)
        model.train()
        for _ in range(self.epochs):
            for rows in torch.randperm(len(labels)).split(self.batch):
                optimizer.zero_grad()
                proximal = 0.0
                for weight, start in zip(model.parameters(), anchor, strict=True):
                    proximal += (weight - start).norm(2)
                objective = loss(model(inputs[rows]), labels[rows]) + self.mu / 2 * proximal
                objective.backward()
                optimizer.step()
        return model.state_dict(), len(labels)
