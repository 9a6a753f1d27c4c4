import numpy as np
import torch
from torch import nn

criterion = nn.CrossEntropyLoss()


def make_net():
    return nn.Linear(60, 10)


def get_parameters(net):
    return [value.detach().numpy().copy() for value in net.state_dict().values()]


def set_parameters(net, arrays):
    names = net.state_dict().keys()
    net.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in zip(names, arrays, strict=True)})


class Client:
    def __init__(self, x, y, config):
        self.x, self.y, self.config = x, y, config
        self.net = make_net()

    def fit(self, parameters):
        set_parameters(self.net, parameters)
        self.net.train()
        optimizer = torch.optim.SGD(self.net.parameters(), lr=self.config["lr"])
        for _ in range(self.config["epochs"]):
            order = np.random.permutation(len(self.y))
            for start in range(0, len(order), self.config["batch"]):
                picked = order[start : start + self.config["batch"]]
                optimizer.zero_grad()
                value = criterion(self.net(self.x[picked]), self.y[picked])
                value.backward()
                optimizer.step()
        return get_parameters(self.net), len(self.y), {"loss": value.item()}


class Fleet:
    def __init__(self, dataset, count, config):
        self.members = [Client(*dataset[cid], config) for cid in range(count)]

    def fit(self, cid, parameters, server_round):
        return self.members[cid].fit(parameters)
