"""Handwritten digits at 20 clients."""

import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from base import beside

HERE = Path(__file__).resolve().parent
data, client, server = beside(HERE, "data", "client", "server")


def make_job(seed=0):
    torch.manual_seed(seed)
    said = tomllib.loads((HERE / "job.toml").read_text())
    dataset = data.FederatedMNIST(seed)
    test = dataset.test()
    fleet = client.Fleet(dataset, said["clients"], said["local"])
    boss = server.Strategy(said["clients"], said["cohort"], dataset)
    log = HERE / "run.log"
    return SimpleNamespace(
        clients=said["clients"],
        cohort=said["cohort"],
        rounds=said["rounds"],
        classes=said["classes"],
        declared={
            **said["local"],
            **said["server"],
            **said["report"],
            "partition": said["data"]["partition"],
        },
        init=boss.initialize_parameters,
        sample=boss.configure_fit,
        fit=fleet.fit,
        aggregate=boss.aggregate_fit,
        evaluate=boss.evaluate,
        model=client.make_net,
        loss=client.criterion,
        train_data=dataset.__getitem__,
        test_data=lambda: test,
        log=log.read_text() if log.exists() else None,
    )
