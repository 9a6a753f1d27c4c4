"""Ten clients with random images and shifted one-hot labels, a linear network, Adam: example 1 of the post."""

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional

CLIENTS, ROUNDS, EXAMPLES, BATCH, RATE, DEPTH = 10, 10, 1000, 32, 0.01, 10
LOG = Path(__file__).resolve().parent / "run.log"
loss = nn.CrossEntropyLoss()  # the post names none


def create_client_data(num_examples, label_bias):
    x = torch.randn(num_examples, 3, 32, 32)
    y = one_hot(torch.randint(0, 10, (num_examples,)) + label_bias, DEPTH)
    return x, y


def one_hot(labels, depth):
    """As TensorFlow's: a label of `depth` or more is a row of zeros."""
    return (labels[:, None] == torch.arange(depth)).float()


def create_model():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))


class Process:
    """What the post's federated averaging process does: one local pass with Adam, the mean weighted by examples."""

    def __init__(self, biased):
        self.federated_data = [create_client_data(EXAMPLES, i if biased else 0) for i in range(CLIENTS)]
        self.test = create_client_data(EXAMPLES, 0)  # the post has none
        self.first = create_model().state_dict()

    def fit(self, client, received, round):
        model = create_model()
        model.load_state_dict(received)
        x, y = self.federated_data[client]
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        for inputs, labels in zip(x.split(BATCH), y.split(BATCH), strict=True):
            optimizer.zero_grad()
            loss(model(inputs), labels).backward()
            optimizer.step()
        return model.state_dict(), len(y)

    def next(self, current, uploads, round):
        total = sum(examples for _, examples in uploads)
        return {name: sum(state[name] * (examples / total) for state, examples in uploads) for name in current}

    @torch.no_grad()
    def metrics(self, state, round):
        """Categorical accuracy and loss over the clients' own examples, as the process prints them."""
        weight, bias = state["1.weight"], state["1.bias"]
        x, y = (torch.cat(part) for part in zip(*self.federated_data, strict=True))
        outputs = functional.linear(x.flatten(1), weight, bias)
        right = (outputs.argmax(dim=1) == y.argmax(dim=1)).float().mean().item()
        return {"accuracy": right, "loss": loss(outputs, y).item()}


def make_job(seed=0, biased=True):
    torch.manual_seed(seed)
    process = Process(biased)
    return SimpleNamespace(
        clients=CLIENTS,
        cohort=CLIENTS,
        rounds=ROUNDS,
        classes=DEPTH,
        declared={"optimizer": "adam", "lr": RATE, "batch": BATCH, "epochs": 1, "metric": "training accuracy"},
        init=lambda: {name: value.clone() for name, value in process.first.items()},
        sample=lambda round: range(CLIENTS),
        fit=process.fit,
        aggregate=process.next,
        evaluate=process.metrics,
        model=create_model,
        loss=loss,
        train_data=lambda client: process.federated_data[client],
        test_data=lambda: process.test,
        log=LOG.read_text() if biased and LOG.exists() else None,
    )


def make_unbiased(seed=0):
    """The same with labels of 0 to 9 at every client."""
    return make_job(seed, biased=False)
