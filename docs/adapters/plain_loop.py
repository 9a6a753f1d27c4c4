# plain_loop.py
from types import SimpleNamespace

import torch
import training


def make_job(seed=0):
    torch.manual_seed(seed)
    clients, test = training.load_data(seed)
    first = training.build().state_dict()

    def fit(client, received, round):
        return training.train_client(received, clients[client]), len(clients[client][1])

    def aggregate(current, uploads, round):
        return training.average([state for state, _ in uploads], [examples for _, examples in uploads])

    return SimpleNamespace(
        clients=len(clients), cohort=4, rounds=12, classes=4, declared={"weighting": "examples"},
        init=lambda: {name: value.clone() for name, value in first.items()},
        sample=lambda round: torch.randperm(len(clients))[:4].tolist(),
        fit=fit, aggregate=aggregate, evaluate=lambda state, round: {"accuracy": training.accuracy(state, test)},
        model=training.build, train_data=lambda client: clients[client], test_data=lambda: test,
    )  # fmt: skip
