import numpy as np
import torch
from torch import nn

criterion = nn.CrossEntropyLoss()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.entry = nn.Linear(784, 64)
        self.mid = nn.Linear(64, 64)
        self.inner = nn.Linear(64, 64)
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.entry(x))
        x = torch.relu(self.mid(x))
        x = torch.relu(self.inner(x))
        return self.out(x)


def make_net():
    return Net()


def get_parameters(net):
    return [value.detach().numpy().copy() for value in net.state_dict().values()]


def set_parameters(net, arrays):
    names = list(net.state_dict())
    net.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in zip(names, arrays, strict=True)})


class Client:
    def __init__(self, x, y, config):
        self.x, self.y, self.config = x, y, config
        self.net = make_net()

    def fit(self, parameters):
        self.load(parameters)
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

    def load(self, parameters):
        state = self.net.state_dict()
        keys = sorted(state, key=lambda key: key.split(".")[0])
        for key, array in zip(keys, parameters, strict=True):
            state[key].copy_(torch.from_numpy(array))


class Fleet:
    def __init__(self, dataset, count, config):
        self.members = [Client(*dataset[cid], config) for cid in range(count)]

    def fit(self, cid, parameters, server_round):
        return self.members[cid].fit(parameters)
