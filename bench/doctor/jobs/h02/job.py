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
    parts, test = data.load(seed)
    trainer = client.Trainer(parts, **said["local"])
    boss = server.Server(said["clients"], said["cohort"], test, seed)
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
        init=boss.init,
        sample=boss.sample,
        fit=trainer.fit,
        aggregate=boss.aggregate,
        evaluate=boss.evaluate,
        model=client.network,
        loss=client.loss,
        train_data=lambda number: parts[number],
        test_data=lambda: test,
        log=log.read_text() if log.exists() else None,
    )
