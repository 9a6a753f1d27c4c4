"""Local rounds; a client sends what it changed."""

import torch
from base import cnn
from torch import nn

make_model = cnn
objective = nn.functional.cross_entropy


class Participants:
    def __init__(self, shares, settings, keep):
        self.shares, self.settings, self.keep = shares, settings, keep

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
        return self.sparse(delta), len(x)

    def sparse(self, delta):
        sizes = torch.cat([change.abs().flatten() for change in delta.values()])
        threshold = sizes.topk(max(1, int(self.keep * len(sizes)))).values[-1]
        return {key: change * (change.abs() >= threshold) for key, change in delta.items()}
