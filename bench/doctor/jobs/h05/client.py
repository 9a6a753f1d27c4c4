"""Local rounds; a client sends what it changed."""

import torch
from base import mlp
from torch import nn

make_model = mlp
objective = nn.functional.cross_entropy


class Participants:
    def __init__(self, shares, settings, clip):
        self.shares, self.settings = shares, settings
        self.bound = clip

    def work(self, who, state, round):
        model = make_model()
        model.load_state_dict(state)
        model.train()
        steps = torch.optim.SGD(model.parameters(), self.settings["lr"])
        x, y = self.shares[who]
        for _ in range(self.settings["epochs"]):
            for batch in torch.randperm(len(x)).split(self.settings["batch"]):
                steps.zero_grad()
                objective(model(x[batch]), y[batch]).backward()
                steps.step()
        delta = {key: value - state[key] for key, value in model.state_dict().items()}
        return self.clipped(delta), len(x)

    def clipped(self, delta):
        norm = torch.sqrt(sum(change.pow(2).sum() for change in delta.values()))
        scale = min(1.0, self.bound / float(norm))
        return {key: change * scale for key, change in delta.items()}
