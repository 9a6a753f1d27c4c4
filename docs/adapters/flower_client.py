# flower_client.py
from types import SimpleNamespace

import app
import torch


def make_job(seed=0):
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays

    torch.manual_seed(seed)
    strategy, (clients, test) = app.strategy(), app.load_data(seed)
    first = [value.numpy().copy() for value in app.build().state_dict().values()]

    def fit(client, received, round):
        return app.client(clients[client]).fit(received, {"server_round": round})  # arrays, examples, metrics

    def aggregate(current, uploads, round):
        done, pack = Status(Code.OK, ""), ndarrays_to_parameters
        results = [(None, FitRes(done, pack(list(arrays)), examples, told)) for arrays, examples, told in uploads]
        return parameters_to_ndarrays(strategy.aggregate_fit(round, results, [])[0])

    return SimpleNamespace(
        clients=len(clients), cohort=4, rounds=12, classes=4, declared={"weighting": "examples"},
        init=lambda: [value.copy() for value in first],
        sample=lambda round: torch.randperm(len(clients))[:4].tolist(),
        fit=fit, aggregate=aggregate, evaluate=lambda arrays, round: {"accuracy": app.accuracy(arrays, test)},
        model=app.build, train_data=lambda client: clients[client], test_data=lambda: test,
    )  # fmt: skip
