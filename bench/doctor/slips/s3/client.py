"""Clients keep their feature extractor and share the head."""

import copy

import torch
from base import mlp
from torch import nn

loss = nn.CrossEntropyLoss()


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        layers = list(mlp())
        self.body, self.head = nn.Sequential(*layers[:-1]), layers[-1]

    def forward(self, inputs):
        return self.head(self.body(inputs))


class ClientTrainer:
    def __init__(self, model, part, settings):
        self.model, self.part, self.settings = model, part, settings

    def train(self, received):
        head = {name: value for name, value in received.items() if name.startswith("head.")}
        self.model.load_state_dict(head, strict=False)
        inputs, labels = self.part
        optimizer = torch.optim.SGD(self.model.parameters(), lr=self.settings["lr"])
        self.model.train()
        for _ in range(self.settings["epochs"]):
            for rows in torch.randperm(len(labels)).split(self.settings["batch"]):
                optimizer.zero_grad()
                loss(self.model(inputs[rows]), labels[rows]).backward()
                optimizer.step()
        return copy.deepcopy(self.model.state_dict()), len(labels)


class Trainers:
    def __init__(self, parts, settings):
        model = Network()
        self.each = [ClientTrainer(model, part, settings) for part in parts]

    def fit(self, client, received, round):
        return self.each[client].train(received)
