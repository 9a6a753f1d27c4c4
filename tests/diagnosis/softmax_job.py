"""Made-up federated jobs: a softmax regression on Gaussian classes, whole, and with one fault each."""

import copy

import torch
from torch import Tensor, nn

CLASSES, WIDTH, EACH = 4, 10, 20


def examples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` examples of four Gaussian classes that a line can tell apart."""
    draw = torch.Generator().manual_seed(seed)
    centres = 1.3 * torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(count) % CLASSES
    return centres[labels] + torch.randn(count, WIDTH, generator=draw), labels


class Softmax:
    """8 clients, 4 a round, one epoch of SGD each; healthy."""

    clients, cohort, rounds, classes = 8, 4, 40, CLASSES
    lr, batch = 0.2, 10

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        inputs, labels = examples(self.clients * EACH, 1000 + seed)
        self.data = [(inputs[part], labels[part]) for part in self.dealt(labels)]
        self.declared = {"weighting": "examples", "payload": "weights", "lr": self.lr, "batch": self.batch, "epochs": 1}

    def dealt(self, labels: Tensor) -> list[Tensor]:
        return list(torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed)).chunk(self.clients))

    def model(self) -> nn.Module:
        torch.default_generator.manual_seed(self.seed)
        return nn.Sequential(nn.Linear(WIDTH, CLASSES))

    def init(self) -> dict[str, Tensor]:
        return self.model().state_dict()

    def sample(self, round: int) -> list[int]:
        draw = torch.Generator().manual_seed(100 * self.seed + round)
        return torch.randperm(self.clients, generator=draw)[: self.cohort].tolist()

    def network(self, client: int, received: dict[str, Tensor]) -> nn.Module:
        net = self.model()
        net.load_state_dict(received)
        return net

    def criterion(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, labels)

    def fit(self, client: int, received: dict[str, Tensor], round: int):
        net = self.network(client, received).train()
        optimizer = torch.optim.SGD(net.parameters(), lr=self.lr)
        inputs, labels = self.train_data(client)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1000 * round + client))
        for rows in order.split(self.batch):
            optimizer.zero_grad()
            self.criterion(net(inputs[rows]), labels[rows]).backward()
            optimizer.step()
        return copy.deepcopy(net.state_dict()), len(labels)

    def aggregate(self, current, uploads, round):
        total = sum(n for _, n in uploads)
        return {name: sum(state[name] * n / total for state, n in uploads) for name in current}

    def evaluate(self, state, round):
        net = self.model().eval()
        net.load_state_dict(state)
        inputs, labels = self.test_data()
        return {"accuracy": (net(inputs).argmax(1) == labels).float().mean().item()}

    def train_data(self, client: int):
        return self.data[client]

    def test_data(self):
        return examples(400, 5)


class Skewed(Softmax):
    """One class a client."""

    lr = 0.1

    def dealt(self, labels: Tensor) -> list[Tensor]:
        return list(torch.argsort(labels, stable=True).chunk(self.clients))


class FirstOnly(Skewed):
    """The server takes the first upload, and nothing of the others."""

    lr = 1.0

    def aggregate(self, current, uploads, round):
        return uploads[0][0]


class Slow(Softmax):
    """A local rate that is ten thousand times too low."""

    lr = 1e-5


class Careful(Softmax):
    """The server takes a hundredth of the step."""

    def aggregate(self, current, uploads, round):
        new = super().aggregate(current, uploads, round)
        return {name: current[name] + 0.01 * (new[name] - current[name]) for name in current}


class NeverLoads(Skewed):
    """Each client goes on with a network of its own."""

    lr = 0.2

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.nets = [self.model() for _ in range(self.clients)]

    def network(self, client, received):
        return self.nets[client]


class OneNetwork(NeverLoads):
    """All clients train one network, one after another: better than it should be."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.nets = [self.nets[0]] * self.clients


class SameFour(Skewed):
    """The same clients every round."""

    def sample(self, round):
        return [0, 1, 2, 3]


class Renamed(Softmax):
    """Half of the clients number the classes from another one on."""

    bad = (0, 1, 2, 3)
    back = (3, 0, 1, 2)

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        for client in self.bad:
            inputs, labels = self.data[client]
            self.data[client] = inputs, (labels + 1) % CLASSES


class Twice(Softmax):
    """The loss is given probabilities."""

    lr = 0.1

    def criterion(self, outputs, labels):
        return nn.functional.cross_entropy(outputs.softmax(1), labels)

    loss = criterion


class Answering(Softmax):
    """The network ends in softmax, and the loss takes logits."""

    lr = 0.1

    def model(self) -> nn.Module:
        return nn.Sequential(*super().model(), nn.Softmax(dim=1))

    def loss(self, outputs, labels):
        return nn.functional.cross_entropy(outputs, labels)


class Bounded(Softmax):
    """The server clips the mean update at a hundredth."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.declared["dp"] = {"clip": 0.01, "noise": 0.0}

    def aggregate(self, current, uploads, round):
        new = super().aggregate(current, uploads, round)
        norm = sum(float((new[name] - current[name]).square().sum()) for name in current) ** 0.5
        share = min(1.0, 0.01 / norm)
        return {name: current[name] + share * (new[name] - current[name]) for name in current}


class Sparse(Softmax):
    """Of each update a client sends the largest entry, and forgets the rest."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.declared |= {"payload": "update", "codec": "top-k"}

    def fit(self, client, received, round):
        new, count = super().fit(client, received, round)
        update = {name: new[name] - received[name] for name in received}
        largest = max(float(value.abs().max()) for value in update.values())
        return {name: value * (value.abs() >= largest) for name, value in update.items()}, count

    def aggregate(self, current, uploads, round):
        mean = super().aggregate(current, uploads, round)
        return {name: current[name] + mean[name] for name in current}


class Lying(Softmax):
    """What is reported is no accuracy of the model."""

    def evaluate(self, state, round):
        return {"accuracy": 0.5}


class Batched(Softmax):
    """A network with batch norm, whose statistics the server never updates."""

    def model(self) -> nn.Module:
        torch.default_generator.manual_seed(self.seed)
        net = nn.Sequential(nn.Linear(WIDTH, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))
        nn.init.normal_(net[0].bias, std=5.0)  # far from the statistics that batch norm begins with
        return net

    def aggregate(self, current, uploads, round):
        total = sum(n for _, n in uploads)
        kept = ("running_mean", "running_var", "num_batches_tracked")
        return {
            name: current[name] if name.endswith(kept) else sum(state[name] * n / total for state, n in uploads)
            for name in current
        }
