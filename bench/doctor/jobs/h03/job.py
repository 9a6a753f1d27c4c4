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
    train, test_set = data.get_datasets(said["clients"], seed)
    test = test_set.tensors
    local = client.LocalUpdate(said["local"], train)
    boss = server.Coordinator(test_set, said["clients"], said["cohort"], seed)
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
        init=boss.initial_weights,
        sample=boss.select,
        fit=local.train,
        aggregate=boss.average,
        evaluate=boss.test,
        model=client.build_model,
        loss=client.criterion,
        train_data=lambda number: train[number].tensors,
        test_data=lambda: test,
        log=log.read_text() if log.exists() else None,
    )
